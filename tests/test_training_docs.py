"""The commands of docs/training.md are ones that the program takes, and its figures those of the plan."""

import re
import shlex

import numpy as np
import pytest

from cache_teacher.config import CacheConfig
from pld.config import parse_config
from pld.images import epoch_order, global_batches
from pld.images.prefetch import most_bytes, plan_uses
from pld.loader_processes import in_flight
from tests.processes import ROOT
from train_student.config import RECIPES, TrainConfig
from train_student.evaluate import VAL_SHARE

COMMANDS = re.findall(r"^    (?:accelerate launch )?(train_student\.py|cache-teacher) (.+)$",
                      (ROOT / "docs" / "training.md").read_text(), re.MULTILINE)  # fmt: skip


def test_there_are_commands():
    assert len(COMMANDS) >= 5
    assert {program for program, _ in COMMANDS} == {"train_student.py", "cache-teacher"}


@pytest.mark.parametrize(("program", "arguments"), COMMANDS)
def test_a_documented_command_is_understood(program, arguments):
    kind = TrainConfig if program == "train_student.py" else CacheConfig
    named = RECIPES if kind is TrainConfig else None
    assert parse_config(kind, shlex.split(arguments), prog=program, description="", named_files=named).data


def test_every_option_that_is_mentioned_exists():
    options = {*TrainConfig.__dataclass_fields__, "config", "help", "logdir", *CacheConfig.__dataclass_fields__}
    mentioned = re.findall(r"--([a-z_]+)", (ROOT / "docs" / "training.md").read_text())
    assert set(mentioned) <= options


@pytest.mark.parametrize(("machines", "words"), [(1, "160 GB on one machine"), (8, "20 GB on each of eight")])
def test_the_disk_that_imagenet_wants(machines, words):
    """1024 shards of 137 MB, the recipe's batch and streams."""
    config = TrainConfig(data="x", loss="ce")
    sizes = [1252] * 143 + [1251] * 881  # 1,281,167 images
    order = global_batches(epoch_order(0, 0, sizes, config.streams, 8), config.batch_size)
    uses, _ = plan_uses(np.repeat(np.arange(1024), sizes), (rows[::machines] for rows in order), 0)
    wanted = most_bytes(uses, np.full(1024, 137_000_000), in_flight(config.workers)) / (1 - VAL_SHARE)
    assert wanted == pytest.approx(float(words.split()[0]) * 1e9, rel=0.02)
    assert words in (ROOT / "docs" / "training.md").read_text()
