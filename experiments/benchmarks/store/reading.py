"""A store of ImageNet's size, made synthetically, and what a fresh process needs to read one of its views.

python -m experiments.benchmarks.store.reading STORE VIEW
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from pld.signals import TopK
from pld.store import Shard, Store, StoreWriter
from pld.store.documents.layout import read_layout
from pld.store.documents.manifest import read_manifest
from pld.store.objects.local_storage import LocalStorage
from tests.store.world import World

SHARD_SAMPLES = 1250


def write_large(root: Path, topks: list[TopK], num_shards: int) -> None:
    """A store of num_shards x 1,250 rows and one block of views: the same signals in each shard under other keys."""
    world = World(sizes=(SHARD_SAMPLES,) * num_shards, num_classes=1000, k=topks[0].k)
    shards = [Shard(name=f"train-{index:05d}", num_samples=SHARD_SAMPLES) for index in range(num_shards)]
    writer = StoreWriter.open(str(root), world.identity, shards, {"made_by": "bench-store, synthetic"})
    labels = topks[0].labels.numpy()
    for index, part in enumerate(writer.missing_parts(len(topks))):
        keys = [f"n{index:05d}_{row:05d}" for row in range(SHARD_SAMPLES)]
        writer.write_part(part, keys, labels, topks)
    writer.seal()


class Counting(LocalStorage):
    """A storage that counts what it reads."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.in_ranges = self.in_whole = 0

    def read(self, name: str, max_bytes: int) -> bytes:
        data = super().read(name, max_bytes)
        self.in_whole += len(data)
        return data

    def read_range(self, name: str, offset: int, num_bytes: int, *more: Any) -> bytes:
        self.in_ranges += num_bytes
        return super().read_range(name, offset, num_bytes, *more)


def read_in_fresh_process(root: Path, view: int) -> dict[str, float]:
    """See `main`."""
    command = [sys.executable, "-m", "experiments.benchmarks.store.reading", str(root), str(view)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main(root: Path, view: int) -> None:
    """Read a view with nothing in memory; print seconds, rows, bytes fetched, and how far the process grew."""
    torch.set_num_threads(1)
    storage = Counting(root)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _peak_bytes()
    start = time.perf_counter()
    manifest = read_manifest(storage)
    store = Store(storage, manifest, read_layout(storage, manifest))
    opened = time.perf_counter()
    table = store.load_view(view)
    done = time.perf_counter()
    figures = {
        "rows": len(table),
        "open_seconds": opened - start,
        "seconds": done - opened,
        "grown_bytes": _peak_bytes() - before,
        "range_bytes": storage.in_ranges,
        "index_bytes": storage.in_whole,
    }
    print(json.dumps(figures))


def _peak_bytes() -> int:
    """The most that this process had in memory. Not getrusage's figure, which a child begins with its parent's."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
