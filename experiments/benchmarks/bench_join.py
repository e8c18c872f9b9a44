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

import dataclasses
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from accelerate import Accelerator

from cache_teacher.cache import cache
from cache_teacher.config import CacheConfig
from experiments.benchmarks.photos import write_copies
from experiments.benchmarks.store_logits import made_up
from experiments.benchmarks.store_reading import write_large
from experiments.benchmarks.timing import Spread, machine, ratio
from pld.images import open_source
from pld.signals import TopK
from pld.store import open_store
from pld.teachers import build_teacher
from pld.views.preprocessing import Preprocessing
from train_student.config import TrainConfig
from train_student.data.batches import Batch, ViewDataset, epoch_items
from train_student.data.loading import load
from train_student.data.teacher_signal import LiveTeacher, StoredTeacher, TeacherSignal
from train_student.loop.learner import Learner
from train_student.model.student import build_student, export, student_preprocessing

ROUNDS, BATCH, CLASSES, K = 9, 64, 1000, 50
FULL_IMAGES, SMALL_IMAGES, SMALL_SIDE = 640, 2048, 64
# Workers deliver about two batches at once: as many are timed as make one more or less of little account.
STREAM_ROUNDS, WARM_BATCHES, FULL_BATCHES, SMALL_BATCHES, STEPS = 15, 8, 40, 192, 8
SHARDS, TEMPERATURES = 64, (0.5, 1.0, 1.5, 2.0, 4.0)
CPU = torch.device("cpu")
NARROW = {"layers": [1, 1, 1, 1], "channels": [16, 32, 64, 128], "stem_width": 16}
Step = Callable[[], object]


def main() -> None:
    torch.set_num_threads(1)
    print(f"{machine(CPU)}; n = {ROUNDS} rounds in turn, {STREAM_ROUNDS} of streams, median (quartiles)")
    with tempfile.TemporaryDirectory() as folder:
        full, small = Path(folder) / "full", Path(folder) / "small"
        print(f"full size: {write_copies(os.environ.get('PHOTOS'), full, FULL_IMAGES, (390, 466))}")
        print(f"small: {write_copies(os.environ.get('SMALL'), small, SMALL_IMAGES, (64, 64))}")
        teacher = make_teacher(Path(folder) / "teacher")
        for place in (full, small):
            make_store(place, teacher)
        load_seconds = seconds_to_load(Path(folder) / "large")
        figures = {"joined_over_plain": streams(full, 224, FULL_BATCHES, load_seconds)}
        streams(small, SMALL_SIDE, SMALL_BATCHES, load_seconds)
        figures |= training(small, teacher)
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


def make_teacher(folder: Path) -> str:
    """A ResNet-18 for small images; untrained, as its time does not depend on its weights."""
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=CLASSES)
    export(model, Preprocessing(input_size=(SMALL_SIDE, SMALL_SIDE)), None, folder)
    return f"local-dir:{folder}"


def make_store(place: Path, teacher: str) -> None:
    """Cache one view of the images in `place`/shards into `place`/store."""
    data, store = str(place / "shards"), str(place / "store")
    cache(CacheConfig(allow_wrong_labels=True, teacher=teacher, data=data, store=store, views=1, k=K))


def batches(place: Path, preprocessings: list[Preprocessing], workers: int) -> Iterator[Batch]:
    """Epoch after epoch of one view: these epochs are a thousand times shorter than ImageNet's."""
    source = open_source(str(place / "shards"))
    dataset = ViewDataset(source, source.policy, preprocessings)
    settings = {"seed": 0, "batch_size": BATCH, "streams": 1, "rank": 0, "world": 1}
    items = itertools.chain.from_iterable(
        epoch_items(source, epoch=epoch, view_index=0, **settings) for epoch in itertools.count()
    )
    return load(dataset, items, workers=workers)


def stored(place: Path) -> StoredTeacher:
    return StoredTeacher(open_store(str(place / "store")), open_source(str(place / "shards")))


def seconds_to_load(root: Path) -> float:
    """Seconds that loading a view takes for each of its rows, in parts as large as ImageNet's."""
    made = made_up()
    write_large(root, [TopK.from_logits(made.values[0], made.labels, K, TEMPERATURES)], SHARDS)
    store, taken = open_store(str(root)), []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        rows = len(store.load_view(0))
        taken.append((time.perf_counter() - start) / rows)
    print(f"\nloading a view of {rows:,} rows: {Spread.of([1e6 * each for each in taken])} us a row")
    return statistics.median(taken)


