"""Fixtures and helpers for all tests."""

from __future__ import annotations

import functools
import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Read by the frameworks when they are imported, so they stand before any such import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # pytest runs a process per core and more
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import hypothesis
import numpy as np
import pytest
from tests.processes import RunProgram, serving

if TYPE_CHECKING:
    import keras

# Thousands of layers stay alive between tests; looking through them all takes a tenth of the time.
gc.set_threshold(200_000, 50, 1000)

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
)  # fmt: skip


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One process more than cores: some tests wait for a browser, a cluster or a killed process."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (count or 1) + 1


def pytest_collection_finish() -> None:
    """Leave what the imports made out of every later search for garbage."""
    gc.freeze()


REPO = Path(__file__).resolve().parent.parent

# CI draws the same examples for the same code, so that a new find does not stop an unrelated
# change; people's own runs go on searching.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


@pytest.fixture(autouse=True)
def _drawn_anew(request: pytest.FixtureRequest) -> None:
    """A test module's numbers do not depend on which of its tests ran before."""
    rng = getattr(getattr(request, "module", None), "RNG", None)
    if rng is not None:
        rng.bit_generator.state = np.random.default_rng(0).bit_generator.state


def randomise(model: keras.Model, seed: int = 0) -> keras.Model:
    """Give a model seeded weights under which its output is finite and tells inputs apart.

    Batch-norm gets a gamma around 1, a beta, a moving mean and a positive moving variance that all
    differ from channel to channel, so that a mix-up of any two shows. Kernels keep the variance of
    what passes through.

    Args:
        model: changed in place, nested models included.
        seed: the same seed gives the same values to models whose weights stand in the same order.

    Returns:
        The model.
    """
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(_random_values(weight.path.rsplit("/", 1)[-1], tuple(weight.shape), rng))
    return model


def _random_values(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if kind in ("moving_variance", "variance"):
        return rng.uniform(0.5, 1.5, shape)
    if kind in ("moving_mean", "mean"):
        return rng.normal(0.0, 0.3, shape)
    if kind in ("gamma", "scale"):
        return rng.uniform(0.6, 1.3, shape)
    if "kernel" in kind:
        depthwise = kind == "depthwise_kernel" or (len(shape) == 4 and shape[-1] == 1 < shape[-2])
        seen = shape[:2] if depthwise else shape[:-1]
        gain = 1.0 if kind == "depthwise_kernel" else 2.0  # no activation follows inside separable
        return rng.normal(0.0, np.sqrt(gain / max(1, int(np.prod(seen)))), shape)
    if kind in ("seed_generator_state", "count"):
        return np.zeros(shape)
    return rng.normal(0.0, 0.1, shape)


@pytest.fixture(name="randomise", scope="session")
def _randomise() -> Callable[..., keras.Model]:
    """The helper `randomise(model, seed)`."""
    return randomise


_OPENED_AT_MOST = 12


@pytest.fixture(scope="session", autouse=True)
def networks_opened_once() -> Iterator[Callable[[], None]]:
    """Tests share the networks that adapting starts from: it never changes them.

    What it gives forgets them, for tests that want random weights of their own seed.
    """
    import keras

    from inshape.weights import native as module

    original = module.native

    @functools.lru_cache(_OPENED_AT_MOST)
    def opened(backbone: Any, weights: Any, with_top: bool, *_: Any) -> keras.Model:
        return original(backbone, weights, with_top=with_top)

    def native(backbone: Any, weights: Any, *, with_top: bool) -> keras.Model:
        is_file = weights is not None and Path(weights).is_file()
        version = Path(weights).stat().st_mtime_ns if is_file else None
        return opened(backbone, weights, with_top, version, keras.config.dtype_policy().name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "native", native)
        yield opened.cache_clear


@pytest.fixture(scope="session", autouse=True)
def networks_converted_once() -> Iterator[None]:
    """Equal networks are converted to LiteRT once where features are computed and compared."""
    from inshape.comparison import measure
    from inshape.features.extract import model_hash
    from inshape.runtime import frozen

    original, contents = frozen.to_litert, {}

    def to_litert(model: keras.Model, *shape: Any, **options: Any) -> bytes:
        key = model_hash(model), shape, *options.items()
        if key not in contents:
            contents[key] = original(model, *shape, **options)
        return contents[key]

    with pytest.MonkeyPatch.context() as patch:
        for module in (frozen, measure):
            patch.setattr(module, "to_litert", to_litert)
        yield


@pytest.fixture(scope="session")
def run_program(tmp_path_factory) -> Iterator[RunProgram]:
    """Runs a program that needs Keras in a process of its own: ``run_program(code, *words)``."""
    with serving(tmp_path_factory.mktemp("programs")) as run:
        yield run


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with the same seed in every test."""
    return np.random.default_rng(20240607)


@pytest.fixture(scope="session")
def repo_dir() -> Path:
    """The root of the repository."""
    return REPO


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Test pictures and weights that are not part of the project."""
    folder = Path(os.environ.get("INSHAPE_SHARED", REPO.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("no folder of test data: set INSHAPE_SHARED to one with data/ and weights/")
    return folder


def _existing(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"the folder of test data has no {path.parent.name}/{path.name}")
    return path


@pytest.fixture(scope="session")
def imagenet_weights(shared_dir: Path) -> Path:
    """Real ImageNet weights of MobileNetV3Large-minimalistic with its top (logits)."""
    return _existing(shared_dir / "weights" / "mobilenet_v3_large_minimalistic_imagenet.weights.h5")


@pytest.fixture(scope="session")
def imagenet_model(shared_dir: Path) -> Path:
    """The same as a whole `.keras` model."""
    return _existing(shared_dir / "weights" / "mobilenet_v3_large_minimalistic_imagenet.keras")


@pytest.fixture(scope="session")
def imagenet500(shared_dir: Path) -> Path:
    """500 ImageNet pictures, named `IIII_wnid_name.jpg` by class index."""
    return _existing(shared_dir / "data" / "imagenet500")


@pytest.fixture(scope="session")
def clothing(shared_dir: Path) -> Path:
    """Photos of clothes: `train/` and `validation/`, a folder per class."""
    return _existing(shared_dir / "data" / "clothing")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A real Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        pytest.skip(f"no Chromium on PATH under the names {', '.join(CHROMIUM)}")
    with playwright.sync_playwright() as played:
        chromium = played.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield chromium
        chromium.close()
