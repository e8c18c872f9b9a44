"""What people expect of a trainer: accumulation, averages, precisions, figures, guards."""

import dataclasses
import json
import math
import re
from typing import ClassVar

import pytest
import timm
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train_student.run.publish
from pld.config import run
from pld.errors import PLDError
from pld.images import open_source
from pld.images.dataset import read_image
from pld.store import open_store
from pld.views import Fixed, apply_view, draw_view
from tests.making import NUM_CLASSES, make_dataset, make_store, student_settings
from tests.processes import python, torchrun
from tests.train_student.runs import as_arguments, assert_same_weights, metrics, train_world
from train_student.config import TrainConfig
from train_student.loop.learner import Learner
from train_student.model.student import student_preprocessing
from train_student.run.train import main as train_main
from train_student.run.train import train

# No batch norm: what a sample's gradient is does not depend on the others in its batch.
VIT = {"model": "vit_tiny_patch16_224", "opt": "sgd", "lr": 0.05,
       "model_kwargs": {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}}  # fmt: skip


def exported(folder):
    return timm.create_model(f"local-dir:{folder / 'model'}", pretrained=True).eval()


def test_micro_batches_add_up_to_the_batch(world, tmp_path):
    for name, accumulate in (("whole", 1), ("cut", 4)):
        train_world(world, tmp_path / name, accumulate=accumulate, clip_grad=0.5, **VIT)
    assert_same_weights(tmp_path / "whole", tmp_path / "cut", 1e-6)
    assert metrics(tmp_path / "cut")[-1]["loss"] == pytest.approx(metrics(tmp_path / "whole")[-1]["loss"], rel=1e-5)


@pytest.mark.parametrize(
    "loss", [{"loss": "dist", "global_batch": True}, pytest.param({"loss": "pld"}, marks=pytest.mark.long)]
)
def test_two_processes_with_half_the_batch_each_are_one(world, tmp_path, loss):
    """Twenty steps and more; DIST's columns run over the whole batch."""
    train_world(world, tmp_path / "one", **VIT, **loss)
    torchrun(
        2, ["-m", "train_student", *as_arguments(student_settings(world, tmp_path / "two", **VIT, **loss))], tmp_path
    )
    assert json.loads((tmp_path / "two" / "run.json").read_text())["num_processes"] == 2
    assert_same_weights(tmp_path / "one", tmp_path / "two", 1e-5)
    one, two = (metrics(tmp_path / name)[-1] for name in ("one", "two"))
    assert two["top1"] == one["top1"]
    assert two["nll"] == pytest.approx(one["nll"], rel=1e-5)


def test_clipping_limits_the_step(world, tmp_path):
    train_world(world, tmp_path / "a", **VIT, epochs=1, clip_grad=1e-9, weight_decay=0.0)
    torch.manual_seed(0)
    moved = exported(tmp_path / "a").state_dict()["head.weight"]
    train_world(world, tmp_path / "b", **{**VIT, "lr": 1e-12}, epochs=1, weight_decay=0.0)
    torch.testing.assert_close(moved, exported(tmp_path / "b").state_dict()["head.weight"], atol=1e-7, rtol=0)


def test_the_average_of_the_weights_is_kept(world, tmp_path, monkeypatch):
    """Against a twin in float64: after each step, decay x average + (1 - decay) x weights."""
    twin = []
    step = Learner.step

    def follow(self, batches, steps_done):
        losses = step(self, batches, steps_done)
        now = self.student.state_dict()["fc.weight"].double()
        twin[:] = [now if not twin or steps_done == 0 else 0.8 * twin[0] + 0.2 * now]
        return losses

    monkeypatch.setattr(Learner, "step", follow)
    train_world(world, tmp_path / "run", ema_decay=0.8)
    torch.testing.assert_close(
        exported(tmp_path / "run").state_dict()["fc.weight"].double(), twin[0], atol=1e-6, rtol=0
    )


