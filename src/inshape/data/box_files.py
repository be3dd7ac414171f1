"""Files of boxes beside pictures: Pascal VOC's XML, COCO's JSON and YOLO's text files."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias
from xml.parsers import expat

from ..errors import DataError, RequestError
from ..extras import install
from ..processor import count_cores
from ..text import first_line
from .contents import (
    PICTURE_FOLDERS,
    Contents,
    ending_of,
    first_file,
    lines_on_left_out,
    without_ending,
)
from .tables import split_of

_FILES = ("annotations", "annotation", "labels", "label", "xml", "xmls", "bboxes")
_MASKS = ("segmentationclass", "segmentationobject")
_SETS = "ImageSets/Main"
_NAMES = ("classes.txt", "obj.names", "names.txt", "predefined_classes.txt")
_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_YOLO_ENDINGS = (".txt", ".yaml", ".yml", ".names", ".cache")
_NO_LABELS = frozenset((*_NAMES, "readme.txt", "train.txt", "val.txt", "test.txt", "notes.txt"))
_COCO_NAMES = ("instances", "_annotations")
_LARGEST_XML, _LARGEST_JSON, _LARGEST_YAML = 2**22, 2**29, 2**18
_DEEPEST = 16
_FAR = 1e9

_Key: TypeAlias = tuple[tuple[str, ...], str]
"""The folders of a file, without those that all pictures or all labels are in, and its stem."""
_Raw: TypeAlias = tuple[str, tuple[float, ...]]
"""A class and top, left, bottom and right."""


@dataclass(slots=True)
class Annotation:
    """What a file says of a picture."""

    boxes: list[_Raw] = field(default_factory=list[_Raw])
    is_share: bool = False
    """Whether edges are shares of the picture, rather than pixels."""
    hw: tuple[int, int] | None = None
    """The size of the picture, where that is said."""
    problem: str = ""


@dataclass
class FoundBoxes:
    """What the files of a folder say, before any picture is looked at."""

    by_picture: dict[str, Annotation]
    splits: dict[str, str] = field(default_factory=dict[str, str])
    names: list[str] = field(default_factory=list[str])
    """The classes, where a file lists them; else those that occur."""
    lines: list[str] = field(default_factory=list[str])
    files: Counter[str] = field(default_factory=Counter[str])
    """Those that were read, by ending."""

    def leave_out(
        self, folder: Path, names: Sequence[str], one: str, many: str | None = None
    ) -> None:
        """Say what is left out, if anything is."""
        self.lines += lines_on_left_out(folder, names, one, many)

    @property
    def with_boxes(self) -> int:
        """How many pictures have some."""
        return sum(bool(one.boxes) for one in self.by_picture.values())


def read_box_files(folder: Path, contents: Contents) -> FoundBoxes | None:
    """What the files of boxes in a folder say, of the first kind of which there are some.

    Raises:
        DataError: if a list of boxes or of classes is damaged.
    """
    readers = (_from_voc, _from_coco, _from_yolo)
    return next(filter(None, (read(folder, contents) for read in readers)), None)


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
    return kept, without_ending(last)


def _split_in(name: str) -> str:
    """The split that a folder on the way to a file is called after."""
    return next(filter(None, map(_split_word, name.split("/")[:-1])), "")


def _split_word(word: str) -> str:
    """The split that a word stands for, also with a year behind it.

    Example:
        >>> _split_word("instances_val2017"), _split_word("cats")
        ('validation', '')
    """
    return split_of(re.sub(r"\d{4}$", "", word.rpartition("_")[2])) or split_of(word)


def _paired(
    folder: Path,
    contents: Contents,
    files: Sequence[str],
    read: Callable[[Path], Annotation],
    *,
    keeps_others: bool,
) -> FoundBoxes:
    """Pictures with the file of the same name beside them, or in a folder beside theirs."""
    matches = _matches(contents, files)
    pairs = {name: file for name, file in matches.items() if file is not None}
    others = [name for name, file in matches.items() if file is None]
    with ThreadPoolExecutor(count_cores()) as pool:
        reads = pool.map(read, map(folder.joinpath, pairs.values()))
        by_picture = dict(zip(pairs, reads, strict=True))
    found = FoundBoxes(by_picture, files=Counter(map(ending_of, files)))
    if keeps_others:
        by_picture |= {name: Annotation() for name in others}
    else:
        found.leave_out(folder, others, "picture without a file of boxes")
    unused = sorted(set(files) - set(pairs.values()))
    found.leave_out(folder, unused, "file of boxes without a picture")
    found.splits = {name: _split_in(name) for name in by_picture}
    return found


def _matches(contents: Contents, files: Sequence[str]) -> dict[str, str | None]:
    """The file that is called as each picture is, if there is one; of masks none is looked for."""
    keys = {_key(name, without=_FILES): name for name in files}
    pictures = [name for name in contents.pictures if not _is_in(name, _MASKS)]
    return {name: keys.get(_key(name, without=PICTURE_FOLDERS)) for name in pictures}


def _is_in(name: str, folders: Sequence[str]) -> bool:
    return any(part.lower() in folders for part in name.split("/")[:-1])


def _is_beside(contents: Contents, files: Sequence[str]) -> bool:
    """Whether files of boxes, if any, lie in a folder of theirs, or among unsorted pictures."""
    _, filled, _ = contents.below("")
    has_folder = any(_is_in(name, _FILES) for name in files)
    return has_folder or (bool(files) and all(map(split_of, filled)))


def _from_voc(folder: Path, contents: Contents) -> FoundBoxes | None:
    files = _files_in(folder, contents, (".xml",))
    if not _is_beside(contents, files):
        return None
    found = _paired(folder, contents, files, _read_xml, keeps_others=False)
    by_key: dict[_Key, str] = {}
    for inner in contents.folders:
        if f"/{inner}".endswith(f"/{_SETS}"):
            above = inner.removesuffix(_SETS).split("/")
            by_key |= _read_sets(folder / inner, tuple(filter(None, above)))
    if by_key:
        found.files[".txt"] = contents.others[".txt"]
        listed = {
            name: by_key.get(_key(name, without=PICTURE_FOLDERS), "") for name in found.by_picture
        }
        unlisted = [name for name, split in listed.items() if not split]
        found.leave_out(folder, unlisted, f"picture in none of the lists in {_SETS}")
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


def _read_xml(path: Path) -> Annotation:
    """The boxes in a file of Pascal VOC's, whose pixels are counted from 1.

    Declarations of a document's type, by which entities come in, are refused.
    """
    content = _content_of(path, _LARGEST_XML)
    if isinstance(content, str):
        return Annotation(problem=f"its file {path.name} is {content}")
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
        return Annotation(problem=f"its file {path.name} is {reason}")
    try:
        hw = int(float(values["size/height"])), int(float(values["size/width"]))
    except (KeyError, ValueError, OverflowError):
        hw = (0, 0)
    return Annotation(boxes, hw=hw if all(hw) else None)


def _of_object(values: Mapping[str, str]) -> _Raw:
    top, left, bottom, right = (
        float(values[f"bndbox/{name}"]) for name in ("ymin", "xmin", "ymax", "xmax")
    )
    return values["name"], (top - 1, left - 1, bottom, right)


def _from_yolo(folder: Path, contents: Contents) -> FoundBoxes | None:
    files = [
        name
        for name in _files_in(folder, contents, (".txt",))
        if name.rpartition("/")[2].lower() not in _NO_LABELS
    ]
    in_labels = [name for name in files if _is_in(name, ("labels", "label"))]
    is_named = first_file(folder, (*_NAMES, *_YAML)) is not None
    if not (in_labels or is_named) or not _is_beside(contents, files):
        return None
    names = _class_names(folder)
    read = partial(_read_lines, names=names)
    found = _paired(folder, contents, in_labels or files, read, keeps_others=True)
    found.names = list(names.values())
    found.files = Counter({ending: contents.others[ending] for ending in _YOLO_ENDINGS})
    return found


def _read_lines(path: Path, *, names: Mapping[int, str]) -> Annotation:
    """The boxes in a file of YOLO's: class number, centre and size as shares of the picture."""
    content = _content_of(path, _LARGEST_XML)
    if isinstance(content, str):
        return Annotation(problem=f"its file {path.name} is {content}")
    result = Annotation(is_share=True)
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
        edges = y - height / 2, x - width / 2, y + height / 2, x + width / 2
        result.boxes.append((names.get(index, str(index)), edges))
    return result