def streams(place: Path, side: int, num: int, load_seconds: float) -> float:
    """How fast batches with logits come beside batches alone: normalised, by two workers."""
    preprocessing = Preprocessing(input_size=(side, side))
    signal = stored(place)

    def plain(stream: Iterator[Batch]) -> Iterator[object]:
        for batch in stream:
            yield preprocessing.normalize(batch.images[0])

    def joined(stream: Iterator[Batch]) -> Iterator[object]:
        for batch in stream:
            yield preprocessing.normalize(batch.images[0]), signal(batch, CPU)

    made = {"plain": plain, "joined": joined}
    running = {name: make(batches(place, [preprocessing], 2)) for name, make in made.items()}
    seconds = in_turn({name: stream.__next__ for name, stream in running.items()}, num, WARM_BATCHES, STREAM_ROUNDS)
    seconds["joined"] = [each + num * BATCH * load_seconds for each in seconds["joined"]]
    print(f"\nstreams of {side} x {side}, {K} of {CLASSES} classes joined")
    for name, taken in seconds.items():
        print(f"  {name:8}{Spread.of([num * BATCH / each for each in taken])} images/s")
    times = ratio(seconds["plain"], seconds["joined"])
    print(f"  joined has {times} of the speed")
    return times.median


@dataclasses.dataclass
class Trainer:
    """A student, where its signal comes from, and its batches."""

    learner: Learner
    stream: Iterator[Batch]
    steps: int = 0

    @classmethod
    def of(cls, place: Path, signal: TeacherSignal, loss: str) -> Trainer:
        settings: dict[str, Any] = {"store": str(place / "store"), "model": "resnet18", "model_kwargs": NARROW}
        settings |= {"image_size": SMALL_SIDE, "batch_size": BATCH, "opt": "sgd", "lr": 1e-3, "loss": loss}
        config = TrainConfig.from_flat(data=str(place / "shards"), num_classes=CLASSES, **settings)
        preprocessing = student_preprocessing(SMALL_SIDE, config.validation.crop_fraction)
        student, optimizer = build_student(config.model, CLASSES), config.optimizer
        learner = Learner(
            Accelerator(), student, config.loss.build(), signal, preprocessing, optimizer, steps_per_epoch=1000, seed=0
        )
        return cls(learner, batches(place, [preprocessing, *signal.preprocessings], 1))

    def step(self, batch: Batch | None = None) -> None:
        """One step, on the next batch unless one is given."""
        self.learner.step([batch or next(self.stream)], self.steps)
        self.steps += 1


def training(place: Path, teacher: str) -> dict[str, float]:
    """Steps with the three signals, loading included; and the parts of a step on a ready batch."""
    live = LiveTeacher(build_teacher(teacher))
    signal = stored(place)
    trainers = {
        "cross entropy": Trainer.of(place, TeacherSignal(), "ce"),
        "store": Trainer.of(place, signal, "pld"),
        "live teacher": Trainer.of(place, live, "pld"),
    }
    seconds = in_turn({name: trainer.step for name, trainer in trainers.items()}, STEPS, 2)
    ready = next(trainers["live teacher"].stream)
    parts = in_turn(
        {
            "step": lambda: trainers["store"].step(ready),
            "teacher's forward": lambda: live(ready, CPU),
            "lookup": lambda: signal(ready, CPU),
        },
        STEPS,
        2,
    )
    print(f"\ntraining, {SMALL_SIDE} x {SMALL_SIDE}, batches of {BATCH}")
    for name, taken in (seconds | parts).items():
        print(f"  {name:18}{Spread.of([1000 * each / STEPS for each in taken])} ms")
    over_ce, over_live = (ratio(seconds[name], seconds["store"]) for name in ("cross entropy", "live teacher"))
    step, forward = (statistics.median(parts[name]) for name in ("step", "teacher's forward"))
    print(f"  the store's epoch has {over_ce} of the speed of cross entropy's, {over_live} times the live teacher's")
    print(f"  (step + forward) / step on ready batches: {(step + forward) / step:.2f}")
    return {
        "train_over_ce": over_ce.median,
        "train_over_live": over_live.median,
        "train_over_live_predicted": (step + forward) / step,
    }


def in_turn(steps: Mapping[str, Step], num: int, warm: int, rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds that `num` calls of each took in each round, which begins with another one, after `warm` calls."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for _ in range(rounds):
        names = names[1:] + names[:1]
        for name in names:
            for _ in range(warm):
                steps[name]()
            start = time.perf_counter()
            for _ in range(num):
                steps[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main()
