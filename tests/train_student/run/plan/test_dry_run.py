"""`--dry-run`: what it says of a run, with and without data and store, and that it leaves nothing."""

import math
import re

import fsspec
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from pld.classes.matching import Classes
from pld.config import run
from pld.errors import ConfigError, PLDError
from pld.report.quantities import bytes_per_view
from pld.store import open_store
from tests.making import student_settings
from tests.processes import ROOT, python, torchrun
from train_student.config import RECIPES, TrainConfig
from train_student.model.student import Student, student_preprocessing
from train_student.option_groups import OptimizerOptions
from train_student.run.plan import smoke_run
from train_student.run.plan.dry_run import dry_run, lr_curve
from train_student.run.train import main as train_main

PAPER = sorted(path.stem for path in (RECIPES / "paper").iterdir())


def line(text, label):
    """What stands behind a row's label."""
    (found,) = re.findall(rf"^{label}  +(.*)$", text, flags=re.MULTILINE)
    return found


def dry(folder, monkeypatch, capsys, *argv):
    """The output of a dry run in an empty folder, which stays empty."""
    monkeypatch.chdir(folder)
    assert run(train_main, [*argv, "--dry-run"]) == 0
    assert not list(folder.iterdir())
    return capsys.readouterr().out


def test_a_recipe_needs_neither_data_nor_store_nor_teacher(tmp_path, monkeypatch, capsys):
    text = dry(tmp_path, monkeypatch, capsys, "--config", "paper/mnv4_conv_small_mnv4_hybrid_large_pld_adan")
    assert line(text, "steps") == "62,500"
    assert line(text, "epochs") == "100, of 625 steps each"
    assert line(text, "batch") == "2,048 images, 2,048 for each of 1 process"
    assert line(text, "images") == "1,281,167, 1000 classes; 1,167 dropped each epoch"
    assert "ImageNet-1k's number of images, for want of:" in text
    assert "data/imagenet: no such file" in text
    assert re.search(r"^learning rate +0\.009938 after 5\.0 epochs, 3,125 steps$", text, flags=re.MULTILINE)
    assert line(text, "weights") == "15.1 MB, 3,774,024 parameters"
    assert line(text, "optimizer") == "60.4 MB, adan"  # three moments and the last gradient, each as the weights
    assert line(text, "size") == "about 5.99 GB: 50 views x 1,281,167 images x 93.5 bytes (k = 50)"
    assert line(text, "step 2").endswith("4 made-up images in each process")


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        ([], r"needs +any k; 50 recommended"),
        (["--loss", "kd"], r"needs +all 1000 classes: at temperature 2 .*\nsize +about 89 GB: .* 1,390 bytes"),
        (["--loss", "kd", "--online-teacher", "--teacher", "resnet152"], "no store: the teacher runs in training"),
        (["--loss", "ce"], "no store: no teacher"),
        (["--num_classes", "7"], r"7 classes; (?s:.*)any k; 7 recommended"),
    ],
)
def test_what_a_loss_needs(tmp_path, monkeypatch, capsys, argv, wanted):
    small = ["--model", "test_resnet", "--image_size", "64"]
    assert re.search(wanted, dry(tmp_path, monkeypatch, capsys, *small, *argv))


def test_micro_batches_and_an_average_are_counted(tmp_path, monkeypatch, capsys):
    argv = ["--model", "test_resnet", "--image_size", "64", "--batch_size", "64"]
    plain = dry(tmp_path, monkeypatch, capsys, *argv)
    assert re.search(r"for 64 images at once", line(plain, "activations"))
    assert "average " not in plain
    more = dry(tmp_path, monkeypatch, capsys, *argv, "--accumulate", "4", "--ema_decay", "0.9", "--clip_grad", "1")
    assert re.search(r"for 16 images at once", line(more, "activations"))
    weights = line(plain, "weights").partition(",")[0]
    assert line(more, "average") == f"{weights}, of the weights"