def _class_names(folder: Path) -> dict[int, str]:
    """The names of YOLO's classes, from the first file that lists them; none without one."""
    if listed := first_file(folder, _NAMES):
        lines = map(str.strip, _text_of(listed).splitlines())
        return dict(enumerate(filter(None, lines)))
    yaml = first_file(folder, _YAML)
    return _names_in_yaml(yaml) if yaml else {}


def _names_in_yaml(path: Path) -> dict[int, str]:
    r"""The value of ``names`` in a YAML file: a list, or a mapping of numbers.

    Raises:
        DataError: if there are no names in it.
        RequestError: without PyYAML.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     file = Path(place, "data.yaml")
        ...     for text in ("names: ['a', no]", "nc: 2\nnames:\n  0: a\n  3: 'b c'\nval: x"):
        ...         _ = file.write_text(text)
        ...         print(_names_in_yaml(file))
        {0: 'a', 1: 'no'}
        {0: 'a', 3: 'b c'}
    """
    try:
        import yaml
    except ImportError:
        raise RequestError(
            f"{path} is read by PyYAML, which is not installed; expected the extra detection; "
            f"{install('detection')}, or write the names into classes.txt, one per line"
        ) from None
    try:
        # Every word stays the text that it is, and nothing in the file is built or run.
        content: Any = yaml.load(_text_of(path, _LARGEST_YAML), yaml.BaseLoader)
        listed = content["names"]
        is_list = isinstance(listed, list)
        pairs = enumerate(listed) if is_list else listed.items()
        names = {int(number): name for number, name in pairs}
    except (yaml.YAMLError, RecursionError, AttributeError, LookupError, TypeError, ValueError):
        names = {}
    if not names or not all(isinstance(name, str) and name for name in names.values()):
        raise DataError(
            f"{path}: no list of names in it; expected names: [first, second]; write the names "
            "into classes.txt, one per line"
        )
    return names


