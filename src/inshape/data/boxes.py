"""Boxes beside pictures: Pascal VOC's XML, COCO's JSON and YOLO's text files."""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw

from ..errors import DataError
from ..processor import count_cores
from ..shapes import InputShape
from ..tasks.detection import Detection
from ..tasks.names import check_class_names, in_order, same_name
from ..tasks.task import Box
from ..text import first_line, join_some, plural
from .catalogue import Listing
from .contents import Contents, ending_of
from .decode import stored_shape
from .prepare import Preparation, placement, target_hw
from .tables import split_of

_PICTURES = ("images", "image", "imgs", "img", "pictures", "photos", "jpegimages", "frames")
_FILES = ("annotations", "annotation", "labels", "label", "xml", "xmls", "bboxes")
_MASKS = ("segmentationclass", "segmentationobject")
_NAMES = ("classes.txt", "obj.names", "names.txt", "predefined_classes.txt")
_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_NO_LABELS = frozenset((*_NAMES, "readme.txt", "train.txt", "val.txt", "test.txt", "notes.txt"))
_NAMED = 5
_LARGEST_XML, _LARGEST_JSON = 2**22, 2**29
_DEEPEST = 16
_SLACK_PX = 1.5
"""By which boxes reach beyond a picture that are meant to end with it."""
_LEAST_PX = 0.5
_SIDE = 320
_FAR = 1e9

_Key: TypeAlias = tuple[tuple[str, ...], str]
"""The folders of a file, without those that all pictures or all labels are in, and its stem."""
_Raw: TypeAlias = tuple[str, tuple[float, ...]]
"""A class and top, left, bottom and right."""


@dataclass(frozen=True, slots=True)
class TruthBoxes:
    """The boxes of a picture, in its own pixels."""

    numbers: tuple[int, ...]
    """The class of each."""
    edges: tuple[tuple[float, ...], ...]
    """Top, left, bottom and right."""
    picture_hw: tuple[int, int]

    @property
    def digest(self) -> str:
        """A hash of what they are."""
        text = json.dumps([self.numbers, self.edges, self.picture_hw])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def rows(self, preparation: Preparation) -> NDArray[np.float32]:
        """Where a preparation puts them: edges as shares of the input, and class numbers.

        What is cut off with the picture is left out.

        Example:
            >>> boxes = TruthBoxes((2,), ((0, 60, 50, 100),), (50, 100))
            >>> boxes.rows(Preparation.of("100x100x3", fit="letterbox")).round(2).tolist()
            [[0.25, 0.6000000238418579, 0.75, 1.0, 2.0]]
        """
        scales, starts = placement(preparation, self.picture_hw)
        goal = np.tile(target_hw(preparation, self.picture_hw), 2)
        edges = np.reshape(self.edges, (-1, 4)) * np.tile(scales, 2) + np.tile(starts, 2)
        edges = np.clip(edges, 0, goal)
        is_left = (edges[:, 2:] - edges[:, :2] >= _LEAST_PX).all(axis=1)
        rows = np.column_stack([edges / goal, np.asarray(self.numbers, np.float64)])
        return rows[is_left].astype(np.float32)


def to_picture(
    boxes: Iterable[Box], preparation: Preparation, picture_hw: tuple[int, int]
) -> tuple[Box, ...]:
    """Boxes as shares of an input, in pixels of the picture that it was made of."""
    scales, starts = (np.tile(n, 2) for n in placement(preparation, picture_hw))
    goal = np.tile(target_hw(preparation, picture_hw), 2)

    def moved(box: Box) -> tuple[float, ...]:
        edges = (np.asarray(box.edges) * goal - starts) / scales
        return tuple(np.clip(edges, 0, np.tile(picture_hw, 2)).round(2).tolist())

    return tuple(replace(box, edges=moved(box)) for box in boxes)