def test_a_val_store_gives_agreement_and_kl(world, tmp_path):
    """Figures against a slow twin, image by image."""
    make_store(world, str(tmp_path / "val"), split="val", policy="fixed", views=1, k=NUM_CLASSES)
    config = TrainConfig.from_flat(
        **student_settings(world, tmp_path / "run", epochs=1, val_store=str(tmp_path / "val"))
    )
    train(config)
    model, source, store = (
        exported(tmp_path / "run"),
        open_source(config.data.images, "val"),
        open_store(str(tmp_path / "val")),
    )
    table = store.load_view(0)
    preprocessing = student_preprocessing(config.model.image_size, config.validation.crop_fraction)
    agree, kl, bins = 0, 0.0, [[0.0, 0.0] for _ in range(15)]
    for row in range(len(source)):
        image = read_image(source, row)
        view = draw_view("", 0, tuple(image.shape[1:]), Fixed(crop_fraction=preprocessing.crop_fraction))
        with torch.no_grad():
            logits = model(preprocessing.normalize(apply_view(image, view, 32)[None]))[0].double()
        topk = table[store.rows([source.key(row)])]
        log_q = torch.empty(NUM_CLASSES, dtype=torch.float64).scatter(0, topk.classes[0], topk.logprobs[0].double())
        log_q, log_p = log_q.log_softmax(0), logits.log_softmax(0)
        agree += int(logits.argmax() == topk.classes[0, 0])
        kl += float((log_q.exp() * (log_q - log_p)).sum())
        confidence = float(log_p.max().exp())
        found = bins[min(14, math.floor(confidence * 15))]
        found[0] += confidence
        found[1] += int(logits.argmax()) == int(source.labels[row])
    last = metrics(tmp_path / "run")[-1]
    assert last["agreement"] == pytest.approx(100 * agree / len(source))
    assert last["kl"] == pytest.approx(kl / len(source), rel=1e-3)
    assert last["ece"] == pytest.approx(100 * sum(abs(a - b) for a, b in bins) / len(source), rel=1e-3)


def test_two_processes_count_a_validation_set_that_does_not_divide(world, tmp_path):
    """300 images, whose last batch is cut and which no process has half of: the very figures of one process."""
    val = str(make_dataset(tmp_path / "data", shard_sizes=(1,), num_val=300))
    make_store(world, str(tmp_path / "val"), data=val, split="val", policy="fixed", views=1, k=5)
    # Untrained: the same weights.
    settings = {**VIT, "lr": 0.0, "epochs": 1, "val_data": val, "val_store": str(tmp_path / "val")}
    train_world(world, tmp_path / "one", **settings)
    torchrun(2, ["-m", "train_student", *as_arguments(student_settings(world, tmp_path / "two", **settings))], tmp_path)
    one, two = (metrics(tmp_path / name)[-1] for name in ("one", "two"))
    for name in ("top1", "top5", "agreement", "nll", "ece", "kl"):
        assert one[name] == two[name], name


def test_tensorboard_has_the_figures(world, tmp_path):
    train_world(world, tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "pld-distill")).Reload()
    wanted = metrics(tmp_path / "run")
    for name in ("loss", "top1", "images_per_second"):
        found = events.Scalars(name)
        assert [event.step for event in found] == [1, 2]
        assert [event.value for event in found] == pytest.approx([line[name] for line in wanted], rel=1e-5)