def _from_coco(folder: Path, contents: Contents) -> FoundBoxes | None:
    names = [n for n in _files_in(folder, contents, (".json",)) if n.count("/") <= 1]
    preferred = [n for n in names if n.rpartition("/")[2].startswith(_COCO_NAMES)]
    found = _Coco(contents)
    for name in preferred or names:
        listed = _read_coco(folder / name, is_list=bool(preferred))
        if listed is not None:
            found.add(name, listed)
    if not found.files:
        return None
    others = sorted(set(contents.pictures) - found.by_picture.keys())
    found.leave_out(folder, others, "picture that no JSON lists", "pictures that no JSON lists")
    lost = "picture that is not there", "pictures that are not there"
    found.leave_out(folder, found.lost, *lost)
    found.leave_out(folder, found.strays, "box without a picture", "boxes without a picture")
    found.leave_out(folder, found.crowds, "box around a crowd", "boxes around crowds")
    return found


class _Coco(FoundBoxes):
    """What lists of COCO's say, one after the other."""

    def __init__(self, contents: Contents) -> None:
        super().__init__({})
        self.lost: list[str] = []
        self.strays: list[str] = []
        self.crowds: list[str] = []
        self._by_last: dict[str, list[str]] = defaultdict(list)
        for name in contents.pictures:
            self._by_last[name.rpartition("/")[2]].append(name)

    def add(self, place: str, listed: Mapping[str, Any]) -> None:
        """Take in a list that lies at a place."""
        self.files[".json"] += 1
        file = place.rpartition("/")[2].removesuffix(".json")
        split = _split_word(file) or _split_in(place)
        labels = {one["id"]: str(one["name"]) for one in listed["categories"]}
        self.names += labels.values()
        by_id: dict[Any, Annotation] = {}
        for image in listed["images"]:
            name = _find(self._by_last, str(image["file_name"]), place, split)
            if name is None:
                self.lost.append(str(image["file_name"]))
                continue
            by_id[image["id"]] = self.by_picture[name] = Annotation(hw=_size_in(image))
            self.splits[name] = split or _split_in(name)
        for box in listed["annotations"]:
            self._put(by_id.get(box["image_id"]), box, labels)

    def _put(
        self, annotation: Annotation | None, box: Mapping[str, Any], labels: Mapping[Any, str]
    ) -> None:
        number = f"number {box.get('id', '?')}"
        if box.get("iscrowd"):
            self.crowds.append(number)
        elif annotation is None:
            self.strays.append(number)
        else:
            left, top, width, height = map(float, box["bbox"])
            label = labels.get(box["category_id"], str(box["category_id"]))
            annotation.boxes.append((label, (top, left, top + height, left + width)))


def _size_in(image: Mapping[str, Any]) -> tuple[int, int] | None:
    height: Any = image.get("height")
    width: Any = image.get("width")
    is_known = isinstance(height, int) and isinstance(width, int) and min(height, width) > 0
    return (height, width) if is_known else None


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
        _check_entries(f"{path}: {part}", listed[part], keys)
    return listed


def _check_entries(name: str, entries: Sequence[Any], keys: Sequence[str]) -> None:
    for number, one in enumerate(entries):
        if not isinstance(one, dict) or not all(_is_fit(key, one.get(key)) for key in keys):
            raise DataError(
                f"{name}[{number}] is {str(one)[:60]}; expected {', '.join(keys)}; correct the file"
            )


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


def _text_of(path: Path, most: int = _LARGEST_XML) -> str:
    content = _content_of(path, most)
    return "" if isinstance(content, str) else content.decode("utf-8", "replace")
