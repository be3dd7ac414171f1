"""What a reader is, how its inputs are damaged, and what it may answer."""

from __future__ import annotations

import json
import os
import signal
import time
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias
from zipfile import ZipFile

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inshape.errors import InshapeError

Edit: TypeAlias = tuple[int, int]
"""Where a file is damaged and how, each modulo the number of choices."""
Damage: TypeAlias = Callable[[bytes, Edit], bytes]

INPUTS = 2000
TIMES = int(os.environ.get("INSHAPE_FUZZ", "0"))
"""How many times as many inputs are tried, others in every run; the same ones where it is 0."""
_AT_ONCE = 20  # Hypothesis takes longer to begin an example than to draw an input
_EDITS = st.lists(
    st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)), min_size=1, max_size=2
)
_BATCHES = st.lists(_EDITS | st.binary(max_size=48), min_size=_AT_ONCE, max_size=_AT_ONCE)
_SECONDS = 5  # of the processor's time, for one input
_MEMORY_BYTES = 2**30
_LONGEST = 1000  # characters of a line, beside the folder's name


@dataclass(frozen=True, slots=True)
class Reader:
    """A function that reads what others wrote."""

    name: str
    read: Callable[[bytes, Path], Any]
    """Reads a content, in an empty folder where it needs files, and does with it all that is done
    before anything is computed."""
    whole: Callable[[], bytes]
    """A content without fault, which is damaged."""
    damage: Damage
    inputs: int = INPUTS


def of_file(name: str, read: Callable[[Path], Any]) -> Callable[[bytes, Path], Any]:
    """Reads a content as a file of that name."""

    def read_content(content: bytes, folder: Path) -> Any:
        (folder / name).write_bytes(content)
        return read(folder / name)

    return read_content


