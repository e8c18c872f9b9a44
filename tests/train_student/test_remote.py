"""Stage two from a store on S3: the same training as from a folder, also where loader workers are forked."""

import json

import pytest

from cache_teacher.cache import cache
from cache_teacher.config import CacheConfig
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


@pytest.mark.long
@pytest.mark.parametrize("workers", [0, 2])
def test_the_command_trains_from_s3(world, store, tmp_path, workers):
    settings = student_settings(world, tmp_path / "run", store=store, workers=workers)
    (tmp_path / "run.yaml").write_text(json.dumps(settings))
    python(ROOT / "train_student.py", "--config", tmp_path / "run.yaml", cwd=tmp_path)
    assert len(losses(tmp_path / "run")) == 2