@pytest.mark.long
def test_deterministic_kernels_where_asked_for(world, tmp_path):
    code = """
import sys, torch
from train_student.model.student import student_preprocessing
from train_student.run.train import main
main(sys.argv[1:])
print("deterministic", torch.are_deterministic_algorithms_enabled())
"""
    for name, asked in (("plain", False), ("same", True), ("again", True)):
        settings = student_settings(world, tmp_path / name, epochs=1, deterministic=asked)
        done = python("-c", code, *as_arguments(settings), cwd=tmp_path)
        assert f"deterministic {asked}" in done.stdout
    one, other = ((tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("same", "again"))
    assert one == other


def test_a_compiled_student_is_exported_plain(world, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(self))
    compiled = []
    train_world(world, tmp_path / "run", epochs=1, compile=True)
    assert len(compiled) == 1
    assert exported(tmp_path / "run").num_classes == NUM_CLASSES


def test_publishing(world, tmp_path, monkeypatch, console):
    class Hub:
        calls: ClassVar[list] = []
        up = True

        def create_repo(self, repository, exist_ok):
            self.calls.append((repository, exist_ok))
            if not self.up:
                raise ConnectionError("no route")

        def upload_folder(self, repo_id, folder_path, commit_message):
            self.calls.append((repo_id, sorted(path.name for path in folder_path.iterdir())))

    monkeypatch.setattr(train_student.run.publish, "HfApi", Hub)
    settings = student_settings(world, tmp_path / "run", epochs=1, push_to_hub="me/student")
    assert run(train_main, as_arguments(settings)) == 0
    assert Hub.calls == [("me/student", True), ("me/student", ["config.json", "model.safetensors"])]
    monkeypatch.setattr(Hub, "up", False)
    settings = student_settings(world, tmp_path / "again", epochs=1, push_to_hub="me/student")
    assert run(train_main, as_arguments(settings)) == 2
    assert re.search(r"me/student: could not be published: no route; the model is in", console.readouterr().err)
    assert exported(tmp_path / "again").num_classes == NUM_CLASSES


def test_a_loss_that_is_not_finite_leaves_its_keys(world, tmp_path, monkeypatch):
    original = Learner._batch_loss
    seen = []

    def broken(self, batch):
        seen.append(batch.request)
        loss = original(self, batch)
        return dataclasses.replace(loss, total=loss.total * (torch.nan if len(seen) == 5 else 1.0))

    monkeypatch.setattr(Learner, "_batch_loss", broken)
    with pytest.raises(PLDError, match=r"the loss is nan in step 5; the batch's keys are in .*not-finite-0.json"):
        train_world(world, tmp_path / "run", checkpoint_steps=1)
    found = json.loads((tmp_path / "run" / "not-finite-0.json").read_text())
    source = open_source(str(world / "data"))
    assert found["keys"] == [source.key(row) for row in seen[4].rows.tolist()]
    assert (found["step"], found["views"]) == (5, [0])
    assert (tmp_path / "run" / "checkpoints" / "step-000000004.safetensors").is_file()
    assert not (tmp_path / "run" / "checkpoints" / "step-000000005.safetensors").exists()


DEADLY = """
import os, sys
import pld.images
from pld.config import run
from train_student.model.student import student_preprocessing
from train_student.run.train import main

read = pld.images.Source.read

def deadly(source, row):
    if source.key(row) == "train-0123":
        os.kill(os.getpid(), 9)
    return read(source, row)

pld.images.Source.read = deadly
sys.exit(run(main, sys.argv[1:]))
"""


def test_a_loader_process_that_dies_names_the_sample(world, tmp_path):
    """In a process of its own, without the checks of shapes, inside which the signal may arrive and be lost."""
    settings = student_settings(world, tmp_path / "run", workers=2, tracker="none")
    done = python("-c", DEADLY, *as_arguments(settings), cwd=tmp_path, check=False)
    assert done.returncode == 2, done.stderr
    assert re.search(r"a loader process died .*train-0123.*use fewer --workers", done.stderr)


def test_images_that_the_store_lacks(world, tmp_path, console):
    more = make_dataset(tmp_path / "more", shard_sizes=(60, 45, 70, 52, 40), num_val=5)
    settings = student_settings(world, tmp_path / "run", data=str(more), epochs=1)
    assert run(train_main, as_arguments(settings)) == 2
    assert "train-0260" in console.readouterr().err
    train(TrainConfig.from_flat(**settings, missing="skip"))
    assert "images left out, as full has no logits for them: 7" in console.readouterr().out
    assert json.loads((tmp_path / "run" / "run.json").read_text())["num_train"] == 260


def test_waiting_for_images_is_said(world, tmp_path, console):
    train_world(world, tmp_path / "run", epochs=1)  # no workers: nothing but waiting
    assert re.search(r"run: \w+ took \d+ % of the time: ", console.readouterr().out)


def test_logs_may_lie_in_the_runs_folder(world, tmp_path, capsys):
    """Those of earlier commands, too; a run that tells only errors prints nothing, and is the same run."""
    train_world(world, tmp_path / "undisturbed", epochs=1, tracker="none")
    capsys.readouterr()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "job1.log").write_text("killed before it began\n")
    settings = student_settings(world, tmp_path / "run", epochs=1, tracker="none", resume="auto")
    quiet = {**settings, "log_file": str(tmp_path / "run" / "told"), "log_level": "error"}
    assert run(train_main, as_arguments(quiet)) == 0
    assert capsys.readouterr() == ("", "")
    assert_same_weights(tmp_path / "run", tmp_path / "undisturbed")
    assert run(train_main, as_arguments({**quiet, "log_level": "debug"})) == 0
    assert "finished already" in capsys.readouterr().out
    assert re.search(
        r" INFO train_student\.run\.train: .*run: finished already", (tmp_path / "run" / "told").read_text()
    )
    assert run(train_main, as_arguments({**settings, "log_level": "loud"})) == 2
    assert "'debug', 'info', 'warning', 'error'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("capabilities", "wanted"),
    [({"amx_bf16": True}, "bf16"), ({"avx512_bf16": True}, "bf16"), ({"avx2": True}, "fp32")],
)
def test_auto_is_what_the_machine_computes_in(world, tmp_path, monkeypatch, capabilities, wanted):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    config = TrainConfig.from_flat(**student_settings(world, tmp_path / "r", epochs=1, precision="auto"))
    assert config.run.resolved_precision == wanted
    train(config)
    assert json.loads((tmp_path / "r" / "run.json").read_text())["precision"] == wanted
