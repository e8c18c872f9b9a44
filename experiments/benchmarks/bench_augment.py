"""Strong views, images a second from encoded bytes to a normalised float tensor, beside timm's transforms.

    make bench-augment [PHOTOS='photos-{0000..0003}.tar']

x_timm_strong: RandAugment, colour jitter and erasing; x_timm_mixed: mixup and CutMix; x_views4: student images a second
with four views of each decoded image over one. Streams run without end, with two workers each, and are measured in
turn, in the steady state; see input/augmented.py here. Without PHOTOS, images are generated. Ends with one line of
JSON. Not measured: cold disks, GPUs.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch

from experiments.benchmarks.input.augmented import MIXED, SIDE, STRONG, WORKERS, ours, timm_mixed, timm_strong
from experiments.benchmarks.input.photos import write_images
from experiments.benchmarks.timing import CPU, Spread, calls_in_turn, machine, print_figures, ratio
from experiments.benchmarks.training import BATCH

IMAGES, ROUNDS, BATCHES = 1600, 7, 12
# As many that the workers of the stream before have filled their queues again: that takes timm's half a second.
WARM_BATCHES = 24


def main() -> None:
    torch.set_num_threads(1)
    print(f"{machine(CPU)}; {WORKERS} workers each; n = {ROUNDS} rounds, median (quartiles)")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        print(write_images("PHOTOS", place, IMAGES))
        streams = {
            "ours, light": ours(place),
            "ours, 4 views an image": ours(place, views_per_image=4),
            "ours, strong": ours(place, STRONG),
            "timm, strong": timm_strong(place),
            "ours, mixed": ours(place, MIXED),
            "timm, mixed": timm_mixed(place),
        }
        for stream in streams.values():
            assert next(stream).shape == (BATCH, 3, SIDE, SIDE)
        steps = {name: stream.__next__ for name, stream in streams.items()}
        seconds = calls_in_turn(steps, BATCHES, warm_up=WARM_BATCHES, rounds=ROUNDS)
        for stream in streams.values():
            stream.close()  # type: ignore[attr-defined]
    print(f"\nstrong: {STRONG}\nmixed: {MIXED}\n")
    for name, taken in seconds.items():
        speed = Spread.of([BATCHES * BATCH / second for second in taken])
        print(f"  {name:24}{speed.median:7.0f} ({speed.low:.0f} to {speed.high:.0f}) images/s")
    pairs = {
        "x_timm_strong": ("timm, strong", "ours, strong"),
        "x_timm_mixed": ("timm, mixed", "ours, mixed"),
        "x_views4": ("ours, light", "ours, 4 views an image"),
    }
    ratios = {key: ratio(seconds[slow], seconds[fast]) for key, (slow, fast) in pairs.items()}
    print()
    for key, spread in ratios.items():
        print(f"  {key:24}{spread}")
    print_figures({key: spread.median for key, spread in ratios.items()})


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main()
