"""What a loader's processes hold, epoch after epoch, measured in a fresh process.

python -m experiments.benchmarks.input.held_memory STREAM FOLDER SIDE INTERPOLATION BATCHES
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

EPOCHS = 3


def megabytes(name: str, folder: Path, side: int, interpolation: str, batches: int) -> list[float]:
    """The most that the stream `name` held in each of EPOCHS epochs: itself and its workers, what they share once."""
    arguments = [name, str(folder), str(side), interpolation, str(batches)]
    command = [sys.executable, "-m", "experiments.benchmarks.input.held_memory", *arguments]
    found: list[float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def _held() -> float:
    """The proportional set size of this process and its children, MB: pages shared by n processes count 1/n each."""
    process = psutil.Process()
    return sum(each.memory_full_info().pss for each in (process, *process.children())) / 1e6


def main(name: str, folder: str, side: str, interpolation: Any, batches: str) -> None:
    """Print the figures of `megabytes`."""
    import torch

    from experiments.benchmarks.input.streams import STREAMS

    torch.set_num_threads(1)
    stream = STREAMS[name](Path(folder), int(side), interpolation)
    each = [max(_held() for _ in itertools.islice(stream, int(batches))) for _ in range(EPOCHS)]
    stream.close()  # type: ignore[attr-defined]
    print(json.dumps(each))


if __name__ == "__main__":
    main(*sys.argv[1:])
