"""Stage two in this process and in two: what it leaves, and what it refuses."""

import json
import re
import shutil

import pytest
import timm
import torch

import pld.teachers
import pld.views
import train_student.data.teacher_signal
import train_student.loop.run_batches
from pld.cli.main import main as pld_main
from pld.errors import PLDError
from pld.images import open_source
from pld.images.dataset import read_image
from pld.report.runs.groups import group_runs
from pld.report.runs.read import read_run
from pld.report.runs.table import RUN_COLUMNS, run_rows
from tests.making import NUM_CLASSES, jpeg, make_store, shard_members, student_settings, write_tar
from tests.processes import ROOT, python, torchrun
from tests.train_student.runs import as_arguments, metrics, parse, train_world
from train_student.config import TrainConfig
from train_student.model.student import student_preprocessing
from train_student.run.train import train


def test_a_run_leaves_everything_about_itself(world, tmp_path, console):
    settings = student_settings(world, tmp_path / "run")
    train(TrainConfig.from_flat(**settings))
    printed = console.readouterr().out
    assert "260 images, 12 classes, 1 process; 4 images of a last partial batch dropped each epoch" in printed
    assert re.search(r"run: epoch 2/2: loss [\d.]+ \(label [\d.]+, teacher [\d.]+\), top-1 [\d.]+ %, top-5", printed)
    lines = metrics(tmp_path / "run")
    assert [line["epoch"] for line in lines] == [1, 2]
    assert {"loss", "lr", "top1", "top5", "nll", "images_per_second", "wait_share", "seconds"} <= set(lines[0])
    assert lines[1]["loss"] < lines[0]["loss"]
    assert parse("--config", str(tmp_path / "run" / "config.yaml")) == TrainConfig.from_flat(**settings)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["num_views"] == 3
    assert len(facts["store_fingerprint"]) == 64
    model = timm.create_model(f"local-dir:{tmp_path / 'run' / 'model'}", pretrained=True)
    assert model.num_classes == NUM_CLASSES
    assert model.pretrained_cfg["input_size"] == (3, 32, 32)


def validated(run, config):
    """Top-1 (percent) and NLL of a run's exported model, image by image."""
    model = timm.create_model(f"local-dir:{run / 'model'}", pretrained=True).eval()
    source = open_source(config.data.images, "val")
    preprocessing = student_preprocessing(config.model.image_size, config.validation.crop_fraction)
    assert pld.teachers.model_preprocessing(model) == preprocessing
    hits, nll = 0, 0.0
    for row in range(len(source)):
        image = read_image(source, row)
        view = pld.views.draw_view(
            "", 0, tuple(image.shape[1:]), pld.views.Fixed(crop_fraction=preprocessing.crop_fraction)
        )
        pixels = pld.views.apply_view(image, view, 32)[None]
        with torch.no_grad():
            logits = model(preprocessing.normalize(pixels))
        hits += int(logits.argmax() == source.labels[row])
        nll -= float(logits.log_softmax(1)[0, source.labels[row]])
    return 100 * hits / len(source), nll / len(source)


def test_the_exported_model_is_the_one_that_was_validated(world, tmp_path):
    config = TrainConfig.from_flat(**student_settings(world, tmp_path / "run", epochs=1))
    train(config)
    top1, nll = validated(tmp_path / "run", config)
    last = metrics(tmp_path / "run")[-1]
    assert last["top1"] == pytest.approx(top1)
    assert last["nll"] == pytest.approx(nll, rel=1e-4)


def test_a_run_is_repeatable(world, tmp_path):
    for name in "ab":
        train_world(world, tmp_path / name)
    first, second = (metrics(tmp_path / name)[-1] for name in "ab")
    assert (first["loss"], first["nll"]) == (second["loss"], second["nll"])


def test_stage_two_needs_no_teacher(world, tmp_path, monkeypatch):
    """The teacher's weights are gone and its module cannot be built."""
    copy = tmp_path / "world"
    shutil.copytree(world, copy)
    shutil.rmtree(copy / "teacher")
    built = []

    def refuse(*arguments, **_):
        raise AssertionError(f"a teacher was built: {arguments}")

    create = timm.create_model
    monkeypatch.setattr(train_student.data.teacher_signal, "build_teacher", refuse)
    monkeypatch.setattr(pld.teachers, "build_teacher", refuse)
    monkeypatch.setattr(timm, "create_model", lambda name, **kwargs: built.append(name) or create(name, **kwargs))
    for loss in ("pld", "kd"):
        train_world(copy, tmp_path / loss, loss=loss, epochs=1)
        assert metrics(tmp_path / loss)[-1]["epoch"] == 1
    assert built == ["resnet18", "resnet18"]  # the students


