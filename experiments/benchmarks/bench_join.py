"""What training from a store costs beside training without a teacher, and beside running the teacher.

    make bench-join [PHOTOS='photos-{0000..0003}.tar' SMALL=tiny-imagenet]

`joined_over_plain`: speed of the stream of batches with their cached logits over that without, full-size photos to
224 px; the time to load a view, measured apart, is added in full, though a run loads it while it trains on another.
`train_over_ce`: speed of steps with PLD from the store over steps with plain cross entropy and no store, images of
64 px, loading included. `train_over_live`: over steps with the teacher run in training, a ResNet-18 beside a narrow
student; `train_over_live_predicted`: what the times of step and forward on ready batches predict, (step + forward) /
step. All run in turn, steps with one thread and one loader process. Ends with one line of JSON. Not measured: remote
stores, GPUs.
"""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from experiments.benchmarks.input.photos import NUM_CLASSES, write_images
from experiments.benchmarks.store.logits import TEMPERATURES, made_up, write_large
from experiments.benchmarks.timing import CPU, Spread, calls_in_turn, machine, print_figures, ratio, timed
from experiments.benchmarks.training import (
    BATCH,
    SIDE,
    batches,
    build_learner,
    cache_one_view,
    export_teacher,
    student_config,
)  # fmt: skip
from pld.buffer_pool import keep_freed_memory
from pld.images import open_source
from pld.signals import TopK
from pld.store import open_store
from pld.teachers import build_teacher
from pld.views.preprocessing import Preprocessing
from train_student.data.batches import Batch
from train_student.data.teacher_signal import LiveTeacher, StoredTeacher, TeacherSignal
from train_student.model.student import student_preprocessing

ROUNDS, K = 9, 50
FULL_IMAGES, SMALL_IMAGES = 640, 2048
# Workers deliver about two batches at once: as many are timed as make one more or less of little account.
STREAM_ROUNDS, WARM_BATCHES, FULL_BATCHES, SMALL_BATCHES, STEPS = 15, 8, 40, 192, 8
SHARDS = 64
NARROW = {"layers": [1, 1, 1, 1], "channels": [16, 32, 64, 128], "stem_width": 16}


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()  # as the command does: else the same step takes 49 or 80 ms
    print(f"{machine(CPU)}; n = {ROUNDS} rounds in turn, {STREAM_ROUNDS} of streams, median (quartiles)")
    with tempfile.TemporaryDirectory() as folder:
        full, small = Path(folder) / "full", Path(folder) / "small"
        print(f"full size: {write_images('PHOTOS', full, FULL_IMAGES)}")
        print(f"small: {write_images('SMALL', small, SMALL_IMAGES)}")
        teacher = export_teacher(Path(folder) / "teacher")
        for place in (full, small):
            cache_one_view(place, teacher, K)
        load_seconds = seconds_to_load(Path(folder) / "large")
        figures = {"joined_over_plain": streams(full, 224, FULL_BATCHES, load_seconds)}
        streams(small, SIDE, SMALL_BATCHES, load_seconds)
        figures |= training(small, teacher)
    print_figures(figures)


def stored(place: Path) -> StoredTeacher:
    return StoredTeacher(open_store(str(place / "store")), open_source(str(place / "shards")))


def seconds_to_load(root: Path) -> float:
    """Seconds that loading a view takes for each of its rows, in parts as large as ImageNet's."""
    made = made_up(mixed=False)
    write_large(root, [TopK.from_logits(made.values[0], made.labels, K, TEMPERATURES)], SHARDS)
    store = open_store(str(root))
    rows = store.num_samples
    taken = [timed(lambda: store.load_view(0)) / rows for _ in range(ROUNDS)]
    print(f"\nloading a view of {rows:,} rows: {Spread.of(taken, 1e6)} us a row")
    return statistics.median(taken)


def streams(place: Path, side: int, num: int, load_seconds: float) -> float:
    """How fast batches with logits come beside batches alone: normalised, by two workers."""
    preprocessing = Preprocessing(input_size=(side, side))
    signal = stored(place)

    def plain(batch: Batch) -> Tensor:
        return preprocessing.normalize(batch.images[0])

    def joined(batch: Batch) -> object:
        return plain(batch), signal(batch, CPU)

    made = {"plain": plain, "joined": joined}
    nexts = {name: map(make, batches(place, [preprocessing], workers=2)).__next__ for name, make in made.items()}
    seconds = calls_in_turn(nexts, num, warm_up=WARM_BATCHES, rounds=STREAM_ROUNDS)
    seconds["joined"] = [each + num * BATCH * load_seconds for each in seconds["joined"]]
    print(f"\nstreams of {side} x {side}, {K} of {NUM_CLASSES} classes joined")
    for name, taken in seconds.items():
        print(f"  {name:8}{Spread.of([num * BATCH / each for each in taken])} images/s")
    times = ratio(seconds["plain"], seconds["joined"])
    print(f"  joined has {times} of the speed")
    return times.median


def student(place: Path, signal: TeacherSignal, loss: str) -> tuple[Callable[[Batch], None], Iterator[Batch]]:
    """What takes a student's next step on a batch, and batches for it without end."""
    config = student_config(place, model_kwargs=NARROW, opt="sgd", lr=1e-3, loss=loss)
    preprocessings = [student_preprocessing(SIDE, config.validation.crop_fraction), *signal.preprocessings]
    learner, number = build_learner(config, signal, Accelerator()), itertools.count()
    return lambda batch: learner.step([batch], next(number)), batches(place, preprocessings, workers=1)


def training(place: Path, teacher: str) -> dict[str, float]:
    """Steps with the three signals, loading included; and the parts of a step on a ready batch."""
    live = LiveTeacher(build_teacher(teacher))
    signal = stored(place)
    students = {
        "cross entropy": student(place, TeacherSignal(), "ce"),
        "store": student(place, signal, "pld"),
        "live teacher": student(place, live, "pld"),
    }
    seconds = calls_in_turn(
        {name: lambda step=step, stream=stream: step(next(stream)) for name, (step, stream) in students.items()},
        STEPS,
        rounds=ROUNDS,
    )
    ready, step_on = next(students["live teacher"][1]), students["store"][0]
    parts = calls_in_turn(
        {
            "step": lambda: step_on(ready),
            "teacher's forward": lambda: live(ready, CPU),
            "lookup": lambda: signal(ready, CPU),
        },
        STEPS,
        rounds=ROUNDS,
    )
    print(f"\ntraining, {SIDE} x {SIDE}, batches of {BATCH}")
    for name, taken in (seconds | parts).items():
        print(f"  {name:18}{Spread.of(taken, 1000 / STEPS)} ms")
    over_ce, over_live = (ratio(seconds[name], seconds["store"]) for name in ("cross entropy", "live teacher"))
    step, forward = (statistics.median(parts[name]) for name in ("step", "teacher's forward"))
    print(f"  the store's epoch has {over_ce} of the speed of cross entropy's, {over_live} times the live teacher's")
    print(f"  (step + forward) / step on ready batches: {(step + forward) / step:.2f}")
    return {
        "train_over_ce": over_ce.median,
        "train_over_live": over_live.median,
        "train_over_live_predicted": (step + forward) / step,
    }


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main()
