"""Folders of pictures beside folders of masks, as segmentation has them."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import DataError
from ..processor import count_cores
from ..requests import File, Request, Written, joined, read_whole
from ..tasks.names import check_class_names, same_name
from ..tasks.segmentation import IGNORED, Segmentation, palette
from ..text import Unread, format_shape, join_some
from .catalogue import Listing
from .contents import PICTURE_FOLDERS, Contents, first_file, lines_on_left_out, without_ending
from .decode import DAMAGE, stored_hw
from .drawing import as_image, as_uri, in_rgb
from .prepare import Preparation, prepare_compact
from .tables import split_of

_MASKS = ("masks", "mask", "labels", "annotations", "annotation", "segmentationclass", "gt")
_BEHIND = ("annot", "_annot", "_masks", "_labels")
"""What stands behind the name of a folder of pictures in that of its masks."""
_NAMES = ("classes.txt", "classes.json", "labels.txt", "names.txt")
_STEM_ENDINGS = ("", "_mask", "_L")
_MODES = ("1", "L", "P")
_LOSSY = ("JPEG", "WEBP")
_MOST_CLASSES = 255
_ODD_MANY = 64
"""Values in unnamed masks from which on they are no class numbers."""
_SIDE = 160


def read_values(value: Any) -> tuple[int, ...]:
    """Read values of masks that are ignored: numbers from 0 to 255, or none.

    Example:
        >>> read_values("11,255"), read_values(11), read_values("none")
        ((11, 255), (11,), ())
    """
    if value in ("none", None):
        return ()
    parts: Any = value.split(",") if isinstance(value, str) else value
    try:
        numbers = tuple(
            read_whole(part) for part in (parts if isinstance(parts, Iterable) else [parts])
        )
    except Unread:
        numbers = (-1,)
    if any(not 0 <= number <= IGNORED for number in numbers):
        raise Unread(value, "numbers from 0 to 255 with commas between, or none")
    return numbers


def _write_values(values: Sequence[int]) -> str:
    return joined(str)(values) or "none"


@dataclass(frozen=True, slots=True)
class MaskOptions(Request):
    """How the files of masks are read."""

    mask_ignore: Annotated[tuple[int, ...], Written(read_values, _write_values, "VALUES")] = (
        IGNORED,
    )
    """Values in masks that are no class, such as 255 or 11,255, or none: their pixels are neither
    learned nor measured."""
    mask_names: File | None = None
    """The names of classes: a text file with one per line, of which the first is value 0, or JSON,
    a list or an object of values and names; by default classes.txt or classes.json in the folder,
    else the values themselves."""


@dataclass(frozen=True, slots=True)
class Mask:
    """A file that says of each pixel of a picture what it is."""

    path: Path
    digest: str
    """A hash of the file."""
    pixels: tuple[int, ...]
    """How many there are of each class."""
    table: bytes
    """The class number of each of the 256 values."""

    def at(self, preparation: Preparation) -> NDArray[np.uint8]:
        """Class numbers where a preparation puts the pixels of the picture, never between two.

        What it fills around a picture is ignored.

        Raises:
            DataError: if the file is not what it was any more.
        """
        shape = replace(preparation.shape, channels=1)
        nearest = Preparation(
            shape,
            fit=preparation.fit,
            interpolation="nearest",
            colour="bands",
            crop_margin=preparation.crop_margin,
            fill=float(IGNORED),
        )
        content = _content(self.path)
        values = _decode(content)
        if isinstance(values, str) or _hash(content) != self.digest:
            raise DataError(
                f"{self.path} has changed since the masks were listed; expected them to stay as "
                "they are while they are used; restore it and go on, or begin anew"
            )
        numbers = np.frombuffer(self.table, np.uint8)[values]
        return prepare_compact(numbers[..., None], nearest)[..., 0]


@dataclass(frozen=True, slots=True)
class _Pair:
    """A folder of pictures and that of their masks, with slashes behind."""

    split: str
    pictures: str
    masks: str


def find_pairs(contents: Contents) -> list[_Pair]:
    """Which folders hold pictures and which their masks; none if that is not how they are called.

    ``images/`` beside ``masks/``, in each of ``train/``, ``val/`` and ``test/`` or with these
    inside; or ``train/`` beside ``trainannot/``, as CamVid has it.

    Example:
        >>> names = ["a/images/1.jpg", "a/masks/1.png"]
        >>> find_pairs(Contents(pictures=[f"train{name[1:]}" for name in names]))
        [_Pair(split='train', pictures='train/images/', masks='train/masks/')]
    """
    top = _pair_in(contents, "", "")
    if top is not None:
        return _by_split(contents, top)
    flat, filled, _ = contents.below("")
    if flat or not filled:
        return []
    beside = _beside(filled)
    if beside:
        return beside
    pairs = [_pair_in(contents, f"{name}/", split_of(name)) for name in filled if split_of(name)]
    whole = [pair for pair in pairs if pair is not None]
    return whole if len(whole) == len(filled) else []


def _by_split(contents: Contents, top: _Pair) -> list[_Pair]:
    """A pair as it is, or those of the splits inside it."""
    flat, inner, _ = contents.below(top.pictures)
    if inner and not flat and all(map(split_of, inner)):
        return [_Pair(split_of(x), f"{top.pictures}{x}/", f"{top.masks}{x}/") for x in inner]
    return [top]


def _beside(names: Collection[str]) -> list[_Pair]:
    """Splits beside their masks, if all names are of such."""
    splits = [name for name in names if split_of(name)]
    pairs = [(name, name + end) for name in splits for end in _BEHIND if name + end in names]
    if {name for pair in pairs for name in pair} != set(names):
        return []
    return [_Pair(split_of(a), f"{a}/", f"{b}/") for a, b in pairs]


def _pair_in(contents: Contents, prefix: str, split: str) -> _Pair | None:
    flat, filled, _ = contents.below(prefix)
    pictures = [name for name in filled if name.lower() in PICTURE_FOLDERS]
    masks = [name for name in filled if name.lower() in _MASKS]
    if flat or (len(pictures), len(masks), len(filled)) != (1, 1, 2):
        return None
    return _Pair(split, f"{prefix}{pictures[0]}/", f"{prefix}{masks[0]}/")


def without_masks(folder: Path, names: Sequence[str]) -> list[str]:
    """Of the pictures in a folder, those that are no masks beside others."""
    folders = tuple(pair.masks for pair in find_pairs(Contents(pictures=sorted(names))))
    return [name for name in names if not (folders and name.startswith(folders))]


def list_masks(
    folder: Path,
    contents: Contents,
    *,
    task: Segmentation | None = None,
    options: MaskOptions | None = None,
) -> Listing:
    """List the pictures of a folder that have a mask, each of which is read once.

    A picture whose mask has another size, holds a value that is no class, or cannot be read is left
    out and named; what has no counterpart is named too.

    Raises:
        DataError: if no picture has a mask, or the names of classes cannot be read.
    """
    lines = _warnings(folder, contents)
    names, masks, splits = _matched(folder, contents, lines)
    with ThreadPoolExecutor(count_cores()) as pool:
        reads = list(pool.map(_read, map(folder.joinpath, masks)))
    known = [one for one in reads if not one.problem]
    if not known:
        problem = reads[0].problem
        raise DataError(f"{folder}: no mask can be read: {masks[0]} is {problem}; save them anew")
    task = task or _task_of(folder, known, options or MaskOptions())
    table = np.full(IGNORED + 1, IGNORED, np.uint8)
    table[list(task.values)] = np.arange(len(task.values))
    expected = np.zeros(IGNORED + 1, np.bool_)
    expected[[*task.values, *task.ignored]] = True
    classes: list[Mask | None] = []
    problems: dict[str, str] = {}
    for name, mask, one in zip(names, masks, reads, strict=True):
        if problem := _problem(folder / name, mask, one, expected, task):
            problems[name] = problem
            classes.append(None)
            continue
        pixels = tuple(one.counts[list(task.values)].tolist())
        classes.append(Mask(folder / mask, one.digest, pixels, table.tobytes()))
    return Listing(
        names, classes, splits, root=folder, task=task, warnings=lines, problems=problems
    )


def _warnings(folder: Path, contents: Contents) -> list[str]:
    """What is to be said of other files than pictures, the names of classes apart."""
    names = first_file(folder, _NAMES)
    return contents.without(Counter([names.suffix] if names else [])).warnings(folder)


def _matched(
    folder: Path, contents: Contents, lines: list[str]
) -> tuple[list[str], list[str], list[str]]:
    """Pictures with their masks and splits; lines on those that have no counterpart."""
    rows: list[tuple[str, str, str]] = []
    lonely: list[str] = []
    unread: list[str] = []
    for pair in find_pairs(contents):
        by_stem: dict[str, list[str]] = defaultdict(list)
        for stem, mask in _stems(contents, pair.masks):
            by_stem[stem].append(mask)
        for stem, name in _stems(contents, pair.pictures):
            found = [mask for end in _STEM_ENDINGS for mask in by_stem.pop(stem + end, ())]
            if len(found) == 1:
                rows.append((name, found[0], pair.split))
            else:
                lonely.append(name)
        unread += chain(*by_stem.values())
    lines += lines_on_left_out(folder, lonely, "picture without a mask of the same name")
    lines += lines_on_left_out(folder, unread, "mask without a picture of the same name")
    if not rows:
        raise DataError(
            f"{folder}: no picture has a mask of its name; expected images/NAME.jpg beside "
            "masks/NAME.png, in train/ and val/ or not; rename the files"
        )
    names, masks, splits = map(list, zip(*rows, strict=True))
    return names, masks, splits


def _stems(contents: Contents, prefix: str) -> list[tuple[str, str]]:
    """The pictures in a folder, each behind its name without folder and ending."""
    names = [name for name in contents.pictures if name.startswith(prefix)]
    return [(without_ending(name.removeprefix(prefix)), name) for name in names]


@dataclass(frozen=True, slots=True)
class _Values:
    """What a mask holds."""

    hw: tuple[int, int] = (0, 0)
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(IGNORED + 1, np.int64))
    """Pixels of each of the 256 values."""
    digest: str = ""
    problem: str = ""
    """Why it is no mask."""


def _read(path: Path) -> _Values:
    """What a mask holds, or why it is none."""
    content = _content(path)
    values = _decode(content)
    if isinstance(values, str):
        return _Values(problem=values)
    counts = np.bincount(values.ravel(), minlength=IGNORED + 1)
    height, width = values.shape
    return _Values((height, width), counts, _hash(content))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _decode(content: bytes) -> NDArray[np.uint8] | str:
    """The values of a mask, or why it is none."""
    if not content:
        return "empty, or cannot be opened"
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.format in _LOSSY:
                return f"{image.format}, which changes values; expected PNG"
            if image.mode not in _MODES:
                return f"of mode {image.mode}; expected a class number per pixel, grey or a palette"
            values = np.asarray(image)
            return values.astype(np.uint8) if values.dtype == np.bool_ else values
    except (*DAMAGE, Image.DecompressionBombError):
        return "damaged, or no picture"


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _problem(
    picture: Path, mask: str, one: _Values, expected: NDArray[np.bool_], task: Segmentation
) -> str:
    """Why a picture cannot be used with its mask; empty if it can."""
    if one.problem:
        return f"its mask {mask} is {one.problem}"
    strange = np.flatnonzero((one.counts > 0) & ~expected)
    if len(strange):
        ignored = ", ".join(map(str, task.ignored)) or "none"
        return (
            f"its mask {mask} holds {join_some(list(map(str, strange)))}; expected "
            f"{_ranges(task.values)}, or what is ignored ({ignored})"
        )
    hw = stored_hw(picture)
    if hw is None or hw == one.hw:
        return ""
    return f"its mask {mask} is {format_shape(one.hw)}, and the picture {format_shape(hw)}"


def _ranges(values: Sequence[int]) -> str:
    if list(values) == list(range(len(values))):
        return f"0 to {len(values) - 1}"
    return join_some([str(value) for value in values])


def _task_of(folder: Path, reads: Sequence[_Values], options: MaskOptions) -> Segmentation:
    """The classes by their names, or by the values that occur."""
    path, ignored = options.mask_names or first_file(folder, _NAMES), options.mask_ignore
    named = _values_in(folder, reads, ignored) if path is None else _names_in(path)
    by_value = {value: name for value, name in named.items() if value not in ignored}
    check_class_names(by_value.values())
    return Segmentation(tuple(map(same_name, by_value.values())), tuple(by_value), tuple(ignored))


def _values_in(folder: Path, reads: Sequence[_Values], ignored: Sequence[int]) -> dict[int, str]:
    """The values that occur, as names of classes."""
    there = np.flatnonzero(np.sum([one.counts for one in reads], axis=0)).tolist()
    values = [value for value in there if value not in ignored]
    if len(values) > _ODD_MANY:
        raise DataError(
            f"{folder}: masks with {len(values)} different values; expected class numbers, at "
            f"most {_ODD_MANY} of them where none has a name; save the masks without "
            "smoothing, or name the classes in classes.txt"
        )
    if len(values) < Segmentation.fewest:
        raise DataError(
            f"{folder}: masks with {join_some(list(map(str, there))) or 'no values'}, of which "
            f"{join_some(list(map(str, ignored))) or 'none'} is ignored; expected two "
            "classes or more; where an ignored value is a class, say mask_ignore='none'"
        )
    return {value: str(value) for value in values}


def _names_in(path: Path) -> dict[int, str]:
    """The names of classes by the values of masks.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     file = Path(place, "classes.json")
        ...     _ = file.write_text('{"sky": 0, "road": 4}')
        ...     _names_in(file)
        {0: 'sky', 4: 'road'}
    """
    try:
        text = path.read_text(encoding="utf-8")
        listed: Any = json.loads(text) if path.suffix.lower() == ".json" else text.splitlines()
    except (OSError, ValueError) as problem:
        raise DataError(
            f"{path}: {' '.join(str(problem).split())}; expected the names of classes, one per "
            "line, or JSON; correct it"
        ) from None
    by_value = {value: name for value, name in _pairs_in(path, listed) if name}
    double = len(set(by_value.values())) < len(by_value)
    if len(by_value) < Segmentation.fewest or double:
        raise DataError(
            f"{path}: {join_some(list(by_value.values())) or 'no names'}; expected two names or "
            "more, each once; correct it"
        )
    return dict(sorted(by_value.items()))


def _pairs_in(path: Path, listed: Any) -> Iterator[tuple[int, str]]:
    """Values with names, from a list or an object of either."""
    pairs: list[tuple[Any, Any]] = list(enumerate(listed)) if isinstance(listed, list) else []
    if isinstance(listed, Mapping):
        pairs = [(v, n) if isinstance(v, int) else (n, v) for n, v in listed.items()]
    for value, name in pairs:
        try:
            number = read_whole(value)
        except Unread:
            number = -1
        if not isinstance(name, str) or not 0 <= number <= _MOST_CLASSES:
            raise DataError(
                f"{path}: {value!r}: {name!r}; expected a value from 0 to 255 and a name; "
                "correct the file"
            )
        yield number, name.strip()


def in_colours(mask: NDArray[np.uint8]) -> Image.Image:
    """A mask as a picture whose values are class numbers and whose palette gives them colours."""
    drawn = Image.fromarray(mask)
    drawn.putpalette(palette(IGNORED + 1))
    return drawn


def in_text(mask: NDArray[np.uint8]) -> str:
    """A mask in its colours as text that a page shows, with its longer side cut to 160 pixels."""
    step = -(-max(mask.shape) // _SIDE)
    return as_uri(in_colours(np.ascontiguousarray(mask[::step, ::step])), "png", optimize=True)


def lay_over(picture: NDArray[Any], mask: NDArray[np.uint8]) -> Image.Image:
    """A picture of any channels with the colours of a mask of its size over it."""
    bands = in_rgb(picture)
    colours = np.asarray(palette(IGNORED + 1), np.float32).reshape(-1, 3)[mask]
    blended = np.where(mask[..., None] == IGNORED, bands, (bands + colours) / 2)
    return as_image(blended)