MORE_LOSSES = [pytest.param(loss, marks=pytest.mark.long) for loss in ("wttm", "rld", "rkl", "js", "soft_ce")]


@pytest.mark.parametrize("loss", ["ce", "ls", "kd", "dist", "dkd", "listmle", "plistmle", "pld", "ea_kd", *MORE_LOSSES])
def test_every_loss_trains(world, tmp_path, loss):
    train_world(world, tmp_path / loss, loss=loss, epochs=1)
    assert metrics(tmp_path / loss)[-1]["loss"] > 0


@pytest.mark.parametrize("settings", [{}, {"temperature": 2.0, "loss": "kd"}])
def test_a_live_teacher_gives_nearly_the_stored_run(world, tmp_path, settings):
    teacher = f"local-dir:{world / 'teacher'}"
    train_world(world, tmp_path / "stored", epochs=1, **settings)
    live = student_settings(world, tmp_path / "live", epochs=1, online_teacher=True, teacher=teacher, **settings)
    train(TrainConfig.from_flat(**live))
    stored, live = (metrics(tmp_path / name)[-1]["loss"] for name in ("stored", "live"))
    assert stored == pytest.approx(live, rel=2e-3)
    assert stored != live


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("opt", ["lamb", "adan", "adabelief", "adamw"])
def test_precisions_and_optimizers(world, tmp_path, precision, opt):
    train_world(world, tmp_path / "r", epochs=1, precision=precision, opt=opt, workers=1)
    assert metrics(tmp_path / "r")[-1]["loss"] > 0


def test_epochs_go_through_the_stores_views(world, tmp_path, monkeypatch):
    seen = []
    original = train_student.loop.run_batches.epoch_items

    def record(*arguments, **settings):
        seen.append((settings["epoch"], settings["view_indexes"]))
        return original(*arguments, **settings)

    monkeypatch.setattr(train_student.loop.run_batches, "epoch_items", record)
    train_world(world, tmp_path / "a", epochs=5, eval_every=5)
    assert seen == [(0, (0,)), (1, (1,)), (2, (2,)), (3, (0,)), (4, (1,))]
    seen.clear()
    train_world(world, tmp_path / "b", epochs=3, views=2, eval_every=3)
    assert seen == [(0, (0,)), (1, (1,)), (2, (0,))]
    seen.clear()
    train_world(world, tmp_path / "c", epochs=3, store=None, loss="ce", eval_every=3)
    assert seen == [(0, (0,)), (1, (1,)), (2, (2,))]


def test_two_processes_validate_the_model_they_export(world, tmp_path):
    """Batch norm's statistics differ between processes; the figures must be those of the one that is kept."""
    settings = student_settings(world, tmp_path / "two", epochs=1)
    torchrun(2, ["-m", "train_student", *as_arguments(settings)], cwd=tmp_path)
    top1, nll = validated(tmp_path / "two", TrainConfig.from_flat(**settings))
    last = metrics(tmp_path / "two")[-1]
    assert last["top1"] == pytest.approx(top1)
    assert last["nll"] == pytest.approx(nll, rel=1e-4)


def test_accelerate_launch_with_nothing_configured(tmp_path):
    done = python(
        "-m", "accelerate.commands.accelerate_cli", "launch", ROOT / "train_student.py", cwd=tmp_path, check=False
    )
    assert done.returncode
    output = done.stdout + done.stderr
    assert len(output.splitlines()) <= 24
    for line in (
        "--data and --store not given",
        "make cache TEACHER=",
        "accelerate launch train_student.py",
        "make demo",
    ):
        assert line in output
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_accelerate_launch_quiet_ends_with_the_error(tmp_path):
    launch = ("-m", "accelerate.commands.accelerate_cli", "launch", "--quiet", ROOT / "train_student.py")
    done = python(*launch, "--loss", "ce", "--data", "nowhere", cwd=tmp_path, check=False)
    assert done.returncode
    assert re.match("error: .*nowhere: no such file", done.stderr.splitlines()[-1])


