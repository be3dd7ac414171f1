"""Many pictures are read without being held in memory.

`python -m benchmarks.memory` does the same with a hundred thousand.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

COUNT = 5_000
LIMIT_MB = 96  # 234 MB would be all of the pictures

# In a process of its own, whose peak is measured from outside the reading.
PROGRAM = """
import json, resource, sys
from pathlib import Path
import numpy as np
from PIL import Image

folder, cache, count = Path(sys.argv[1], "photos"), Path(sys.argv[1], "cache"), int(sys.argv[2])
folder.mkdir()
Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / "model.bmp")
header = (folder / "model.bmp").read_bytes()[:54]
(folder / "model.bmp").unlink()
rng = np.random.default_rng(0)
for label in range(10):
    (folder / str(label)).mkdir()
    for number in range(count // 10):
        (folder / str(label) / f"{number}.bmp").write_bytes(header + rng.bytes(192))

from inshape.data.batches import Batches
from inshape.data.prepare import Preparation
from inshape.data.sources import open_source
from inshape.data.split import split

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

def limit(megabytes):
    # What the process asks for beyond so much is refused.
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    most = (int(status["VmData"].split()[0]) >> 10) + megabytes
    resource.setrlimit(resource.RLIMIT_DATA, (most << 20, most << 20))

limit(int(sys.argv[3]))
before = peak_mb()
catalogue = split(open_source(folder), validation=0.1)
batches = Batches.open(
    catalogue, Preparation.of((128, 128, 3)), memory_budget_bytes=64 << 20, cache_dir=cache
)
read = sum(len(labels) for _, labels in batches.iterate("train", 64, shuffle=True))
print(json.dumps({"kind": batches.cache_report.kind, "read": read, "grown": peak_mb() - before}))
"""


@pytest.mark.slow
def test_a_large_folder_stays_on_the_disk(tmp_path):
    if not Path("/proc/self/status").exists():
        pytest.skip("limits memory as Linux does")
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), str(COUNT), str(LIMIT_MB)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    measured = json.loads(process.stdout.splitlines()[-1])
    assert measured["kind"] == "disk"
    assert measured["read"] == 0.9 * COUNT
    # File pages that the system may drop count as well.
    assert measured["grown"] < 0.2 * COUNT * 128 * 128 * 3 / 2**20
