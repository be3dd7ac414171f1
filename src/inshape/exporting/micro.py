"""A LiteRT file as C for micro-controllers: a header, the bytes, and a program that uses them.

For TensorFlow Lite for Microcontrollers; the program calls its public interface alone
(``micro_interpreter.h``, ``micro_mutable_op_resolver.h``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import GraphError
from ..runtime.arena import Arena
from ..runtime.litert import LiteRTModel

_METHODS = {"BATCH_MATMUL": "BatchMatMul"}
_IN_A_ROW = 16
_MEASURED = """\
/* Bytes of the smallest arena with which the interpreter ran this file, with its reference kernels
   on a 64-bit machine; optimised kernels may need scratch memory besides. */"""
_UNMEASURED = """\
/* What the tensors take at most at one moment. The arena must hold the interpreter's own records
   besides; arena_used_bytes() tells, and so does exporting with the package tflite-micro. */"""


@dataclass(frozen=True, slots=True)
class MicroFile:
    """What the C files of a full-integer LiteRT file say."""

    content: bytes
    """The file, without what was put into it for people: labels and card."""
    name: str
    """In C; a word."""
    card: dict[str, Any]
    """See `inshape.exporting.sidecar.make_card`; bytes with ``scale`` and ``zero_point``."""
    arena: Arena | None

    def header(self) -> str:
        """Declarations: the arena's size, the input's and output's numbers, the labels."""
        height, width, channels = self.card["input"]["shape"].split("x")
        upper = self.name.upper()
        lines = [
            f"/* {self.card['model']['backbone']} for TensorFlow Lite for Microcontrollers. */",
            f"#ifndef {upper}_H",
            f"#define {upper}_H",
            "",
            "#include <stddef.h>",
            "",
            *self._arena_lines(),
            "",
            f"/* Pictures, row by row: {self.card['input']['colour']} values from 0 to 255. */",
            f"#define {upper}_HEIGHT {height}",
            f"#define {upper}_WIDTH {width}",
            f"#define {upper}_CHANNELS {channels}",
            *self._scales(),
            f"#define {upper}_OUTPUTS {len(self.card['labels'])}",
            "",
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            f"extern const unsigned char {self.name}[];",
            f"extern const size_t {self.name}_size;",
            f"extern const char *const {self.name}_labels[];",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "",
            f"#endif /* {upper}_H */",
        ]
        return "\n".join(lines) + "\n"

    def source(self) -> str:
        """The bytes, 16 of them aligned as the interpreter reads them, and the labels."""
        rows = (
            " ".join(f"0x{byte:02x}," for byte in self.content[i : i + _IN_A_ROW])
            for i in range(0, len(self.content), _IN_A_ROW)
        )
        return "\n".join(
            [
                f'#include "{self.name}.h"',
                "",
                "#if defined(__GNUC__) || defined(__clang__)",
                "#define ALIGNED __attribute__((aligned(16)))",
                "#else",
                "#define ALIGNED",
                "#endif",
                "",
                f"const size_t {self.name}_size = {len(self.content)};",
                f"const char *const {self.name}_labels[] = {{",
                *(f"    {c_string(label)}," for label in self.card["labels"]),
                "};",
                f"const unsigned char {self.name}[] ALIGNED = {{",
                *(f"    {row}" for row in rows),
                "};",
                "",
            ]
        )

    def program(self, operators: Sequence[str]) -> str:
        """A C++ program that asks the network about a picture, with the operators it registers."""
        name, upper = self.name, self.name.upper()
        return f"""\
// Shows how {name}.h is used: build it with {name}.c and TensorFlow Lite for Microcontrollers.
#include <cmath>
#include <cstdint>
#include <cstdio>

#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"

#include "{name}.h"

namespace {{

alignas(16) uint8_t arena[{name}_arena_size];

int8_t ToInt8(float value, float scale, int zero_point) {{
  const float rounded = std::round(value / scale) + zero_point;
  return static_cast<int8_t>(rounded < -128 ? -128 : rounded > 127 ? 127 : rounded);
}}

// Put your camera's value here, from 0 to 255.
uint8_t Pixel(int row, int column, int channel) {{
  (void)row, (void)column, (void)channel;
  return 0;
}}

}}  // namespace

int main() {{
  const tflite::Model* model = tflite::GetModel({name});
  static tflite::MicroMutableOpResolver<{len(operators)}> resolver;
{_lines(f"  resolver.Add{_method(operator)}();" for operator in operators)}
  static tflite::MicroInterpreter interpreter(model, resolver, arena, sizeof(arena));
  if (interpreter.AllocateTensors() != kTfLiteOk) return 1;

  int8_t* pixels = interpreter.input(0)->data.int8;
  for (int row = 0; row < {upper}_HEIGHT; ++row)
    for (int column = 0; column < {upper}_WIDTH; ++column)
      for (int channel = 0; channel < {upper}_CHANNELS; ++channel)
        *pixels++ = ToInt8(Pixel(row, column, channel), {upper}_INPUT_SCALE,
                           {upper}_INPUT_ZERO_POINT);
  if (interpreter.Invoke() != kTfLiteOk) return 1;

  const int8_t* answer = interpreter.output(0)->data.int8;
  for (int i = 0; i < {upper}_OUTPUTS; ++i)
    std::printf("%s %f\\n", {name}_labels[i],
                {upper}_OUTPUT_SCALE * (answer[i] - {upper}_OUTPUT_ZERO_POINT));
  return 0;
}}
"""

    def _arena_lines(self) -> list[str]:
        if self.arena is None:
            return ["/* Its arena depends on the size of the picture. */"]
        tensors = f"{self.name}_tensor_bytes = {self.arena.tensor_bytes}"
        if self.arena.least_bytes is None:
            return [_UNMEASURED, f"enum {{ {tensors} }};"]
        arena = f"{self.name}_arena_size = {self.arena.least_bytes}"
        return [
            _MEASURED,
            f"enum {{ {arena} }};",
            "/* Of it, the tensors. */",
            f"enum {{ {tensors} }};",
        ]

    def _scales(self) -> list[str]:
        lines: list[str] = []
        for side in ("input", "output"):
            numbers, upper = self.card[side], f"{self.name}_{side}".upper()
            if "scale" in numbers:
                lines += [
                    f"/* A byte q stands for {upper}_SCALE * (q - {upper}_ZERO_POINT). */",
                    f"#define {upper}_SCALE {numbers['scale']!r}f",
                    f"#define {upper}_ZERO_POINT ({numbers['zero_point']})",
                ]
        return lines


