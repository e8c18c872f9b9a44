"""The commands as a user types them, and what they leave."""

import json
from pathlib import Path

from cache_teacher.cache import main as cache_main
from pld.config import run
from pld.store import Store, open_store
from train_student.run.train import main as train_main

# Enough for a small student to learn three colours.
LEARNING = ("--epochs", 12, "--opt", "adamw", "--lr", 3e-3, "--warmup_epochs", 0, "--eval_every", 12)


def caching(data, teacher, store, *more: object) -> int:
    """Exit status of `cache-teacher`."""
    argv = [
        "--data",
        data,
        "--teacher",
        f"local-dir:{teacher}",
        "--store",
        store,
        "--views",
        2,
        "-k",
        3,
        "--threads",
        1,
    ]
    return run(cache_main, [str(word) for word in (*argv, *more)])


def cached(data, teacher, store, *more: object) -> Store:
    """The store that `cache-teacher` made."""
    assert caching(data, teacher, store, *more) == 0
    return open_store(store)


def training(data, output, *more: object) -> int:
    """Exit status of `train-student`."""
    argv = ["--data", data, "--output", output, "--model", "test_resnet", "--image_size", 32, "--epochs", 1]
    argv += ["--batch_size", 8, "--workers", 0, "--streams", 1, "--tracker", "none"]
    return run(train_main, [str(word) for word in (*argv, *more)])


def facts(output: Path) -> dict:
    """What run.json says."""
    return json.loads((output / "run.json").read_text())


def metrics(output: Path) -> list[dict]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
