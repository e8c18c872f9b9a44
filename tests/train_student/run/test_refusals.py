"""Wrong input to stage two: said clearly, in one screen, before anything is written."""

import json
import re
import shutil

import pytest

from pld.config import run
from tests.making import jpeg, make_dataset, student_settings, write_tar
from tests.train_student.runs import as_arguments
from train_student.config import TrainConfig
from train_student.run.train import main as train_main
from train_student.run.train import train


def refused(settings, capsys):
    assert run(train_main, as_arguments(settings)) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) <= 24
    return error


REFUSED = [
    ({"data": None, "store": None}, r"--data and --store not given(?s:.*)make cache TEACHER="),
    ({"store": None}, "--store not given"),
    ({"data": "nowhere"}, "nowhere: no such file"),
    ({"store": "nowhere"}, "nowhere.*: there is no store(?s:.*)make"),
    ({"model": "resnet81"}, "unknown model 'resnet81'; nearest are .*resnet18"),
    ({"model_kwargs": {"layer": 3}}, "model_kwargs"),
    ({"loss": "pdl"}, "loss 'pdl'.*pld"),
    ({"loss": "ce", "temperature": 2.0}, "loss 'ce' has no setting 'temperature'"),
    ({"opt": "lamp"}, "--opt lamp"),
    ({"views": 4}, r"holds views 0..2; --views 4 wants 0..3(?s:.*)make cache VIEWS=4"),
    ({"batch_size": 1000}, "--batch_size 1000: there are 260 images"),
    ({"online_teacher": True}, "--online-teacher wants --teacher NAME"),
    ({"store": "TOP5", "loss": "kd"}, "top 5 of 12 classes; this loss needs all(?s:.*)--approximate-teacher"),
    ({"num_classes": 5}, "the number of classes"),
    ({"store": None, "loss": "ce", "num_classes": None}, "give --num_classes"),
    ({"epoch": 3}, "unknown option 'epoch'; nearest are epochs"),
    ({"views": 0}, "--views 0: wanted at least 1"),
    ({"sched": "cosin"}, "sched(?s:.*)cosine"),
    ({"opt_kwargs": {"beta": 3}}, r"--opt_kwargs {'beta': 3}: adamw: .*beta"),
    ({"opt_kwargs": {"betas": [2.0, 0.9]}}, "--opt_kwargs .*: adamw: .*beta"),
    ({"accumulate": 3}, "--batch_size 16: 1 processes of 3 micro-batches do not divide it"),
    ({"ema_decay": 1.0}, "--ema_decay 1.0: wanted a number between 0 and 1"),
    ({"clip_grad": 0.0}, "--clip_grad 0.0: wanted a number above 0"),
    ({"keep_checkpoints": 0}, "--keep_checkpoints 0: wanted at least 1"),
    ({"tracker": "nonsense"}, "--tracker nonsense"),
    ({"val_store": "nowhere"}, "nowhere.*: there is no store"),
    ({"missing": "ignore"}, "missing"),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED, ids=[message[:28] for _, message in REFUSED])
def test_wrong_input_is_refused_before_anything_is_written(world, tmp_path, capsys, settings, message):
    settings = {name: str(world / "top5") if value == "TOP5" else value for name, value in settings.items()}
    error = refused(student_settings(world, tmp_path / "run", **settings), capsys)
    assert re.search(message, error), error
    assert not (tmp_path / "run").exists()


def test_an_unknown_key_in_a_file_is_refused(world, tmp_path, capsys):
    settings = student_settings(world, tmp_path / "run")
    (tmp_path / "run.yaml").write_text(json.dumps({**settings, "learning_rat": 1e-3, "warmup_epoch": 1}))
    assert run(train_main, ["--config", str(tmp_path / "run.yaml")]) == 2
    assert re.search(r"unknown option '(learning_rat'; nearest are|warmup_epoch'; nearest are warmup_epochs)",
                     capsys.readouterr().err)  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_the_dataset_must_be_the_stores(world, tmp_path, capsys):
    more = make_dataset(tmp_path / "more", shard_sizes=(60, 45, 70, 52, 34), num_val=5)
    error = refused(student_settings(world, tmp_path / "run", data=str(more)), capsys)
    assert "train-0260" in error
    relabelled = tmp_path / "relabelled"
    write_tar(relabelled / "train-0000.tar", {f"train-{i:04d}.{ext}": data for i in range(20)
              for ext, data in (("jpg", jpeg(i)), ("cls", str((i + (i == 7)) % 12).encode()))})  # fmt: skip
    shutil.copy(more / "val-0000.tar", relabelled)
    error = refused(student_settings(world, tmp_path / "run", data=str(relabelled)), capsys)
    assert "1 of 20 labels are not those of" in error
    assert "sample train-0007 has 8" in error
    names = tmp_path / "names"
    shutil.copytree(world / "data", names)
    (names / "dataset.json").write_text(json.dumps({"class_names": [f"c{i}" for i in range(11)]}))
    assert "label 11" in refused(student_settings(world, tmp_path / "run", data=str(names)), capsys)


def test_validation_has_the_classes_of_training(world, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(world / "data", data)
    (data / "dataset.json").write_text(json.dumps({"class_names": [f"c{i}" for i in range(12)]}))
    val = tmp_path / "val"
    val.mkdir()
    shutil.copy(data / "val-0000.tar", val)
    (val / "dataset.json").write_text(json.dumps({"class_names": [f"c{i}" for i in (1, 0, *range(2, 11), 99)]}))
    error = refused(student_settings(world, tmp_path / "run", data=str(data), val_data=str(val)), capsys)
    assert "1 of 12 classes are not among those of" in error
    assert "'c99'" in error
    assert not (tmp_path / "run").exists()


def test_a_run_folder_that_cannot_be_written(world, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    error = refused(student_settings(world, tmp_path / "file" / "run"), capsys)
    assert re.search(r"file/run: cannot be written: .*; make room, or name another place", error)


def test_a_run_is_not_written_over(world, tmp_path, capsys):
    settings = student_settings(world, tmp_path / "run", epochs=1)
    train(TrainConfig.from_flat(**settings))
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert "holds a run already" in refused(settings, capsys)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_a_folder_that_is_no_run_is_left_alone(world, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious")
    for resume in ("never", "auto"):
        assert run(train_main, as_arguments(student_settings(world, tmp_path / "run", resume=resume))) == 2
        assert "is there and is not a run's folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]
    shutil.rmtree(tmp_path / "run")
