"""The processor that this process runs on."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def count_cores() -> int:
    """How many cores this process may use, which may be fewer than there are.

    Example:
        >>> count_cores() > 0
        True
    """
    if hasattr(os, "sched_getaffinity"):  # neither on macOS nor on Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_processor() -> str:
    """The system, the kind of processor and its cores, on which a measured time depends."""
    name = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(w.partition(":")[2] for w in lines if w.startswith("model name")).strip()
    except (OSError, StopIteration):
        pass  # not Linux, or a processor that does not say
    return ", ".join([platform.system(), platform.machine(), name, f"{count_cores()} cores"])


def gpu_capabilities() -> list[tuple[int, ...]]:
    """The compute capability of each GPU that Keras's backend computes on, as NVIDIA counts.

    Example:
        >>> all(len(capability) == 2 for capability in gpu_capabilities())
        True
    """
    import keras  # slow to import

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        details = map(
            tf.config.experimental.get_device_details, tf.config.list_physical_devices("GPU")
        )
        return [d.get("compute_capability", (0, 0)) for d in details]
    if keras.backend.backend() == "torch":
        import torch  # pyright: ignore[reportMissingImports]

        return [torch.cuda.get_device_capability(n) for n in range(torch.cuda.device_count())]
    import jax

    names = [str(gpu.compute_capability) for gpu in jax.devices() if gpu.platform == "gpu"]
    # AMD's are called gfx90a and the like.
    return [tuple(map(int, n.split("."))) if n[:1].isdigit() else (0, 0) for n in names]
