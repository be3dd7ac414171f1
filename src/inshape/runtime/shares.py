"""Pictures that the workers of a cluster decode and ask a network about, share by share.

Ray Data streams the shares: each is a task, which is done again if its worker is killed, and few
wait in memory at a time. No framework is imported, neither here nor by a worker that runs LiteRT.
"""

from __future__ import annotations

import importlib
import pickle
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillWaiting
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..data.catalogue import Catalogue
from ..data.prepare import Preparation
from ..data.stores import Filled, NotBytes, Opener, StoredType
from ..errors import DataError, InshapeError, RunError
from ..progress import Advance
from ..text import first_line
from . import cluster
from .conversion import quiet
from .runners import check_answers

Ask: TypeAlias = Callable[[NDArray[np.float32], int], NDArray[np.float32]]
"""From prepared pictures and the number of their batch, in the order of all, to a row for each."""

BATCH = 64
"""Pictures that are asked about at once."""
_SHARE = 4 * BATCH
_RETRIES = 3


@dataclass(frozen=True, slots=True)
class Share:
    """What was learned of some pictures that stand one behind the other."""

    start: int
    rows: NDArray[np.float32]
    """Of one that cannot be read, the answer to a black picture."""
    filled: Filled
    """By positions among all pictures."""


@dataclass(frozen=True, slots=True)
class _Work:
    """What a worker does with every share."""

    make: bytes
    """Pickled; it makes an `Ask`."""
    preparation: Preparation
    kind: StoredType


def answers_of(
    joined: cluster.Cluster,
    catalogue: Catalogue,
    preparation: Preparation,
    make: Callable[[], Ask],
    *,
    kind: StoredType = np.float32,
    progress: Advance | None = None,
) -> Iterator[Share]:
    """The shares of all pictures, in the order in which they are finished.

    ``make`` is called once in every process of a worker. Files are read where they are: every
    machine has to see them under the same path. Arrays are sent.

    Raises:
        NotBytes: if the type is bytes and a picture holds fractions.
        DataError: if a picture does not fit.
        RunError: if the cluster goes, or a share ends its worker again and again.
    """
    shares = [
        {"share": pickle.dumps((start, _part(catalogue, start)))}
        for start in range(0, len(catalogue), _SHARE)
    ]
    work = _Work(pickle.dumps(make), preparation, kind)
    count = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray's own making
        importlib.import_module("ray.data")  # sets its logger's level
    with quiet("ray.data"):  # it tells how it plans and what it ran
        for table in _watched(joined, _stream(shares, work)):
            for content in table.column("answer").to_pylist():
                share: Share | Exception = pickle.loads(content)
                if isinstance(share, Exception):
                    raise share
                yield share
                count += len(share.rows)
                if progress is not None:
                    progress(count, len(catalogue))
    assert count == len(catalogue)


def _stream(shares: list[dict[str, bytes]], work: _Work) -> Iterator[Any]:
    """Tables of answers, while the next ones are computed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray's own making
        from ray import data

        context: Any = data.DataContext.get_current()
        context.enable_progress_bars = False
        answers: Any = data.from_items(shares, override_num_blocks=len(shares)).map_batches(
            partial(_answer_table, work),
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=1,
            # Without a number it would go on for ever.
            ray_remote_args_fn=partial(dict, max_retries=_RETRIES),
        )
        return iter(answers.iter_batches(batch_size=None, batch_format="pyarrow"))


def _part(catalogue: Catalogue, start: int) -> Catalogue:
    """A few pictures, as another machine can read them."""
    part = catalogue.take(range(start, min(start + _SHARE, len(catalogue))))
    part = replace(part, skipped=(), warnings=())
    if part.root is not None:
        return replace(part, root=part.root.absolute())
    assert part.arrays is not None
    arrays = [np.asarray(part.arrays[int(row)]) for row in part.rows]
    return replace(part, arrays=arrays, rows=np.arange(len(arrays)))


def _watched(joined: cluster.Cluster, tables: Iterator[Any]) -> Iterator[Any]:
    """The tables; the head is asked for while none comes."""
    pool = ThreadPoolExecutor(1)
    try:
        while True:
            following = pool.submit(next, tables, None)
            while True:
                try:
                    table = following.result(cluster.ASK_S)
                    break
                except StillWaiting:
                    joined.ask_head()
            if table is None:
                return
            yield table
    except joined.ray.exceptions.RayError as error:
        joined.ask_head()
        raise RunError(
            f"a share of the pictures ended its worker {_RETRIES + 1} times "
            f"({type(error).__name__}: {first_line(error)}); expected workers with room for a "
            "network and a few pictures; see that they have it, or leave ray out"
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _answer_table(work: _Work, table: Any) -> Any:
    import pyarrow as pa

    shares = table.column("share").to_pylist()
    answers = [pickle.dumps(_answer_share(work, *pickle.loads(share))) for share in shares]
    return pa.table({"answer": pa.array(answers, pa.large_binary())})


def _answer_share(work: _Work, start: int, part: Catalogue) -> Share | Exception:
    """What was learned, or what is wrong: an error that Ray raises for us would be wrapped."""
    try:
        return _answer(work, start, part)
    except NotBytes as problem:
        return problem
    except DataError as problem:
        return DataError(str(problem))
    except InshapeError as problem:
        return RunError(str(problem))


def _answer(work: _Work, start: int, part: Catalogue) -> Share:
    ask = _made(work.make)
    rows: list[NDArray[np.float32]] = []
    learned = Filled({}, (0.0, 0.0), 0)
    for first in range(0, len(part), BATCH):
        few = part.take(range(first, min(first + BATCH, len(part))))
        pictures = np.zeros((len(few), *work.preparation.shape.as_static_tuple()), np.float32)
        opener = Opener(
            catalogue=few,
            preparation=work.preparation,
            folder=Path(),
            budget_bytes=0,
            workers=1,
            progress=None,
        )
        filled = opener.fill(work.kind, pictures.__setitem__)
        skipped = {start + first + i: problem for i, problem in filled.skipped.items()}
        learned = learned.and_of(replace(filled, skipped=skipped))
        rows.append(check_answers(ask(pictures, (start + first) // BATCH)))
    return Share(start, np.concatenate(rows), learned)


_asks: dict[bytes, Ask] = {}


def _made(make: bytes) -> Ask:
    """The network of the work, set up once in a process."""
    if make not in _asks:
        _asks.clear()
        _asks[make] = pickle.loads(make)()
    return _asks[make]


def collect(shares: Iterator[Share], count: int) -> tuple[Filled, NDArray[np.float32]]:
    """What was learned of so many pictures, and their rows, which are mapped from a file."""
    filled, shape = Filled({}, (0.0, 0.0), 0), (0,)
    with tempfile.TemporaryFile() as file:
        for share in shares:
            write_rows(file, 0, share.start, share.rows)
            filled, shape = filled.and_of(share.filled), share.rows.shape[1:]
        file.flush()
        return filled, np.memmap(file, np.float32, "r", shape=(count, *shape))


def write_rows(file: BinaryIO, begin: int, start: int, rows: NDArray[Any]) -> None:
    """Write rows to where they stand in a file whose first row begins at a byte."""
    file.seek(begin + start * rows[0].nbytes)
    file.write(np.ascontiguousarray(rows).data)
