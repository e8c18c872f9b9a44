"""Validation that fails or has broken images, and the checkpoint that is written before it."""

import json
import multiprocessing
import re
import shutil

import numpy as np
import pytest
import torch
from accelerate import Accelerator

import pld.evaluation
import train_student.loop.trainer
from pld.classes.matching import Classes
from pld.cli.main import main as pld_main
from pld.errors import DataError, UndecodableImageError
from pld.evaluation import stored_signals
from pld.images import open_source
from pld.store import open_store
from pld.views.preprocessing import Preprocessing
from tests.making import NUM_CLASSES, make_store, student_settings
from tests.processes import python, torchrun
from tests.train_student.broken import SETTINGS, damage, val_key
from tests.train_student.runs import as_arguments, assert_same_weights, metrics, train_world
from train_student.config import TrainConfig
from train_student.loop.checkpoint import Checkpoints
from train_student.loop.evaluate import evaluate
from train_student.loop.learner import Learner
from train_student.model.student import build_student
from train_student.run.train import train

STEPS = 16  # 260 images in batches of 16
CLASSES = Classes(names=None, count=NUM_CLASSES, owner="the world")
PREPROCESSING = Preprocessing(input_size=(32, 32))


@pytest.fixture
def val(world, tmp_path):
    """The validation images, one whole batch of 4 damaged and more; which are good; and the teacher of them all."""
    make_store(world, str(tmp_path / "val"), split="val", policy="fixed", views=1, k=NUM_CLASSES)
    data = shutil.copytree(world / "data", tmp_path / "val-data")
    bad = [4, 5, 6, 7, 17, 36]
    damage(data, *map(val_key, bad))
    source = open_source(str(data), "val")
    return source, ~np.isin(np.arange(len(source)), bad), open_store(str(tmp_path / "val"))


@pytest.mark.parametrize("workers", [0, 2])
def test_validation_is_that_of_the_good_images(world, tmp_path, val, workers):
    """Against the same images without the bad ones; the teacher's logits are each image's own."""
    source, good, store = val
    config = TrainConfig.from_flat(**student_settings(world, tmp_path / "run"))
    torch.manual_seed(0)
    model = build_student(config.model, CLASSES).model
    figures = []
    for images, how in ((source, "skip"), (source.subset(good), "error")):
        figures.append(
            pld.evaluation.evaluate(
                lambda pixels: model.eval()(PREPROCESSING.normalize(pixels)),
                images,
                PREPROCESSING,
                device=torch.device("cpu"),
                teacher=stored_signals(store, images),
                workers=workers,
                batch_size=4,
                on_bad_image=how,
            )
        )
    assert figures[0].pop("val_bad_images") == (~good).sum()
    assert figures[0] == pytest.approx(figures[1], rel=1e-6)
    assert set(figures[0]) == {"top1", "top5", "nll", "ece", "agreement", "kl"}


def test_nothing_to_validate_on(world, tmp_path, val):
    source, _, _ = val
    damage(tmp_path / "val-data", *map(source.key, range(len(source))))
    model = build_student(TrainConfig.from_flat(**student_settings(world, tmp_path / "run")).model, CLASSES).model
    with pytest.raises(DataError, match="none of the 37 validation images can be decoded"):
        evaluate(Accelerator(), model, open_source(str(tmp_path / "val-data"), "val"), PREPROCESSING, teacher=None,
                 workers=0, on_bad_image="skip")  # fmt: skip


def checkpoints(folder):
    return sorted(int(path.stem.removeprefix("step-")) for path in (folder / "checkpoints").iterdir())


@pytest.fixture
def steps(monkeypatch):
    """The steps that are done."""
    seen, step = [], Learner.step
    monkeypatch.setattr(Learner, "step", lambda self, batches, done: seen.append(done + 1) or step(self, batches, done))
    return seen


@pytest.fixture
def workers_by(request):
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(request.param, force=True)
    yield request.param
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.parametrize(
    ("workers_by", "eval_every"),
    [("fork", 1), ("fork", 2), pytest.param("spawn", 2, marks=pytest.mark.long)],
    indirect=["workers_by"],
)
def test_a_validation_that_fails_costs_no_epoch(world, tmp_path, data, steps, workers_by, eval_every):
    """Then the image is replaced: nothing is trained twice, and what comes out is what comes out undisturbed."""
    more = {"data": str(data), "eval_every": eval_every, "workers": 1, **SETTINGS}
    train_world(world, tmp_path / "undisturbed", **more)
    steps.clear()
    damage(data, val_key())
    settings = student_settings(world, tmp_path / "run", **more, resume="auto")
    done = eval_every * STEPS
    for _ in range(2):  # the second time it does nothing but fail again
        with pytest.raises(UndecodableImageError, match=f"sample {val_key()}"):
            train(TrainConfig.from_flat(**settings))
        assert checkpoints(tmp_path / "run") == [done]
        assert [line["epoch"] for line in metrics(tmp_path / "run")] == list(range(1, eval_every))
    assert steps == list(range(1, done + 1))
    shutil.copy(world / "data" / "val-0000.tar", data)
    train(TrainConfig.from_flat(**settings))
    assert steps == list(range(1, 2 * STEPS + 1))
    assert_same_weights(tmp_path / "run", tmp_path / "undisturbed")
    ours, theirs = metrics(tmp_path / "run"), metrics(tmp_path / "undisturbed")
    assert [line["epoch"] for line in ours] == [1, 2]
    for mine, other in zip(ours, theirs, strict=True):
        assert set(mine) == set(other)
        for name in {*mine} - {"seconds", "images_per_second", "wait_share"}:
            assert mine[name] == other[name] or name.startswith("time/"), name
        assert mine["images_per_second"] > 0


