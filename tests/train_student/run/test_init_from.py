"""`--pretrained` and `--init_from`: where weights are found, what is refused, and with what advice."""

import re

import pytest
import timm
import torch

from tests.end_to_end.colours import NAMES, sure_teacher
from tests.end_to_end.commands import metrics
from tests.processes import torchrun
from tests.train_student.begun import STILL, arguments, weights_of
from tests.train_student.runs import assert_same_weights


class TestPlaces:
    def test_a_run_its_checkpoints_and_its_model_are_one(self, place, training, tmp_path):
        """Of a run with an average of its weights, which is what it validates and exports."""
        learning = {"init_from": str(place / "teacher"), "lr": 1e-2, "opt": "adamw", "ema_decay": 0.5, "epochs": 2}
        assert training("first", **learning)[0] == 0
        first = tmp_path / "first"
        (checkpoint,) = (first / "checkpoints").glob("step-000000006*")
        torch.save({"state_dict": weights_of(first / "model")}, tmp_path / "weights.pth")
        forms = [first, first / "checkpoints", checkpoint, first / "model", first / "model" / "model.safetensors"]
        forms += [f"local-dir:{first / 'model'}", tmp_path / "weights.pth"]
        for number, form in enumerate(forms):
            status, printed = training(str(number), init_from=str(form), image_size=32, **STILL)
            assert status == 0, printed
            assert_same_weights(tmp_path / str(number), first)
        # The file says nothing of its classes.
        assert ("states no class names" in printed) == (form == tmp_path / "weights.pth")

    def test_a_trainers_checkpoint(self, place, training, tmp_path):
        """Under a wrapper's prefix, beside a moving average, and without its classifier."""
        tensors = weights_of(place / "teacher")
        wrapped = {f"module.{name}": tensor for name, tensor in tensors.items()}
        untrained = {name: torch.zeros_like(tensor) for name, tensor in wrapped.items()}
        torch.save({"epoch": 3, "state_dict": untrained, "state_dict_ema": wrapped}, tmp_path / "last.pth.tar")
        status, printed = training("a", init_from=str(tmp_path / "last.pth.tar"), image_size=32, **STILL)
        assert status == 0, printed
        assert f"--init_from {tmp_path / 'last.pth.tar'}#state_dict.module" in printed  # how to take the other
        assert metrics(tmp_path / "a")[-1]["top1"] == 100.0
        choice = f"{tmp_path / 'last.pth.tar'}#state_dict.module"
        assert training("b", init_from=choice, image_size=32, **STILL)[0] == 0
        assert metrics(tmp_path / "b")[-1]["top1"] < 100.0
        torch.save({n: t for n, t in tensors.items() if not n.startswith("fc.")}, tmp_path / "features.pth")
        status, printed = training("c", init_from=str(tmp_path / "features.pth"), image_size=32, **STILL)
        assert status == 0, printed
        assert "the student's classifier begins with fresh weights" in printed

    def test_a_file_of_a_model_of_another_image_size(self, training, tmp_path):
        """Its position embeddings are those of --model_kwargs; the file says no size."""
        vit = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}
        model = timm.create_model("vit_tiny_patch16_224", num_classes=3, **vit)
        torch.save(model.state_dict(), tmp_path / "vit.pth")
        more = {**STILL, "freeze_bn": None, "model": "vit_tiny_patch16_224", "model_kwargs": vit, "image_size": 32}
        status, printed = training(init_from=str(tmp_path / "vit.pth"), **more)
        assert status == 0, printed

    def test_a_models_folder_with_pretrained(self, place, training, tmp_path):
        name = f"local-dir:{place / 'teacher'}"
        assert training(model=name, model_kwargs=None, pretrained=True, **STILL)[0] == 0
        assert metrics(tmp_path / "run")[-1]["top1"] == 100.0

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"pretrained": True, "init_from": "x"}, "--pretrained and --init_from x: give one of them"),
            ({"init_from": "nowhere"}, "--init_from nowhere: is not there; wanted a run's folder"),
            ({"init_from": "EMPTY"}, "empty: holds none; wanted a run's folder"),
            ({"init_from": "BEGUN"}, "begun: this run has no model yet"),
            ({"init_from": "HOSTILE"}, "not only weights: a pickle of a whole model"),
            ({"init_from": "BARE"}, "bare: its config.json names no architecture; wanted a model.s folder"),
            ({"init_from": "CUT"}, "not a checkpoint that can be read"),
            ({"freeze_bn": True}, "--freeze_bn: needs trained weights"),
            ({"crop_fraction": 1.5}, "--crop_fraction 1.5: wanted a number above 0, at most 1"),
            ({"init_from": "TEACHER", "model_kwargs": {}}, r"another model.*conv1.weight is \[8, .* in all\)"),
            ({"init_from": "TEACHER", "model": "test_vit", "model_kwargs": {}}, "cls_token is missing"),
        ],
    )  # fmt: skip
    def test_what_does_not_fit_is_an_error(self, place, training, tmp_path, capsys, settings, message):
        places = {"EMPTY": tmp_path / "empty", "BEGUN": tmp_path / "begun", "HOSTILE": tmp_path / "hostile.pth"}
        places |= {"CUT": tmp_path / "checkpoints" / "step-000000003.safetensors", "TEACHER": place / "teacher"}
        places["BARE"] = tmp_path / "bare"
        for name in ("EMPTY", "BEGUN", "BARE"):
            places[name].mkdir()
        (places["BARE"] / "config.json").write_text("{}")
        (places["BEGUN"] / "config.yaml").write_text("")
        torch.save({"model": Hostile()}, places["HOSTILE"])
        places["CUT"].parent.mkdir()
        places["CUT"].write_bytes(b"\x10\x00")
        if "init_from" in settings:
            settings = {**settings, "init_from": str(places.get(settings["init_from"], settings["init_from"]))}
        status, printed = training(**settings)
        assert status == 2
        assert re.search(message, printed), printed
        assert "pickled code ran" not in printed
        assert not (tmp_path / "run").exists()

    def test_the_advice_for_another_model_is_right(self, place, training, tmp_path):
        _, printed = training(init_from=str(place / "teacher"), model_kwargs={}, **STILL)
        (name,) = re.findall(r"--model (\S+) --pretrained, which builds it", printed)
        assert training(model=name, model_kwargs=None, pretrained=True, **STILL)[0] == 0

    def test_without_a_network_published_weights_are_named(self, training, monkeypatch):
        create = timm.create_model

        def offline(name, pretrained=False, **more):
            if pretrained:
                raise OSError("We couldn't connect to 'https://huggingface.co'")
            return create(name, **more)

        monkeypatch.setattr(timm, "create_model", offline)
        status, printed = training(model="resnet152", model_kwargs={}, pretrained=True)
        assert status == 2
        # The tag that timm loads by itself, not that of the teacher's alias.
        assert re.search(r"resnet152\.a1h_in1k: its weights could not be loaded(?s:.*)--init_from FILE", printed)


class Hostile:
    def __reduce__(self):
        return (print, ("pickled code ran",))


def test_a_dry_run_says_what_it_would_begin_with(place, training, tmp_path):
    teacher = sure_teacher(tmp_path / "t", NAMES[:4])
    status, printed = training(init_from=str(teacher), dry_run=True)
    assert status == 0
    assert re.search(rf"^begins with +{re.escape(str(teacher))}$", printed, re.MULTILINE)
    assert re.search(r"^ +.*has 4 classes, .* has 3: the student's classifier begins", printed, re.MULTILINE)
    assert not (tmp_path / "run").exists()


def test_two_processes_begin_alike(place, training, tmp_path):
    """Also with the classifier that is fresh."""
    teacher = sure_teacher(tmp_path / "t", NAMES[:4])
    settings = {**STILL, "init_from": str(teacher), "streams": 2}
    assert training("one", **settings)[0] == 0
    torchrun(2, ["-m", "train_student", *arguments(place / "data", tmp_path / "two", **settings)], tmp_path)
    assert_same_weights(tmp_path / "two", tmp_path / "one")