def fuzz(reader: Reader, folder: Path) -> None:
    """Fail on the first input that is neither read nor refused in one line."""
    whole = reader.whole()
    # What is damaged must be right before.
    assert answer_of(reader, whole, folder) == ("", "")

    @settings(
        max_examples=reader.inputs // _AT_ONCE * max(TIMES, 1),
        derandomize=not TIMES,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(_BATCHES)
    def search(batch: Sequence[Sequence[Edit] | bytes]) -> None:
        with bounded():
            for drawn in batch:
                content = drawn if isinstance(drawn, bytes) else _damaged(reader, whole, drawn)
                answer, fault = answer_of(reader, content, folder)
                assert not fault, f"{fault}: {answer}: {content[:500]!r}"

    search()


def _damaged(reader: Reader, content: bytes, edits: Sequence[Edit]) -> bytes:
    for edit in edits:
        # A second edit may meet what the first has made unreadable.
        with suppress(Exception):
            content = reader.damage(content, edit)
    return content


def answer_of(reader: Reader, content: bytes, folder: Path) -> tuple[str, str]:
    """What a reader said of a content, and what is wrong with that."""
    begun = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", UserWarning)  # which inshape says things with
        try:
            reader.read(content, folder)
            answer, fault = "", ""
        except InshapeError as error:
            answer, fault = str(error).replace(str(folder), ""), ""
            if len(answer) > _LONGEST or len(answer.splitlines()) != 1:
                fault = "not one short line"
        except Exception as error:
            answer, fault = f"{type(error).__name__}: {error}", "not an error of inshape's own"
    if time.process_time() - begun > _SECONDS:
        fault = "it took too long"
    return answer, fault


class _Hung(BaseException):
    """Which nobody who catches exceptions catches."""


@contextmanager
def bounded() -> Generator[None]:
    """Limit the memory and the time of what is read inside; only where the system can do so."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        before = resource.getrlimit(resource.RLIMIT_AS)
    except (ImportError, OSError):
        yield
        return

    def stop(*_: Any) -> None:
        raise _Hung(f"an input took more than {_SECONDS} s")

    handler = signal.signal(signal.SIGPROF, stop)
    most = pages * resource.getpagesize() + _MEMORY_BYTES
    try:
        resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
        signal.setitimer(signal.ITIMER_PROF, _SECONDS * _AT_ONCE)
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def damage_bytes(content: bytes, edit: Edit) -> bytes:
    """Turn over, cut, lengthen or overwrite a piece of a content."""
    place, how = edit
    at = place % (len(content) + 1)
    length = 1 + how // 64 % 16
    start, end, rest = content[:at], content[at : at + length], content[at + length :]
    odd = (b"", bytes(length), b"\xff" * length, b"\0\0\0\x80", b"\xff\xff\xff\x7f", b"9" * length)
    match how % 12:
        case 0 | 1 | 2:
            return start + bytes(byte ^ 1 << how // 64 % 8 for byte in end[:1]) + content[at + 1 :]
        case 3:
            return start
        case 4:
            return start + end * 2 + rest
        case 5:
            return start + rest + end
        case kind:
            return start + odd[kind - 6] + rest


_RAW = ("NaN", "-Infinity", "1e999", "9" * 5000, "[" * 3000 + "]" * 3000)
_ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2.5, 1e300, 10**30, 10**400, "", "?", "a", "x" * 300, "a\nb\0c",
    "\ud800", "nan", "1e999", "9" * 400, "²", "99999999x99999999x3", "../..", [], {}, [[]], [None],
    [1, 2], ["a", "a"], {"a": 1}, {"": None}, *(f"<{number}>" for number in range(len(_RAW))),
)  # fmt: skip
"""What may stand in the place of any value; in angle brackets, what JSON cannot say."""


def damage_json(content: bytes, edit: Edit) -> bytes:
    """Replace, drop or add a value of a JSON text, or damage the text itself."""
    place, how = edit
    if how % 16 == 0:
        return damage_bytes(content, (place, how // 16))
    top = {"": json.loads(content)}
    slots = list(_slots(top))
    parent, key = slots[place % len(slots)]
    odd = _ODD[how // 16 % len(_ODD)]
    if how % 16 == 1:
        del parent[key]
    elif how % 16 == 2 and isinstance(parent, list):
        parent.append(parent[key])
    elif how % 16 == 2:
        parent[str(odd)] = parent[key]
    else:
        parent[key] = odd
    text = json.dumps(top.get(""))
    for number, raw in enumerate(_RAW):
        text = text.replace(f'"<{number}>"', raw)
    return text.encode()


def _slots(value: Any) -> Generator[tuple[Any, Any]]:
    """Every place that a value can stand in."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], dict | list):
            yield from _slots(value[key])


_WORDS = (
    "", " ", "?", "0", "-1", "1.5", "nan", "inf", "1e999", "9" * 5000, "99999999", "²", "٣", "\0",
    "a" * 260, '"', ",", "\n", "\r", "x", "×", "\ud800", "\ufeff", "../..", "/", "true", "=1+1",
)  # fmt: skip


def damage_text(content: bytes, edit: Edit) -> bytes:
    """Put an odd word in a text, or damage its bytes."""
    place, how = edit
    if how % 4 == 0:
        return damage_bytes(content, (place, how // 4))
    at = place % (len(content) + 1)
    end = at + (0 if how % 4 == 1 else how // 128 % 8)
    word = _WORDS[how // 4 % len(_WORDS)].encode("utf-8", "surrogatepass")
    return content[:at] + word + content[end:]


def damage_archive(content: bytes, edit: Edit) -> bytes:
    """Damage what is in a ZIP archive, which then packs it as well as any other, or the whole."""
    place, how = edit
    if how % 3 == 0:
        return damage_bytes(content, (place, how // 3))
    with ZipFile(BytesIO(content)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    names = list(parts)
    name = names[how // 3 % len(names)]
    inner = (place, how // 3 // len(names))
    if how % 3 == 1 and name.endswith(".json"):
        parts[name] = damage_json(parts[name], inner)
    elif how % 48 == 2:
        parts[f"{name}a"] = parts.pop(name)
    else:
        parts[name] = damage_bytes(parts[name], inner)
    packed = BytesIO()
    with ZipFile(packed, "w") as archive:
        for part, part_content in parts.items():
            archive.writestr(part, part_content)
    return packed.getvalue()
