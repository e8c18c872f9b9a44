"""Images a second from encoded bytes to a normalised float tensor, beside what else people use.

    make bench-input [PHOTOS='photos-{0000..0003}.tar' SMALL=tiny-imagenet]

Everybody crops at random, resizes antialiased, flips and normalises, in batches of 64 with two workers or threads; see
input/streams.py here. Streams run without end and are measured in turn, in the steady state: what each has prefetched
while others were measured is not counted. Photos are resized bicubically, as students and teachers see them, and
bilinearly, torchvision's default, which suits the others better; x_ is ours over theirs for bicubic ones. Without
PHOTOS and SMALL, images are generated. Ends with one line of JSON. Not measured: cold disks, memory, GPUs.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from experiments.benchmarks.input.photos import write_images
from experiments.benchmarks.input.streams import STREAMS, WORKERS
from experiments.benchmarks.timing import CPU, Spread, calls_in_turn, machine, print_figures, ratio
from experiments.benchmarks.training import BATCH
from pld.images.decode.jpeg_box import HAS_BOXES
from pld.views import Interpolation

ROUNDS, WARM_BATCHES = 7, 8
FULL_IMAGES, FULL_SIDE, FULL_BATCHES = 1600, 224, 12
SMALL_IMAGES, SMALL_SIDE, SMALL_BATCHES = 4000, 64, 64
KEYS = {"ImageFolder": "x_imagefolder", "webdataset": "x_webdataset", "DALI": "x_dali"}


def main() -> None:
    torch.set_num_threads(1)
    print(f"{machine(CPU)}; {WORKERS} workers each; n = {ROUNDS} rounds, median (quartiles)")
    print("ours decodes a crop's box alone" if HAS_BOXES else "ours decodes what is beside a crop too")
    with tempfile.TemporaryDirectory() as folder:
        small, full = Path(folder) / "small", Path(folder) / "full"
        print(f"\nsmall: {write_images('SMALL', small, SMALL_IMAGES)}")
        print(f"full size: {write_images('PHOTOS', full, FULL_IMAGES)}")
        others = compare(small, SMALL_SIDE, "bicubic", SMALL_BATCHES, ["ours", "ImageFolder", "ImageFolder, tensors"])
        figures = {"x_imagefolder_small": others["ImageFolder"]}
        compare(full, FULL_SIDE, "bilinear", FULL_BATCHES, list(STREAMS))
        others = compare(full, FULL_SIDE, "bicubic", FULL_BATCHES, list(STREAMS))
        figures = {key: others[name] for name, key in KEYS.items()} | figures
    print_figures(figures)


def compare(
    folder: Path, side: int, interpolation: Interpolation, batches: int, names: Sequence[str]
) -> dict[str, float]:
    """Measure some streams in turn and print them; how many times as fast as each we are."""
    # In this order: a process is not forked once DALI's threads are at work.
    streams = {name: STREAMS[name](folder, side, interpolation) for name in names}
    for stream in streams.values():
        check(next(stream), side)
    seconds = calls_in_turn({n: s.__next__ for n, s in streams.items()}, batches, warm_up=WARM_BATCHES, rounds=ROUNDS)
    for stream in streams.values():
        stream.close()  # type: ignore[attr-defined]
    print(f"\n{side} x {side}, {interpolation}")
    for name, taken in seconds.items():
        speed = Spread.of([batches * BATCH / second for second in taken])
        beside = "" if name == "ours" else f"   ours is {ratio(taken, seconds['ours'])} times as fast"
        print(f"  {name:22}{speed.median:7.0f} ({speed.low:.0f} to {speed.high:.0f}) images/s{beside}")
    return {name: ratio(seconds[name], seconds["ours"]).median for name in names}


def check(images: Tensor, side: int) -> None:
    """What everybody must give: as many images, normalised in float32."""
    assert images.shape == (BATCH, 3, side, side)
    assert images.dtype == torch.float32
    assert images.abs().max() < 3


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main()
