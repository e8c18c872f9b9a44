"""What `bench_gpu` checks of a training step on the GPU."""

import itertools
import tempfile
from pathlib import Path

import torch
from accelerate import Accelerator

from experiments.benchmarks.input.photos import write_images
from experiments.benchmarks.training import batches, build_learner, cache_one_view, export_teacher, student_config
from pld.images import open_source
from pld.store import open_store
from train_student.data.teacher_signal import StoredTeacher


def step_without_waiting() -> None:
    """Steps from a store, in bf16, in which the host never waits for the GPU: it would be idle before each step."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_images("SMALL", place, 64)
        cache_one_view(place, export_teacher(place / "teacher"), k=10)
        config = student_config(place, precision="bf16", opt="adamw")
        signal = StoredTeacher(open_store(str(place / "store")), open_source(str(place / "shards")))
        learner = build_learner(config, signal, Accelerator(mixed_precision="bf16"))
        six = list(itertools.islice(batches(place, [learner.preprocessing], workers=0), 6))
        for number, batch in enumerate(six):
            # The first steps allocate.
            torch.cuda.set_sync_debug_mode("error" if number > 2 else "default")
            try:
                learner.step([batch], number)
            finally:
                torch.cuda.set_sync_debug_mode("default")
