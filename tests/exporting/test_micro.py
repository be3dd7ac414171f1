"""The files for micro-controllers: compiled as C, run by the interpreter, refused by layer."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest

from inshape.errors import GraphError
from inshape.exporting.micro import MicroFile, c_string, operators_of
from inshape.runtime.arena import Arena, arena_of
from inshape.runtime.conversion import convert
from inshape.runtime.formats import FORMATS

layers = keras.layers

# What the program calls of TensorFlow Lite for Microcontrollers, as its public headers declare it.
INTERPRETER = """
#include <cstddef>
#include <cstdint>
enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
union TfLitePtrUnion { int8_t* int8; uint8_t* uint8; float* f; };
struct TfLiteTensor { TfLitePtrUnion data; };
namespace tflite {
struct Model;
class MicroOpResolver { public: virtual ~MicroOpResolver(); };
class MicroInterpreter {
 public:
  MicroInterpreter(const Model* model, const MicroOpResolver& op_resolver, uint8_t* tensor_arena,
                   size_t tensor_arena_size);
  TfLiteStatus AllocateTensors();
  TfLiteStatus Invoke();
  TfLiteTensor* input(size_t index);
  TfLiteTensor* output(size_t index);
};
const Model* GetModel(const void* buf);
}
"""
RESOLVER = """
#include "tensorflow/lite/micro/micro_interpreter.h"
namespace tflite {
template <unsigned int tOpCount> class MicroMutableOpResolver : public MicroOpResolver {
 public:
  TfLiteStatus AddConv2D();
  TfLiteStatus AddDepthwiseConv2D();
  TfLiteStatus AddFullyConnected();
  TfLiteStatus AddHardSwish();
  TfLiteStatus AddLogistic();
  TfLiteStatus AddSub();
  TfLiteStatus AddMean();
  TfLiteStatus AddMul();
  TfLiteStatus AddAdd();
  TfLiteStatus AddPad();
  TfLiteStatus AddSoftmax();
  TfLiteStatus AddQuantize();
  TfLiteStatus AddRelu();
};
}
"""
HEADERS = {
    "tensorflow/lite/micro/micro_interpreter.h": f"#pragma once\n{INTERPRETER}",
    "tensorflow/lite/micro/micro_mutable_op_resolver.h": f"#pragma once\n{RESOLVER}",
    "tensorflow/lite/schema/schema_generated.h": "#pragma once\n",
}
CARD = {
    "model": {"backbone": "a"},
    "input": {"shape": "2x3x1", "colour": "grey", "scale": 1.0, "zero_point": -128},
    "output": {"scale": 0.5, "zero_point": 3},
    "labels": ['a "b"', "ü?"],
}


def compiled(compiler, file, *words):
    """Compile a file with every warning an error."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    output = file.with_suffix(".o")
    command = [compiler, "-Wall", "-Wextra", "-Werror", *words, "-c", str(file), "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


def test_the_c_files_compile_and_hold_the_network(exports, tmp_path):
    folder = Path(exports["micro"].path).parent
    for name in ("model_micro.h", "model_micro.c", "model_micro_main.cc"):
        shutil.copy(folder / name, tmp_path)
    compiled("gcc", tmp_path / "model_micro.c", "-std=c99")
    for name, text in HEADERS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    compiled("g++", tmp_path / "model_micro_main.cc", "-std=c++17", f"-I{tmp_path}")


def test_the_bytes_are_those_of_the_file_without_what_is_for_people(exports):
    file = Path(exports["micro"].path)
    source = file.with_name("model_micro.c").read_text()
    array = bytes(int(b, 16) for b in re.findall(r"0x[0-9a-f]{2}", source))
    assert f"model_micro_size = {len(array)};" in source
    assert len(array) < exports["micro"].size_bytes
    runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime")
    needs = int(re.search(r"arena_size = (\d+)", file.with_name("model_micro.h").read_text())[1])
    answers = []
    for content in (array, file.read_bytes()):
        interpreter = runtime.Interpreter.from_bytes(content, arena_size=needs)
        shape = interpreter.get_input_details(0)["shape"]
        picture = np.random.default_rng(1).integers(-128, 128, shape, np.int8)
        interpreter.set_input(picture, 0)
        interpreter.invoke()
        answers.append(interpreter.get_output(0))
    np.testing.assert_array_equal(*answers)


def test_bytes_go_in_and_out_whatever_is_asked_for(exports):
    card = json.loads(Path(exports["micro"].path + ".json").read_text())
    assert (card["input"]["dtype"], card["output"]["dtype"]) == ("int8", "int8")
    assert [FORMATS[name].io_of("uint8") for name in ("micro", "litert-int8", "litert")] == [
        "int8", "uint8", "float32"
    ]  # fmt: skip


def test_labels_are_c_strings_whatever_is_in_them(tmp_path):
    file = MicroFile(b"\x01\x02", "tiny", CARD, Arena(64, 90, 96))
    (tmp_path / "tiny.h").write_text(file.header())
    (tmp_path / "tiny.c").write_text(file.source())
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "tiny.h"\n'
        "int main(void) { for (int i = 0; i < TINY_OUTPUTS; ++i) puts(tiny_labels[i]);\n"
        'printf("%zu %d %d %g %d\\n", tiny_size, tiny_arena_size, tiny_tensor_bytes, '
        "TINY_OUTPUT_SCALE, TINY_INPUT_ZERO_POINT); return 0; }\n"
    )
    objects = [compiled("gcc", tmp_path / name, "-std=c99") for name in ("tiny.c", "main.c")]
    subprocess.run(["gcc", *map(str, objects), "-o", str(tmp_path / "main")], check=True)
    said = subprocess.run([tmp_path / "main"], capture_output=True, check=True).stdout.decode()
    assert said.splitlines() == ['a "b"', "ü?", "2 96 64 0.5 -128"]
    assert c_string("??/") == '"\\077\\077/"'


def test_without_a_measurement_the_header_names_the_tensors():
    text = MicroFile(b"\x01", "model", CARD, Arena(64, None)).header()
    assert "enum { model_tensor_bytes = 64 };" in text
    assert "model_arena_size" not in text
    assert "arena_used_bytes() tells" in text
    assert "depends on the size" in MicroFile(b"\x01", "model", CARD, None).header()


def test_what_no_micro_controller_has_a_kernel_for_is_refused_by_its_layer(tmp_path):
    pytest.importorskip("tflite_micro")
    image = keras.Input((8, 6, 2))
    x = layers.Conv2D(4, 3, name="stem")(image)
    x = layers.Activation("gelu")(x)
    model = keras.Model(image, layers.GlobalAveragePooling2D()(x))
    convert(model, FORMATS["litert"], tmp_path / "a.tflite")
    with pytest.raises(
        GraphError, match=r"micro has no kernel for GELU \(.*/activation.*\); expected"
    ):
        operators_of(tmp_path / "a.tflite", arena_of(tmp_path / "a.tflite"))
    for arena, why in ((None, "its input has no fixed size"), (Arena(1, problem="odd"), "odd")):
        text = f"tflite-micro does not run the file ({why}); expected one that it does"
        with pytest.raises(GraphError, match=re.escape(text)):
            operators_of(tmp_path / "a.tflite", arena)
