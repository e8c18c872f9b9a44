"""Stage two from a store on S3: the same training as from a folder, also where loader workers are forked."""

import json

import pytest

from cache_teacher.cache import cache
from cache_teacher.config import CacheConfig
from pld.cli.main import _main as pld
from pld.config import run
from tests.making import NUM_CLASSES, student_settings
from tests.processes import ROOT, python
from train_student.config import TrainConfig
from train_student.train import train


def losses(run):
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def store(world, bucket):
    """The world's `full` on S3."""
    teacher, data = f"local-dir:{world / 'teacher'}", str(world / "data")
    cache(CacheConfig(teacher=teacher, data=data, views=3, k=NUM_CLASSES, store=f"{bucket}/full", threads=1))
    return f"{bucket}/full"


def test_training_from_s3_is_training_from_a_folder(world, store, tmp_path):
    train(TrainConfig(**student_settings(world, tmp_path / "local")))
    for workers in (0, 2):
        run = tmp_path / f"workers-{workers}"
        train(TrainConfig(**student_settings(world, run, store=store, workers=workers)))
        assert losses(run) == losses(tmp_path / "local")


def test_a_store_cached_to_s3_travels_and_is_trained_from_at_its_ends(world, store, tmp_path, capsys):
    """Pushed to another place, verified and inspected there, pulled to a folder: three places, one training."""
    pushed, pulled = store.replace("/full", "/pushed"), str(tmp_path / "pulled")
    for command, printed in (
        (["push", store, pushed], f"{pushed}: "),
        (["verify", pushed], f"{pushed}: no problem found in 780 sample-views"),
        (["inspect", pushed], "samples 260 views 3, top 12 of 12 classes"),
        (["pull", pushed, pulled], f"{pulled}: "),
        (["verify", pulled], f"{pulled}: no problem found in 780 sample-views"),
    ):
        assert run(pld, command) == 0
        assert printed in " ".join(capsys.readouterr().out.split())
    for number, place in enumerate((store, pushed, pulled)):
        train(TrainConfig(**student_settings(world, tmp_path / str(number), store=place, epochs=1)))
        assert losses(tmp_path / str(number)) == losses(tmp_path / "0")


@pytest.mark.long
@pytest.mark.parametrize("workers", [0, 2])
def test_the_command_trains_from_s3(world, store, tmp_path, workers):
    settings = student_settings(world, tmp_path / "run", store=store, workers=workers)
    (tmp_path / "run.yaml").write_text(json.dumps(settings))
    python(ROOT / "train_student.py", "--config", tmp_path / "run.yaml", cwd=tmp_path)
    assert len(losses(tmp_path / "run")) == 2