def test_data_and_store_that_are_there_give_their_own_figures(world, tmp_path, capsys):
    settings = student_settings(world, tmp_path / "run", dry_run=True)
    dry_run(TrainConfig.from_flat(**settings))
    text = capsys.readouterr().out
    assert line(text, "steps") == "32"
    assert line(text, "images") == "260, 12 classes; 4 dropped each epoch"
    assert "for want of" not in text
    assert line(text, "validation").startswith("37 images, ")
    pattern = r"(\d+) steps of 16 real images in \S+ seconds, \S+ images a second, after 2 steps to warm up"
    assert re.fullmatch(pattern, line(text, "measured"))[1] == "14"
    assert re.fullmatch(r"about \S+ \w+ for all steps; validating 37 images 2 times comes on top", line(text, "time"))
    store = open_store(str(world / "full"))
    assert line(text, "holds") == f"top 12 of 12, 3 views, {store.num_bytes / 1e3:.3g} kB"
    dry_run(TrainConfig.from_flat(**{**settings, "data": "nowhere"}))
    text = capsys.readouterr().out
    assert line(text, "images") == "260, 12 classes; 4 dropped each epoch"
    assert "the store's number of images, for want of:" in text
    dry_run(TrainConfig.from_flat(**{**settings, "store": "nowhere"}))
    text = capsys.readouterr().out
    assert line(text, "images") == "260, 12 classes; 4 dropped each epoch"
    assert "the data's number of images, for want of:" in text
    assert "nowhere/store.json: there is no store" in text
    assert not (tmp_path / "run").exists()


def test_behind_urls_the_store_is_asked_and_no_image_fetched(world, tmp_path, bucket, object_store, capsys):
    place = fsspec.filesystem("s3")
    for name in ("data", "full"):
        place.put(f"{world / name}/", f"{bucket}/{name}", recursive=True)
    dry_run(
        TrainConfig.from_flat(
            **student_settings(
                world, tmp_path / "run", dry_run=True, data=f"{bucket}/data", store=f"{bucket}/full", batch_size=20
            )
        )
    )
    text = capsys.readouterr().out
    assert line(text, "images") == "260, 12 classes; 0 dropped each epoch"
    assert f"the store's number of images, for want of:\n{bucket}/data: images behind URLs" in re.sub(
        r"\n +", "\n", text
    )
    assert line(text, "holds").startswith("top 12 of 12, 3 views")
    assert not list((tmp_path / "pld-cache").glob("shards/*"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"store": "top5", "loss": "kd"}, "top 5 of 12 classes; this loss needs all"),
        ({"batch_size": 1000}, "--batch_size 1000: there are 260 images"),
        ({"batch_size": 16, "accumulate": 3}, "1 processes of 3 micro-batches do not divide it"),
        ({"num_classes": 5}, "the number of classes"),
        ({"opt": "lamp"}, "--opt lamp"),
        ({"model": "resnet81"}, "unknown model 'resnet81'"),
    ],
)
def test_what_would_stop_the_run_stops_the_dry_one(world, tmp_path, settings, message):
    settings = {name: str(world / value) if name == "store" else value for name, value in settings.items()}
    with pytest.raises(PLDError, match=message):
        dry_run(TrainConfig.from_flat(**student_settings(world, tmp_path / "run", **settings)))


def test_an_incomplete_run_is_still_refused_without_it():
    with pytest.raises(ConfigError, match="nothing to train from"):
        TrainConfig.from_flat(model="resnet18")
    assert TrainConfig.from_flat(model="resnet18", dry_run=True).run.dry_run


@pytest.mark.parametrize(("epochs", "warm", "steps"), [(100, 5, 625), (300, 5, 625), (8, 1, 173), (1, 0, 1), (2, 0, 3)])
def test_the_learning_rates_are_the_formulas(epochs, warm, steps):
    curve = lr_curve(OptimizerOptions(epochs=epochs, warmup_epochs=warm, lr=0.5), steps)
    total, end = epochs * steps, warm * steps
    assert (curve[0][0], curve[-1][0]) == (0, total - 1)
    assert {min(end, total - 1)} <= {step for step, _ in curve}
    assert len(curve) <= 6
    for step, lr in curve:
        cosine = 0.25 * (1 + math.cos(math.pi * step / total))
        assert lr == pytest.approx(1e-5 + (0.5 - 1e-5) * step / end if step < end else cosine), step


