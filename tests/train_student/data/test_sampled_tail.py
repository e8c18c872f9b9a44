"""A store with sampled tails, from the teacher to a student: cached, gone on with, trained on, described."""

import re

import numpy as np
import pytest
import torch

from pld.cli.main import _main as pld
from pld.config import run
from pld.errors import ConfigError, FingerprintMismatchError
from pld.store import open_store
from tests.making import make_store, student_settings
from tests.train_student.runs import as_arguments
from train_student.config import TrainConfig
from train_student.data.teacher_signal import image_by_image
from train_student.run.train import main as train_main
from train_student.run.train import train

FIELDS = ("classes", "logprobs", "threshold")


@pytest.fixture(scope="module")
def store(world):
    return make_store(world, "sampled", k=5, tail_samples=4, views=2)


def signal(root, view):
    store = open_store(root)
    return store.load_view(view)[np.arange(store.num_samples)]


def sample(root, view):
    return signal(root, view).tail_sample


def test_what_is_drawn_depends_on_key_and_view_and_not_on_batches(world, store, tmp_path):
    other = make_store(world, str(tmp_path / "other"), k=5, tail_samples=4, views=2, batch_size=7)
    for view in (0, 1):
        for name in FIELDS:
            assert torch.equal(getattr(sample(store, view), name), getattr(sample(other, view), name))
    assert not torch.equal(sample(store, 0).classes, sample(store, 1).classes)


def test_a_store_is_not_gone_on_with_by_another_number(world, store):
    with pytest.raises(FingerprintMismatchError, match=r"codec\.tail_samples"):
        make_store(world, "sampled", k=5, tail_samples=3, views=2)
    with pytest.raises(ConfigError, match=r"--tail_samples = 7: wanted 1 to 6"):
        make_store(world, "many", k=5, tail_samples=7, views=2)


def test_views_of_an_image_are_joined_with_their_tails(store):
    views = [signal(store, view) for view in (0, 1)]
    joined = image_by_image(views)
    for view, held in enumerate(views):
        for name in FIELDS:
            assert torch.equal(getattr(joined.tail_sample, name)[view::2], getattr(held.tail_sample, name))


def test_kd_above_one_trains_on_it_and_is_not_called_approximate(world, store, tmp_path, capsys, console):
    settings = student_settings(world, tmp_path / "run", store=str(store), loss="kd", temperature=2.0, epochs=1)
    assert run(train_main, [*as_arguments(settings), "--dry-run"]) == 0
    assert "any k with a sampled tail; this one has 4 classes of it" in capsys.readouterr().out
    train(TrainConfig.from_flat(**settings))
    printed = capsys.readouterr().out
    assert "estimated from 4 of its classes, without bias" in printed
    assert "only approximates" not in printed


def test_a_tail_that_is_too_noisy_is_refused_and_the_advice_does(world, tmp_path):
    settings = student_settings(world, tmp_path / "run", loss="kd", temperature=4.0, epochs=1)
    settings["store"] = str(make_store(world, "noisy", k=1, tail_samples=1, views=2))
    with pytest.raises(ConfigError, match=r"is off by \S+ of its length") as found:
        train(TrainConfig.from_flat(**settings))
    train(TrainConfig.from_flat(**settings, approximate_teacher=True))
    enough = int(re.search(r"--tail_samples (\d+) or more", str(found.value))[1])
    settings["store"] = str(make_store(world, "enough", k=1, tail_samples=enough, views=2))
    train(TrainConfig.from_flat(**{**settings, "output": str(tmp_path / "other")}))


def test_what_needs_the_order_is_refused(world, store, tmp_path):
    settings = student_settings(world, tmp_path / "run", store=str(store), loss="pld", temperature=2.0, epochs=1)
    with pytest.raises(ConfigError, match=r"this loss needs all: at temperature 2 .*K=12 or --online-teacher"):
        train(TrainConfig.from_flat(**settings))
    settings |= {"loss": "kd", "store": str(world / "top5")}
    with pytest.raises(ConfigError, match=r"K=12 or with --tail_samples 6 or --online-teacher"):
        train(TrainConfig.from_flat(**settings))


def test_inspect_says_what_the_sample_is_worth(store, capsys):
    assert run(pld, ["inspect", str(store)]) == 0
    printed = capsys.readouterr().out
    assert "4 classes of each view, drawn with known probabilities" in printed
    assert "unbiased; of one view off by at most" in printed
    assert run(pld, ["verify", str(store)]) == 0