def test_an_approximate_teacher_is_marked(world, tmp_path, console):
    settings = student_settings(world, tmp_path / "run", store=str(world / "top5"), loss="kd", epochs=1)
    train(TrainConfig.from_flat(**settings, approximate_teacher=True))
    assert "the teacher is truncated and only approximates" in console.readouterr().out
    assert json.loads((tmp_path / "run" / "run.json").read_text())["approximate_teacher"] is True
    assert [row[RUN_COLUMNS.index("teacher")] for row in run_rows([read_run(tmp_path / "run")])] == [
        "from the store, approximate"
    ]


def test_images_that_the_store_skipped_are_left_out(world, tmp_path, console):
    members = {**shard_members(0, 40), "broken.jpg": jpeg(3)[:200], "broken.cls": b"2"}
    write_tar(tmp_path / "data" / "train-0000.tar", members)
    shutil.copy(world / "data" / "val-0000.tar", tmp_path / "data")
    make_store(world, str(tmp_path / "s"), data=str(tmp_path / "data"), views=1, k=12, on_bad_image="skip")
    settings = student_settings(world, tmp_path / "run", data=str(tmp_path / "data"), store=str(tmp_path / "s"))
    train(TrainConfig.from_flat(**settings))
    assert "images left out, as s has no logits for them: 1" in console.readouterr().out
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (facts["num_train"], facts["skipped_images"]) == (40, 1)
    argv = ["report", str(tmp_path / "run"), "--store", str(tmp_path / "s"), "--out", str(tmp_path / "page.html")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["pld", *argv])
        assert pld_main() == 0


def test_a_subset_of_the_store_trains(world, tmp_path):
    part = str(world / "data" / "train-{0000..0002}.tar")
    settings = student_settings(world, tmp_path / "run", data=part, val_data=str(world / "data"), epochs=1)
    train(TrainConfig.from_flat(**settings))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["num_train"] == 175


@pytest.mark.parametrize("workers", [0, 2])
def test_an_undecodable_image_stops_with_its_name(world, tmp_path, workers):
    """Also from a worker, and without its traceback."""
    members = {f"x{i}.{ext}": data for i in range(20) for ext, data in (("jpg", jpeg(i)), ("cls", b"1"))}
    members["x13.jpg"] = members["x13.jpg"][:300]
    write_tar(tmp_path / "data" / "train-0000.tar", members)
    shutil.copy(world / "data" / "val-0000.tar", tmp_path / "data")
    settings = student_settings(tmp_path, tmp_path / "run", store=None, loss="ce", batch_size=4, workers=workers)
    with pytest.raises(PLDError) as caught:
        train(TrainConfig.from_flat(**settings))
    assert re.fullmatch(r".*train-0000.tar: sample x13: cannot be decoded: .*", str(caught.value))


def test_a_diverging_run_stops(world, tmp_path):
    settings = student_settings(world, tmp_path / "run", opt="sgd", lr=1e30)
    with pytest.raises(PLDError, match=r"the loss is|inf or nan"):
        train(TrainConfig.from_flat(**settings))


def test_runs_that_differ_in_how_they_work_are_one_configuration(world, tmp_path):
    """Seeds have a spread whatever their checkpoints, loaders and trackers."""
    for seed, more in ((0, {}), (1, {"checkpoint_minutes": 3.0, "workers": 1, "tracker": "none"})):
        train_world(world, tmp_path / str(seed), epochs=1, seed=seed, **more)
    runs = [read_run(tmp_path / str(seed)) for seed in (0, 1)]
    (group,) = group_runs(runs)
    assert list(group.runs) == [0, 1]
    assert group.settings["lr"] == 1e-3
    assert not {"seed", "output", "workers", "checkpoint_minutes"} & set(group.settings)


def test_processes_that_would_train_one_by_one_are_refused(tmp_path):
    """As torchrun starts them on a machine without GPUs, where accelerate takes each for the only one."""
    argv = (
        "-m",
        "train_student",
        "--data",
        "glyphs",
        "--loss",
        "ce",
        "--model",
        "test_resnet",
        "--output",
        tmp_path / "r",
    )
    result = torchrun(2, argv, tmp_path, env={"ACCELERATE_USE_CPU": "false"}, check=False)
    assert result.returncode != 0
    assert "Without GPUs, set ACCELERATE_USE_CPU=true" in result.stderr
    assert not (tmp_path / "r").exists()
