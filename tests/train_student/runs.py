"""Running the command in this process, and reading what a run left."""

import json

import torch
from safetensors.torch import load_file

from pld.config import parse_config
from tests.making import student_settings
from train_student.config import RECIPES, TrainConfig
from train_student.run.train import train


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


def train_world(world, folder, **settings):
    """Train in this process, see `student_settings`."""
    train(TrainConfig.from_flat(**student_settings(world, folder, **settings)))


def assert_same_weights(folder, other, tolerance=0.0):
    """Of the models that two runs left."""
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (folder, other))
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, atol=tolerance, rtol=0, msg=name)
