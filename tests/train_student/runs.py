"""Running the command in this process, and reading what a run left."""

import json

from pld.config import parse_config
from train_student.config import RECIPES, TrainConfig


def parse(*argv):
    return parse_config(TrainConfig, argv, prog="train-student", description="", named_files=RECIPES)


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def as_arguments(settings):
    return [
        word
        for name, value in settings.items()
        if value is not None
        for word in (f"--{name}", value if isinstance(value, str) else json.dumps(value))
    ]
