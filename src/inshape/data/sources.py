"""What a user calls data: folders, tables, arrays and datasets, each to a `Catalogue`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from ..errors import DataError
from ..progress import Advance
from ..requests import Written, read_location, write_source
from ..tasks.detection import Detection
from ..tasks.find import TaskName
from ..tasks.names import same_name
from ..tasks.segmentation import Segmentation
from ..tasks.task import Task
from .arrays import list_arrays, list_dataset, list_npy, list_npz
from .boxes import list_boxes
from .catalogue import Catalogue, Listing, read_catalogue
from .contents import is_picture, kind_of, look_into, printable
from .decode import HEIC_SUFFIXES
from .folders import Labels, list_folder
from .masks import MaskOptions, find_pairs, list_masks, without_masks
from .tables import TABLE_SUFFIXES, list_table

Source: TypeAlias = Any
"""What `open_source` takes: see its table."""


_KINDS = (
    "a folder with one subfolder per class, a .csv, .tsv or .parquet table, .npy or .npz arrays, "
    "(pictures, labels) or a tf.data.Dataset"
)


def check_source(source: Source) -> None:
    """Refuse the path of a source that is not there, or whose name is no text.

    Raises:
        DataError: if there is nothing at the path, or it is not UTF-8.
    """
    if not isinstance(source, str | Path):
        return
    try:
        str(source).encode()
    except UnicodeEncodeError:
        raise DataError(
            f"{printable(str(source))}: a path that is not UTF-8, which no record can hold; "
            "expected one that is; rename the folder or file"
        ) from None
    # Path.exists raises for a name that is too long, or no name at all.
    if not os.path.exists(source):
        raise DataError(f"{source}: no such file or folder; expected {_KINDS}; check the path")


SourceField = Annotated[Any, Written(read_location, write_source, "PICTURES", check=check_source)]
"""A source as an option of a request."""


def open_source(
    source: Source,
    *,
    task: Task | TaskName = "auto",
    labels: Labels = "required",
    masks: MaskOptions | None = None,
    progress: Advance | None = None,
) -> Catalogue:
    """List the pictures of a source, with their classes and splits.

    ============================== ==============================================================
    a folder                       one subfolder per class, which may hold further folders
    a folder of splits             ``train/`` (or ``training/``) with ``val/`` (or ``validation/``,
                                   ``valid/``) and ``test/``, in upper or lower case, each with one
                                   subfolder per class
    pictures beside masks          ``images/`` and ``masks/``, in each split or with splits inside,
                                   or ``train/`` and ``trainannot/``: PNG of class numbers, grey
                                   or with a palette, called as their pictures are
    pictures with boxes            Pascal VOC's XML in ``Annotations/`` beside ``JPEGImages/``, with
                                   the lists in ``ImageSets/Main``; COCO's JSON; YOLO's text files
                                   in ``labels/`` beside ``images/``, with ``data.yaml`` or
                                   ``classes.txt``; in each split or not
    ``.csv``, ``.tsv``             columns path, label and, if wanted, split; paths are relative to
    ``.parquet``                   the table (Parquet needs the extra ``inshape[parquet]``)
    ``.npz``                       ``x`` and ``y``, or ``x_train``, ``y_train``, ``x_val``, ...
    ``.npy``                       pictures, with the labels beside: ``x.npy`` and ``y.npy``, or
                                   ``images.npy`` and ``labels.npy``; it is mapped, not loaded;
                                   (pictures, height, width[, channels])
    ``(x, y)``                     arrays; ``x`` is (pictures, height, width[, channels])
    a ``tf.data.Dataset``          of (picture, label), batched or not, read into memory once
    ============================== ==============================================================

    Pictures are what Pillow, tifffile and NumPy read, by their endings or, without one, by their
    first bytes. Hidden files are ignored; other files and what cannot be read are left out, which
    a warning says. Links are followed. Every picture is read once, for the content hashes by which
    identical pictures are known.

    What a label is follows from the labels: a class, tags (``a|b`` in a table, rows of 0 and 1), or
    a number with a fraction; the name of a ``task`` says it where it does not, such as for whole
    numbers that are no classes. ``masks`` says how the files of masks are read.

    A `Catalogue` is returned as it is. With the task of a model that exists, one class alone is
    enough, and a class that it does not have is an error. Where ``labels`` are
    ``"optional"``, a flat folder and a single file will do too. Where they are ``"none"``, no class
    and no split is looked for, and every picture that cannot be used is left out, however many.

    Raises:
        DataError: if there is nothing to read, fewer than two classes, a class that training does
            not have, or more than 5 % of the files cannot be opened.

    Example:
        >>> import numpy as np
        >>> pictures = np.zeros((4, 8, 8, 3), np.uint8)
        >>> catalogue = open_source((pictures, ["cat", "dog", "cat", "dog"]))
        >>> catalogue.class_names, catalogue.counts()
        (('cat', 'dog'), {'cat': 2, 'dog': 2})
    """
    if isinstance(source, Catalogue):
        return source
    has_labels = labels != "none"
    if has_labels:
        listing = _list_source(source, task, labels, masks)
    else:
        unread = _list_source(source, "classification", "optional")
        if isinstance(task, Segmentation) and unread.root is not None:
            unread = replace(unread, names=without_masks(unread.root, unread.names))
        listing = replace(unread, classes=(), splits=(), is_lenient=True)
    if not isinstance(listing.task, Task) or isinstance(task, Task):
        listing = replace(listing, task=task)
    catalogue = read_catalogue(listing, progress)
    if not len(catalogue):
        raise DataError(f"{source_text(source)}: no pictures; expected {_KINDS}; check the path")
    if labels != "required" or isinstance(task, Task):
        return catalogue
    return _check_classes(catalogue, source_text(source))


def source_text(source: Source) -> str:
    """What a source is called in a record or a message."""
    return str(source) if isinstance(source, str | Path) else "the data"


def _list_source(
    source: Source, task: Task | TaskName, labels: Labels, masks: MaskOptions | None = None
) -> Listing:
    is_known = isinstance(task, Task)
    class_names = task.names if is_known else None
    name: Any = task.name if is_known else task
    if isinstance(source, str | Path):
        check_source(source)  # before is_dir, which raises for a name that is too long
        path = Path(source)
        if path.is_dir():
            listing = _list_lying(path, task, labels, masks)
            if listing is not None:
                return listing
            return _list_folder(path, class_names, labels)
        return _list_file(path, class_names, labels, name)
    if type(source) in (tuple, list) and len(source) == 2:
        return list_arrays(source[0], source[1], class_names=class_names, task=name)
    if hasattr(source, "element_spec") and hasattr(source, "as_numpy_iterator"):
        return list_dataset(source, class_names=class_names, task=name)
    raise DataError(f"data of type {type(source).__name__}; expected {_KINDS}; convert it first")


def _list_lying(
    path: Path, task: Task | TaskName, labels: Labels, masks: MaskOptions | None
) -> Listing | None:
    """The pictures of a folder whose labels lie on them; ``None`` if they do not.

    A folder of classes may hold ones called images and masks; then the task has to be named.
    """
    known: Any = task if isinstance(task, Task) else None
    name = known.name if known else task
    if name not in ("auto", Segmentation.name, Detection.name):
        return None
    contents = look_into(path)
    listing: Listing | None = None
    if name != Detection.name and find_pairs(contents):
        listing = list_masks(path, contents, task=known, options=masks)
    elif name != Segmentation.name:
        listing = list_boxes(path, contents, task=known, is_asked=name == Detection.name)
    if listing is not None or name == "auto" or labels != "required":
        return listing
    raise DataError(f"{path}: {_WANTED[name]}")


_WANTED: dict[Any, str] = {
    Segmentation.name: (
        "no folder of masks beside one of pictures; expected images/ and masks/, in train/ and "
        "val/ or not; rename the folders"
    ),
    Detection.name: (
        "no files of boxes; expected Annotations/ with XML beside JPEGImages/, COCO's JSON, or "
        "labels/ with text files beside images/; rename the folders"
    ),
}


def _list_folder(path: Path, class_names: Sequence[str] | None, labels: Labels) -> Listing:
    listing = list_folder(path, labels=labels, class_names=class_names)
    # Folders of pictures that only want a prediction need not be named after classes.
    known = set(map(same_name, class_names or ()))
    is_foreign = class_names is not None and not known.issuperset(listing.classes)
    return replace(listing, classes=()) if labels == "optional" and is_foreign else listing


def _list_file(
    path: Path, class_names: Sequence[str] | None, labels: Labels, task: TaskName
) -> Listing:
    kind = kind_of(path.stat().st_mode)
    if kind:  # which might never end
        raise DataError(f"{path}: {kind}; expected {_KINDS}; check the path")
    suffix = path.suffix.lower()
    if suffix in TABLE_SUFFIXES:
        return list_table(path, labels=labels, task=task)
    if suffix == ".npz":
        return list_npz(path, class_names=class_names, task=task)
    if suffix == ".npy":
        return list_npy(path, class_names=class_names, labels=labels, task=task)
    # A HEIC that cannot be read says how it could be.
    if labels == "optional" and (suffix in HEIC_SUFFIXES or is_picture(path)):
        return Listing([path.name], root=path.parent)
    raise DataError(f"{path}: not a source of labelled pictures; expected {_KINDS}; check the path")


def _check_classes(catalogue: Catalogue, source: str) -> Catalogue:
    """Refuse classes that nothing can be trained on; warn of those that a split lacks."""
    _check_number(catalogue, source)
    splits = [split for split in ("validation", "test") if (catalogue.splits == split).any()]
    trained = catalogue.counts("train")
    if not any(trained.values()):
        trained = catalogue.counts("")
    warnings: list[str] = []
    for split in splits:
        counts = catalogue.counts(split)
        unknown = _missing(counts, trained)
        if unknown:
            raise DataError(
                f"{split} has pictures of {', '.join(unknown)}, of which training has none; "
                "expected the same classes; add training pictures or remove these"
            )
        absent = _missing(trained, counts)
        if absent:
            warnings.append(f"{split} has no pictures of {', '.join(absent)}")
    return replace(catalogue, warnings=(*catalogue.warnings, *warnings))


def _check_number(catalogue: Catalogue, source: str) -> None:
    """Refuse fewer classes or tags than anything can be learned from."""
    present = [name for name, count in catalogue.counts().items() if count]
    if len(present) >= catalogue.task.fewest:
        return
    if not present:
        raise DataError(
            f"{source}: no picture has a label; expected one or more; correct the labels"
        )
    raise DataError(
        f"{source}: only one class, {present[0]!r}; expected two or more; add pictures of what "
        f"is not {present[0]!r}, or point at the folder above"
    )


def _missing(these: dict[str, int], those: dict[str, int]) -> list[str]:
    return [repr(name) for name, count in these.items() if count and not those[name]]