def test_what_went_on_says_where(world, tmp_path, data, console):
    """And with the option it goes on past the image; one run is finished once."""
    damage(data, val_key())
    settings = student_settings(world, tmp_path / "run", data=str(data), epochs=1, tracker="none", resume="auto")
    with pytest.raises(UndecodableImageError):
        train(TrainConfig.from_flat(**settings))
    train(TrainConfig.from_flat(**settings, on_bad_image="skip"))
    printed = console.readouterr().out
    assert "goes on from step-000000016.safetensors, epoch 1, which is trained" in printed
    assert "epoch 1: validation images left out, as they cannot be decoded: 1" in printed
    assert [line["val_bad_images"] for line in metrics(tmp_path / "run")] == [1]
    train(TrainConfig.from_flat(**settings))
    assert "finished already" in console.readouterr().out


def test_a_checkpoint_is_whole_before_any_process_validates(world, tmp_path, monkeypatch):
    """One that fails is the end of them all, of the one that writes too. A step's checkpoint is written once."""
    events = []
    monkeypatch.setattr(Accelerator, "wait_for_everyone", lambda self: events.append("all are here"))
    save, validate = Checkpoints.save, train_student.loop.trainer.evaluate
    monkeypatch.setattr(Checkpoints, "save", lambda *a: save(*a) and events.append(f"saved {a[1]}"))
    monkeypatch.setattr(
        train_student.loop.trainer, "evaluate", lambda *a, **b: events.append("validates") or validate(*a, **b)
    )
    settings = {"epochs": 3, "eval_every": 2, "checkpoint_steps": 12, "tracker": "none"}
    train_world(world, tmp_path / "run", **settings)
    wanted = ["all are here", "saved 12", "saved 24", "saved 32", "all are here", "validates"]  # first at the lock
    wanted += ["saved 36", "saved 48", "all are here", "validates"]
    assert [event for event in events if event in wanted] == wanted
    assert checkpoints(tmp_path / "run") == [36, 48]  # --keep_checkpoints 2


def test_two_processes_of_which_one_fails_to_validate(world, tmp_path, data):
    damage(data, val_key())
    settings = student_settings(world, tmp_path / "run", data=str(data), tracker="none", epochs=1, resume="auto")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "train_student"]
    failed = python(*launcher, *as_arguments(settings), cwd=tmp_path, check=False)
    assert failed.returncode
    assert f"sample {val_key()}: cannot be decoded" in failed.stderr
    assert f"sample {val_key()}: cannot be decoded" in failed.stderr.splitlines()[-2]  # below the launcher's own lines
    assert checkpoints(tmp_path / "run") == [STEPS]
    shutil.copy(world / "data" / "val-0000.tar", data)
    torchrun(2, ["-m", "train_student", *as_arguments(settings)], cwd=tmp_path)
    (found,) = metrics(tmp_path / "run")
    assert found["top1"] >= 0
    assert checkpoints(tmp_path / "run") == [STEPS]


def test_a_run_without_validation(world, tmp_path, console, monkeypatch):
    """It is trained as ever, has no such figures, and stands in the report without them."""
    settings = {"tracker": "none", "eval_every": 1}
    train_world(world, tmp_path / "without", **settings, val_data="none")
    printed = console.readouterr().out
    assert re.search(
        r"without: epoch 2/2: loss [^;]+ img/s, lr [^;]+; time: [^;]+; \d+ s in all$", printed, re.MULTILINE
    )
    assert not any("top1" in line for line in metrics(tmp_path / "without"))
    assert [line["epoch"] for line in metrics(tmp_path / "without")] == [1, 2]
    train_world(world, tmp_path / "with", **settings)
    assert_same_weights(tmp_path / "without", tmp_path / "with")
    for name in ("first", "second"):
        shutil.copytree(tmp_path / "without", tmp_path / name)
        config = (tmp_path / name / "config.yaml").read_text()
        (tmp_path / name / "config.yaml").write_text(config.replace("seed: 0", f"seed: {len(name)}"))
    for names in (("without", "with", "first"), ("with", "without"), ("first", "second")):
        page = tmp_path / "page.html"
        monkeypatch.setattr(
            "sys.argv", ["pld", "report", *(str(tmp_path / name) for name in names), "--out", str(page)]
        )
        assert pld_main() == 0
        printed = console.readouterr().out
        for name in names:
            top1 = f"{metrics(tmp_path / 'with')[-1]['top1']:.2f}" if name == "with" else "-"
            assert re.search(rf"^{name} +{re.escape(top1)} ", printed, re.MULTILINE), printed
        assert "lowest to highest" not in printed
        assert ("<h2>Summary</h2>" in page.read_text()) == ("with" in names)
        assert "<h2>Sizes</h2>" in page.read_text()


def test_such_a_run_that_has_no_epoch_yet(world, tmp_path, console, monkeypatch):
    train_world(world, tmp_path / "run", tracker="none", epochs=1, val_data="none")
    (tmp_path / "run" / "metrics.jsonl").write_text("")
    monkeypatch.setattr("sys.argv", ["pld", "report", str(tmp_path / "run")])
    assert pld_main() == 2
    assert "no epoch in it yet" in console.readouterr().err
    assert json.loads((tmp_path / "run" / "run.json").read_text())["num_val"] == 0