def draw_boxes(
    picture: NDArray[Any], boxes: Iterable[Box], names: Sequence[str], *, has_words: bool = True
) -> Image.Image:
    """A picture of any channels with boxes, in its pixels, each in the colour of its class."""
    bands = picture[..., :3] if picture.shape[-1] >= 3 else picture[..., :1].repeat(3, axis=-1)
    drawn = Image.fromarray(np.clip(np.rint(bands), 0, 255).astype(np.uint8))
    pen, width = ImageDraw.Draw(drawn), max(1, round(max(drawn.size) / 240))
    for box in boxes:
        # Steps of a golden angle, by which neighbours in a list look least alike.
        hue = 120 + round(137.5 * names.index(box.label))
        colour = ImageColor.getrgb(f"hsl({hue % 360}, 100%, 45%)")
        top, left, bottom, right = box.edges
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), None, colour, width)
        if has_words:
            sure = "" if box.probability is None else f" {box.probability:.2f}"
            place, words = (left + width + 1, top + width), f"{box.label}{sure}"
            pen.rectangle(pen.textbbox(place, words), fill="white")
            pen.text(place, words, fill="black")
    return drawn


def boxes_in_text(picture: NDArray[Any], boxes: Iterable[Box], names: Sequence[str]) -> str:
    """Boxes as shares on a prepared picture, as text that a page shows, at most 320 pixels wide."""
    height, width = picture.shape[:2]
    step = max(1.0, max(height, width) / _SIDE)
    size_wh = round(width / step), round(height / step)
    small = draw_boxes(picture, (), names).resize(size_wh)
    shape = InputShape(small.height, small.width, 3)
    placed = to_picture(boxes, Preparation(shape), (small.height, small.width))
    file = io.BytesIO()
    draw_boxes(np.asarray(small), placed, names, has_words=False).save(file, "jpeg", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


@dataclass(slots=True)
class _Annotation:
    """What a file says of a picture."""

    boxes: list[_Raw] = field(default_factory=list[_Raw])
    is_share: bool = False
    """Whether edges are shares of the picture, rather than pixels."""
    hw: tuple[int, int] | None = None
    """The size of the picture, where that is said."""
    problem: str = ""


@dataclass(slots=True)
class _Found:
    """What the files of a folder say, before any picture is looked at."""

    by_picture: dict[str, _Annotation]
    splits: dict[str, str]
    names: list[str] = field(default_factory=list[str])
    """The classes, where a file lists them; else those that occur."""
    lines: list[str] = field(default_factory=list[str])
    files: Counter[str] = field(default_factory=Counter[str])
    """Those that were read, by ending."""

    @property
    def with_boxes(self) -> int:
        """How many pictures have some."""
        return sum(bool(one.boxes) for one in self.by_picture.values())


def list_boxes(
    folder: Path, contents: Contents, *, task: Detection | None = None, is_asked: bool = True
) -> Listing | None:
    """List the pictures of a folder that have boxes; ``None`` if there are no files of boxes.

    Where boxes are not what is asked for, most pictures have to have some. Boxes outside their
    picture, without an area or of an unknown class are left out and counted; pictures without boxes
    are kept as background.

    Raises:
        DataError: if no picture has a box, or a list of classes cannot be read.
    """
    found = next(filter(None, (read(folder, contents) for read in _READERS)), None)
    if found is None:
        return None
    if not is_asked and 2 * found.with_boxes < len(contents.pictures):
        return None
    names = sorted(found.by_picture)
    with ThreadPoolExecutor(count_cores()) as pool:
        sizes = list(pool.map(_size_of, [folder / name for name in names]))
    if task is None:
        task = _task_of(folder, found)
    sorter = _Sorter(folder, task.names)
    truths: list[Any] = []
    problems: dict[str, str] = {}
    for name, size_hw in zip(names, sizes, strict=True):
        annotation = found.by_picture[name]
        problem = annotation.problem
        if size_hw is not None and annotation.hw not in (None, size_hw):
            height, width = annotation.hw or (0, 0)
            problem = (
                f"its boxes are of a picture of {height}x{width}, and it is "
                f"{size_hw[0]}x{size_hw[1]}"
            )
        if problem:
            problems[name] = problem
        usable = size_hw is not None and not problem  # preparing says what is wrong with others
        truths.append(sorter.sort(name, annotation, size_hw) if usable and size_hw else None)
    others = contents.others - found.files
    lines = replace(contents, others=others).warnings(folder)
    return Listing(
        names,
        truths,
        [found.splits.get(name, "") for name in names],
        root=folder,
        task=task,
        warnings=[*lines, *found.lines, *sorter.lines()],
        problems=problems,
    )


def _size_of(path: Path) -> tuple[int, int] | None:
    try:
        height, width, _ = stored_shape(path)
    except DataError:
        return None
    return height, width


def _task_of(folder: Path, found: _Found) -> Detection:
    """The classes that occur, in the order of the list of them if there is one."""
    there = {same_name(box[0]) for one in found.by_picture.values() for box in one.boxes}
    if not there:
        raise DataError(f"{folder}: no picture has a box; expected some; check the files of boxes")
    listed = list(dict.fromkeys(map(same_name, found.names)))
    names = [name for name in listed if name in there] or in_order(there)
    unseen = [name for name in listed if name not in there]
    if listed and unseen:
        found.lines.append(f"{folder}: no boxes of {join_some(list(map(repr, unseen)), _NAMED)}")
    check_class_names(names)
    return Detection(tuple(names))


_WHY = {
    "outside": "{} outside {}, left out",
    "empty": "{} without an area, left out",
    "unknown": "{} of a class that is not known, left out",
    "cut": "{} beyond the edge of {}, cut there",
}
"""What is said of boxes that cannot be used as they are: how many, and of which pictures."""


class _Sorter:
    """Sorts boxes into those that can be used and those that are counted."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder = folder
        self._numbers = {name: number for number, name in enumerate(names)}
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._background: list[str] = []

    def sort(self, name: str, annotation: _Annotation, hw: tuple[int, int]) -> TruthBoxes:
        """The boxes of a picture that lie in it, in its pixels."""
        numbers: list[int] = []
        edges: list[tuple[float, ...]] = []
        size = (*hw, *hw)
        for label, raw in annotation.boxes:
            box = [n * s for n, s in zip(raw, size, strict=True)] if annotation.is_share else raw
            number = self._numbers.get(same_name(label))
            reason, inside = _inside(box, size)
            if number is None:
                reason = "unknown"
            if reason:
                self._counts[reason][name if number is not None else repr(label)] += 1
            if number is not None and inside is not None:
                numbers.append(number)
                edges.append(inside)
        if not numbers:
            self._background.append(name)
        return TruthBoxes(tuple(numbers), tuple(edges), hw)

    def lines(self) -> list[str]:
        """One on each kind of box that was left out or cut, and one on background."""
        lines: list[str] = []
        for reason, words in _WHY.items():
            counts = self._counts[reason]
            if counts:
                boxes = plural(counts.total(), "box", "boxes")
                what = words.format(
                    boxes, "its picture" if counts.total() == 1 else "their picture"
                )
                lines.append(f"{self._folder}: {what}: {join_some(list(counts), _NAMED)}")
        if self._background:
            count = plural(len(self._background), "picture")
            named = join_some(self._background, _NAMED)
            lines.append(f"{self._folder}: {count} without boxes, kept as background: {named}")
        return lines


def _inside(
    box: Sequence[float], size: Sequence[float]
) -> tuple[str, tuple[float, float, float, float] | None]:
    """What is wrong with a box, if anything, and the part of it that is in a picture."""
    top, left, bottom, right = box
    if not all(map(math.isfinite, box)) or bottom <= top or right <= left:
        return "empty", None
    cut = max(0.0, top), max(0.0, left), min(bottom, size[0]), min(right, size[1])
    if cut[2] - cut[0] <= 0 or cut[3] - cut[1] <= 0:
        return "outside", None
    is_far = any(abs(a - b) > _SLACK_PX for a, b in zip(box, cut, strict=True))
    return "cut" if is_far else "", cut


def _files_in(folder: Path, contents: Contents, endings: Sequence[str]) -> list[str]:
    """The files of some endings, by names relative to the folder."""
    if not any(contents.others[ending] for ending in endings):
        return []
    return sorted(
        f"{inner}/{path.name}".removeprefix("/")
        for inner in ("", *contents.folders)
        for path in (folder / inner).iterdir()
        if ending_of(path.name) in endings and not path.name.startswith(".") and path.is_file()
    )


def _key(name: str, *, without: Sequence[str]) -> _Key:
    *folders, last = name.split("/")
    kept = tuple(one for one in folders if one.lower() not in without)
    return kept, last.rpartition(".")[0] or last


def _split_in(name: str) -> str:
    """The split that a folder on the way to a file is called after."""
    return next(filter(None, map(split_of, name.split("/")[:-1])), "")


def _paired(
    folder: Path,
    contents: Contents,
    files: Sequence[str],
    read: Callable[[Path], _Annotation],
    *,
    keeps_others: bool,
) -> _Found:
    """Pictures with the file of the same name beside them, or in a folder beside theirs."""
    keys = {_key(name, without=_FILES): name for name in files}
    used: set[str] = set()
    pairs: dict[str, str] = {}
    others: list[str] = []
    for name in contents.pictures:
        if any(one.lower() in _MASKS for one in name.split("/")[:-1]):
            continue
        file = keys.get(_key(name, without=_PICTURES))
        if file is None:
            others.append(name)
        else:
            pairs[name] = file
            used.add(file)
    with ThreadPoolExecutor(count_cores()) as pool:
        reads = pool.map(read, [folder / file for file in pairs.values()])
        by_picture = dict(zip(pairs, reads, strict=True))
    lines: list[str] = []
    if keeps_others:
        by_picture |= {name: _Annotation() for name in others}
    elif others:
        lines.append(
            f"{folder}: {plural(len(others), 'picture')} without a file of boxes, left out: "
            f"{join_some(others, _NAMED)}"
        )
    lost = [name for name in files if name not in used]
    if lost:
        lines.append(
            f"{folder}: {plural(len(lost), 'file')} of boxes without a picture, left out: "
            f"{join_some(lost, _NAMED)}"
        )
    splits = {name: _split_in(name) for name in by_picture}
    return _Found(by_picture, splits, lines=lines, files=Counter(map(ending_of, files)))


def _is_beside(contents: Contents, files: Sequence[str]) -> bool:
    """Whether files of boxes lie in a folder of their own, or among pictures without classes."""
    has_folder = any(part.lower() in _FILES for name in files for part in name.split("/")[:-1])
    _, filled, _ = contents.below("")
    return has_folder or all(map(split_of, filled))


def _from_voc(folder: Path, contents: Contents) -> _Found | None:
    files = _files_in(folder, contents, (".xml",))
    if not files or not _is_beside(contents, files):
        return None
    found = _paired(folder, contents, files, _read_xml, keeps_others=False)
    by_key: dict[_Key, str] = {}
    for inner in contents.folders:
        *above, sets, main = ("", *inner.split("/"))
        if (sets, main) == ("ImageSets", "Main"):
            by_key |= _read_sets(folder / inner, tuple(filter(None, above)))
    if by_key:
        found.files[".txt"] = contents.others[".txt"]
        listed = {name: by_key.get(_key(name, without=_PICTURES), "") for name in found.by_picture}
        unlisted = [name for name, split in listed.items() if not split]
        if unlisted:
            found.lines.append(
                f"{folder}: {plural(len(unlisted), 'picture')} in none of the lists in "
                f"ImageSets/Main, left out: {join_some(unlisted, _NAMED)}"
            )
        found.by_picture = {n: a for n, a in found.by_picture.items() if listed[n]}
        found.splits = listed
    return found


def _read_sets(folder: Path, above: tuple[str, ...]) -> dict[_Key, str]:
    """The splits that lists of names stand for; the list of two of them says nothing."""
    by_key: dict[_Key, str] = {}
    for path in sorted(folder.glob("*.txt")):
        split = split_of(path.stem)
        for line in _text_of(path).splitlines() if split else ():
            if words := line.split():
                stem = words[0].rpartition("/")[2]
                by_key[(above, re.sub(r"\.(jpe?g|png)$", "", stem, flags=re.I))] = split
    return by_key


class _Refused(Exception):
    """What an XML file has that no list of boxes needs."""


def _read_xml(path: Path) -> _Annotation:
    """The boxes in a file of Pascal VOC's, whose pixels are counted from 1.

    Declarations of a document's type, by which entities come in, are refused.
    """
    content = _content_of(path, _LARGEST_XML)
    if isinstance(content, str):
        return _Annotation(problem=f"its file {path.name} is {content}")
    above: list[str] = []
    words: list[str] = []
    values: dict[str, str] = {}
    objects: list[dict[str, str]] = []

    def refuse(*_: Any) -> None:
        raise _Refused("of a declared type of document")

    def start(tag: str, _: Any) -> None:
        above.append(tag)
        words.clear()
        if len(above) > _DEEPEST:
            raise _Refused(f"nested more than {_DEEPEST} deep")
        if above[1:] == ["object"]:
            objects.append({})

    def end(_: str) -> None:
        key = "/".join(above[1:])
        place = objects[-1] if key.startswith("object/") else values
        place[key.removeprefix("object/")] = "".join(words).strip()
        words.clear()
        above.pop()

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = words.append
    try:
        parser.Parse(content, True)
        boxes = [_of_object(values) for values in objects]
    except (expat.ExpatError, _Refused, ValueError, LookupError) as problem:
        reason = f"no list of boxes ({problem})" if isinstance(problem, ValueError) else problem
        reason = f"without {problem}" if isinstance(problem, LookupError) else reason
        return _Annotation(problem=f"its file {path.name} is {reason}")
    try:
        hw = int(float(values["size/height"])), int(float(values["size/width"]))
    except (KeyError, ValueError, OverflowError):
        hw = (0, 0)
    return _Annotation(boxes, hw=hw if all(hw) else None)


def _of_object(values: Mapping[str, str]) -> _Raw:
    top, left, bottom, right = (
        float(values[f"bndbox/{name}"]) for name in ("ymin", "xmin", "ymax", "xmax")
    )
    return values["name"], (top - 1, left - 1, bottom, right)


def _from_yolo(folder: Path, contents: Contents) -> _Found | None:
    files = [
        name
        for name in _files_in(folder, contents, (".txt",))
        if name.rpartition("/")[2].lower() not in _NO_LABELS
    ]
    is_named = any((folder / name).is_file() for name in (*_NAMES, *_YAML))
    in_labels = [name for name in files if {"labels", "label"} & set(name.lower().split("/"))]
    if not (in_labels or is_named) or not _is_beside(contents, files) or not files:
        return None
    names = _class_names(folder)
    found = _paired(
        folder, contents, in_labels or files, lambda path: _read_lines(path, names),
        keeps_others=True,
    )  # fmt: skip
    found.names = names
    found.files = Counter(
        {
            ending: contents.others[ending]
            for ending in (".txt", ".yaml", ".yml", ".names", ".cache")
        }
    )
    return found


def _read_lines(path: Path, names: Sequence[str]) -> _Annotation:
    """The boxes in a file of YOLO's: class number, centre and size as shares of the picture."""
    content = _content_of(path, _LARGEST_XML)
    if isinstance(content, str):
        return _Annotation(problem=f"its file {path.name} is {content}")
    result = _Annotation(is_share=True)
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        if not (words := line.split()):
            continue
        try:
            index, (x, y, width, height) = int(words[0]), map(float, words[1:])
        except ValueError:
            result.problem = (
                f"its file {path.name} holds {line[:40]!r} in line {number}; expected a class "
                "number, and x, y, width and height as shares of the picture"
            )
            return result
        name = names[index] if 0 <= index < len(names) else str(index)
        edges = y - height / 2, x - width / 2, y + height / 2, x + width / 2
        result.boxes.append((name, edges))
    return result


def _class_names(folder: Path) -> list[str]:
    """The names of YOLO's classes, from the first file that lists them; none without one."""
    for name in _NAMES:
        if (folder / name).is_file():
            return [line.strip() for line in _text_of(folder / name).splitlines() if line.strip()]
    for name in _YAML:
        if (folder / name).is_file():
            return _names_in_yaml(folder / name)
    return []


def _names_in_yaml(path: Path) -> list[str]:
    r"""The value of ``names`` in a YAML file: a list or a mapping of numbers, in a row or in lines.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     file = Path(place, "data.yaml")
        ...     for text in ("names: ['a', b]", "nc: 2\nnames:\n  0: a\n  1: 'b c'\nval: x"):
        ...         _ = file.write_text(text)
        ...         print(_names_in_yaml(file))
        ['a', 'b']
        ['a', 'b c']
    """
    lines = [line.split(" #")[0].rstrip() for line in _text_of(path).splitlines()]
    start = next((i for i, line in enumerate(lines) if line.startswith("names:")), None)
    parts: list[str] = []
    if start is not None:
        first = lines[start].removeprefix("names:").strip()
        inner = [first]
        for line in lines[start + 1 :]:
            if line and not line[0].isspace() and line[0] not in "-]}":
                break
            inner.append(line.strip())
        flat = [one for one in inner if one]
        joined = " ".join(flat)
        parts = joined.strip("[]{} ").split(",") if joined[:1] in ("[", "{") else flat
    names = [_plain(re.sub(r"^\s*(-|\d+\s*:)\s*", "", part)) for part in parts if part.strip()]
    if not names or not all(names):
        raise DataError(
            f"{path}: no list of names in it; expected names: [first, second]; write the names "
            "into classes.txt, one per line"
        )
    return names


def _plain(word: str) -> str:
    """A word without the quotes around it."""
    word = word.strip()
    if word[:1] in ("'", '"'):
        try:
            return str(ast.literal_eval(word))
        except (ValueError, SyntaxError):
            return ""
    return word


def _from_coco(folder: Path, contents: Contents) -> _Found | None:
    names = _files_in(folder, contents, (".json",))
    places = [n for n in names if n.count("/") <= 1 and (folder / n).stat().st_size]
    preferred = [
        n for n in places if n.rpartition("/")[2].startswith(("instances", "_annotations"))
    ]
    is_list = bool(preferred)
    read = {n: _read_coco(folder / n, is_list=is_list) for n in preferred or places}
    lists = {name: one for name, one in read.items() if one is not None}
    if not lists:
        return None
    found = _Found({}, {}, files=Counter({".json": len(lists)}))
    by_last: dict[str, list[str]] = defaultdict(list)
    for name in contents.pictures:
        by_last[name.rpartition("/")[2]].append(name)
    lost: list[str] = []
    crowds, strays = 0, 0
    for place, listed in lists.items():
        word = re.sub(r"\d+$", "", place.rpartition("/")[2].removesuffix(".json")).split("_")[-1]
        split = split_of(word) or _split_in(place)
        categories = {one["id"]: str(one["name"]) for one in listed["categories"]}
        found.names += categories.values()
        by_id: dict[Any, _Annotation] = {}
        for image in listed["images"]:
            name = _find(by_last, str(image["file_name"]), place, split)
            if name is None:
                lost.append(str(image["file_name"]))
                continue
            hw = image.get("height"), image.get("width")
            one = _Annotation(hw=hw if all(isinstance(n, int) and n > 0 for n in hw) else None)
            by_id[image["id"]] = found.by_picture[name] = one
            found.splits[name] = split or _split_in(name)
        for annotation in listed["annotations"]:
            one = by_id.get(annotation["image_id"])
            crowds += bool(annotation.get("iscrowd"))
            strays += one is None
            if one is None or annotation.get("iscrowd"):
                continue
            left, top, width, height = map(float, annotation["bbox"])
            label = categories.get(annotation["category_id"], str(annotation["category_id"]))
            one.boxes.append((label, (top, left, top + height, left + width)))
    others = [name for name in contents.pictures if name not in found.by_picture]
    for count, what, which in (
        (len(others), "picture that no JSON lists|pictures that no JSON lists", others),
        (len(lost), "picture that is not there|pictures that are not there", lost),
        (strays, "box without a picture|boxes without a picture", []),
        (crowds, "box around a crowd|boxes around crowds", []),
    ):
        if count:
            named = f": {join_some(which, _NAMED)}" if which else ""
            found.lines.append(f"{folder}: {plural(count, *what.split('|'))}, left out{named}")
    return found


def _find(
    by_last: Mapping[str, Sequence[str]], file_name: str, place: str, split: str
) -> str | None:
    """The picture that a list means: the one of that name, or of several the one nearest to it."""
    among = [
        n
        for n in by_last.get(file_name.rpartition("/")[2], ())
        if f"/{n}".endswith(f"/{file_name}")
    ]
    beside = place.rpartition("/")[0]
    near = [name for name in among if name.rpartition("/")[0] == beside]
    of_split = [name for name in among if split and _split_in(name) == split]
    return next((names[0] for names in (near, of_split, among) if len(names) == 1), None)


def _read_coco(path: Path, *, is_list: bool) -> dict[str, Any] | None:
    """A list of COCO's; ``None`` if a JSON file is something else, which one called so is not.

    Raises:
        DataError: if it is one that is damaged.
    """
    content, listed = _content_of(path, _LARGEST_JSON), None
    problem = content if isinstance(content, str) else ""
    try:
        listed = json.loads(content)
    except (ValueError, RecursionError) as error:
        problem = problem or f"damaged ({first_line(error)})"
    parts = "images", "annotations", "categories"
    if not isinstance(listed, dict) or not all(isinstance(listed.get(p), list) for p in parts):
        if is_list:
            raise DataError(
                f"{path} is {problem or 'no list of boxes'}; expected COCO's JSON, with images, "
                "annotations and categories; restore or remove it"
            )
        return None
    needed = (("id", "file_name"), ("image_id", "category_id", "bbox"), ("id", "name"))
    for part, keys in zip(parts, needed, strict=True):
        for number, one in enumerate(listed[part]):
            if not isinstance(one, dict) or not all(_is_fit(key, one.get(key)) for key in keys):
                raise DataError(
                    f"{path}: {part}[{number}] is {str(one)[:60]}; expected {', '.join(keys)}; "
                    "correct the file"
                )
    return listed


def _is_fit(key: str, value: Any) -> bool:
    """Whether a value can be what a list of COCO's has under a key."""
    if key != "bbox":
        return isinstance(value, int | str)
    is_list = isinstance(value, list) and len(value) == 4
    return is_list and all(isinstance(n, int | float) and abs(n) < _FAR for n in value)


def _content_of(path: Path, most: int) -> bytes | str:
    """A file of a certain size at most, or what it is instead."""
    try:
        if path.stat().st_size > most:
            return f"larger than {most // 2**20} MiB"
        return path.read_bytes()
    except OSError:
        return "not to be opened"


def _text_of(path: Path) -> str:
    content = _content_of(path, _LARGEST_XML)
    return "" if isinstance(content, str) else content.decode("utf-8", "replace")


_READERS = (_from_voc, _from_coco, _from_yolo)