def test_the_bytes_of_a_store():
    assert [bytes_per_view(k) for k in (10, 50, 1000)] == [27.7, 93.5, 1390]
    assert bytes_per_view(525) == pytest.approx((93.5 + 1390) / 2)
    assert bytes_per_view(2000) == 2780
    assert [bytes_per_view(10, m) for m in (4, 8, 16, 26)] == pytest.approx([38.8, 45.4, 58.5, 74.5])


def test_the_activations_are_those_of_the_formula(monkeypatch):
    """Inputs of the two layers and, for the batch, cross entropy's: its log-probabilities, labels and a count."""
    layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 16), nn.ReLU(), nn.Linear(16, 5))
    preprocessing = student_preprocessing(8, None)
    monkeypatch.setattr(smoke_run, "build_student", lambda *_, **__: Student(model=layers, preprocessing=preprocessing))
    config = TrainConfig.from_flat(dry_run=True, loss="ce", image_size=8, opt="adamw", batch_size=100)
    found = dict(
        smoke_run.smoke_run(config, Accelerator(), classes=Classes(names=None, count=5, owner="made-up images"), k=5)
    )
    weights = 4 * (192 * 16 + 16 + 16 * 5 + 5)
    moments, steps = 2 * weights, 4 * 4  # a float32 step for each of the four tensors
    hidden, images, logits, labels = 4 * 16, 4 * 192, 4 * 5, 8
    least, most = (100 * (hidden + images + n * logits) for n in (1, 2))
    kilobytes = {name: float(found[name].partition(" kB")[0]) for name in ("weights", "optimizer", "activations")}
    assert kilobytes["weights"] == pytest.approx(weights / 1e3, rel=5e-3)
    assert kilobytes["optimizer"] == pytest.approx((moments + steps) / 1e3, rel=5e-3)
    assert 0.995 * least <= 1e3 * kilobytes["activations"] <= 1.005 * (most + 100 * 2 * labels + 64)
    assert found["activations"].endswith("for 100 images at once")
    together = 2 * kilobytes["weights"] + kilobytes["optimizer"] + kilobytes["activations"]
    assert float(found["together"].partition(" kB")[0]) == pytest.approx(together, rel=1e-2)


def test_a_batch_that_does_not_fit_says_so(monkeypatch):
    def exhausted(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(smoke_run, "_batch", exhausted)
    config = TrainConfig.from_flat(dry_run=True, loss="ce", model="test_resnet", image_size=32, batch_size=2)
    with pytest.raises(ConfigError, match="--batch_size 2: 2 images at once do not fit cpu: lower it"):
        smoke_run.smoke_run(config, Accelerator(), classes=Classes(names=None, count=5, owner="made-up images"), k=5)


@pytest.mark.long
def test_two_processes_share_the_batch(tmp_path):
    argv = ["-m", "train_student", "--model", "test_resnet", "--image_size", "32", "--batch_size", "6", "--dry-run"]
    done = torchrun(2, argv, cwd=tmp_path)
    assert done.stdout.count("a dry run") == 1
    assert line(done.stdout, "batch") == "6 images, 3 for each of 2 processes"
    assert line(done.stdout, "step 2").endswith("3 made-up images in each process")
    weights, gradients = (float(line(done.stdout, name).partition(" ")[0]) for name in ("weights", "gradients"))
    assert gradients == pytest.approx(2 * weights, rel=1e-2)  # and in DDP's buckets
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_the_command_as_the_readme_has_it(tmp_path):
    launch = ["-m", "accelerate.commands.accelerate_cli", "launch", "--quiet", ROOT / "train_student.py"]
    recipe = ["--config", "paper/mnv4_conv_small_mnv4_conv_large_dist", "--image_size", "64", "--dry-run"]
    done = python(*launch, *recipe, cwd=tmp_path)
    assert "runs/paper/mnv4_conv_small_mnv4_conv_large_dist: mobilenetv4_conv_small, dist: a dry run" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.long
@pytest.mark.parametrize("name", PAPER)
def test_every_recipe_runs_dry(name, tmp_path, monkeypatch, capsys):
    text = dry(tmp_path, monkeypatch, capsys, "--config", f"paper/{name}")
    assert line(text, "steps") == ("187,500" if name.endswith("_300epochs") else "62,500")
    assert float(re.search(r"step 2 +loss ([\d.]+)", text)[1]) > 0