def c_name(path: Path) -> str:
    """What a file is called in C.

    Example:
        >>> c_name(Path("a/model-int8.tflite"))
        'model_int8'
    """
    return path.stem.replace("-", "_")


def c_file(path: Path, ending: str) -> Path:
    """A C file beside a file."""
    return path.with_name(f"{c_name(path)}{ending}")


def operators_of(path: Path, arena: Arena | None) -> tuple[str, ...]:
    """The operators of a file that a micro-controller runs, once each, in their order.

    Raises:
        GraphError: if the installed tflite-micro did not run it; a layer without a kernel is named.
    """
    model = LiteRTModel(path, reference_kernels=True)
    if arena is None or arena.problem:
        raise _refusal(model, arena)
    return tuple(dict.fromkeys(step.name for step in model.operators))


def _refusal(model: LiteRTModel, arena: Arena | None) -> GraphError:
    if arena is None or not arena.missing:
        why = "its input has no fixed size" if arena is None else arena.problem
        return GraphError(
            f"tflite-micro does not run the file ({why}); expected one that it does; instead, "
            "export litert-int8"
        )
    outputs = [step.outputs[0] for step in model.operators if step.name == arena.missing]
    layer = model.name_of(outputs[0]).partition(";")[0]
    return GraphError(
        f"micro has no kernel for {arena.missing} ({layer}); expected operators of TensorFlow Lite "
        "for Microcontrollers; replace the layer, or export litert-int8"
    )


def c_string(text: str) -> str:
    r"""A C string of UTF-8 bytes.

    Example:
        >>> print(c_string('a "b"\\ ü?'))
        "a \"b\"\\ \303\274\077"
    """
    # A question mark could begin a trigraph, and an octal number always has three digits here.
    plain = {**{i: chr(i) for i in range(32, 127)}, ord('"'): '\\"', ord("\\"): "\\\\"}
    plain.pop(ord("?"))
    return '"' + "".join(plain.get(byte, f"\\{byte:03o}") for byte in text.encode()) + '"'


def _method(operator: str) -> str:
    """What adds an operator to a resolver.

    Example:
        >>> [_method(name) for name in ("CONV_2D", "HARD_SWISH", "BATCH_MATMUL")]
        ['Conv2D', 'HardSwish', 'BatchMatMul']
    """
    return _METHODS.get(operator) or "".join(word.title() for word in operator.split("_"))


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)
