"""Fine-tuning: what stays of a model's weights, its figures and its classifier."""

import json
import re

import pytest
import timm
import torch

from pld.views.preprocessing import Preprocessing
from tests.end_to_end.colours import NAMES, sure_teacher
from tests.end_to_end.commands import facts, metrics
from tests.train_student.begun import STILL, weights_of
from train_student.model.student import export


class TestFineTuning:
    @pytest.mark.parametrize("model", ["resnet18", "vit_tiny_patch16_224"])
    def test_at_learning_rate_zero_a_model_keeps_its_top1(self, place, training, tmp_path, model):
        """With batch norm's statistics frozen, or without batch norm: weights and figures are the model's own."""
        folder, more = place / "teacher", {}
        if model.startswith("vit"):
            torch.manual_seed(0)
            vit = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
            export(timm.create_model(model, num_classes=3, **vit), Preprocessing(input_size=(32, 32)), None,
                   tmp_path / "vit")  # fmt: skip
            folder, more = tmp_path / "vit", {"model": model, "model_kwargs": vit, "freeze_bn": None}
        status, printed = training(init_from=str(folder), **{**STILL, "epochs": 2, "eval_every": 1, **more})
        assert status == 0, printed
        for name, tensor in weights_of(folder).items():
            assert torch.equal(tensor, weights_of(tmp_path / "run" / "model")[name]), name
        first, last = metrics(tmp_path / "run")
        assert (first["top1"], first["nll"]) == (last["top1"], last["nll"])
        if model == "resnet18":
            assert last["top1"] == 100.0
        else:  # nothing to freeze: the option would do nothing
            _, printed = training("other", init_from=str(folder), **{**STILL, **more, "freeze_bn": True})
            assert f"--freeze_bn: {model} has no batch norm" in printed

    def test_batch_norm_follows_the_new_images_unless_frozen(self, place, training, tmp_path):
        assert training(init_from=str(place / "teacher"), **{**STILL, "freeze_bn": None})[0] == 0
        before, after = weights_of(place / "teacher"), weights_of(tmp_path / "run" / "model")
        assert torch.equal(before["conv1.weight"], after["conv1.weight"])
        assert not torch.equal(before["bn1.running_mean"], after["bn1.running_mean"])

    def test_frozen_statistics_stay_while_weights_learn(self, place, training, tmp_path):
        more = {"lr": 1e-3, "opt": "adamw", "epochs": 2, "freeze_bn": True, "eval_every": 1}
        assert training(init_from=str(place / "teacher"), **more)[0] == 0
        before, after = weights_of(place / "teacher"), weights_of(tmp_path / "run" / "model")
        for name in before:
            assert torch.equal(before[name], after[name]) == name.endswith(("running_mean", "running_var", "tracked"))

    def test_the_average_of_the_weights_begins_with_them(self, place, training, tmp_path):
        assert training(init_from=str(place / "teacher"), ema_decay=0.9, **STILL)[0] == 0
        for name, tensor in weights_of(place / "teacher").items():
            torch.testing.assert_close(weights_of(tmp_path / "run" / "model")[name], tensor, atol=1e-6, rtol=1e-6)


class TestClasses:
    """The classifier goes by name."""

    def test_another_order_is_put_in_order(self, place, training, tmp_path):
        teacher = sure_teacher(tmp_path / "t", (NAMES[2], NAMES[0], NAMES[1]))
        status, printed = training(init_from=str(teacher), **STILL)
        assert status == 0
        assert "its classifier is put in the order of the classes of" in printed
        assert metrics(tmp_path / "run")[-1]["top1"] == 100.0
        assert json.loads((tmp_path / "run" / "model" / "config.json").read_text())["label_names"] == list(NAMES[:3])

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            (NAMES[:4], "has 4 classes, .*data has 3: the student's classifier begins with fresh weights"),
            (NAMES[3:6], "has other classes than .*, such as 'dog', 'eel', 'fox': the student's classifier begins"),
        ],
    )
    def test_other_classes_get_a_fresh_classifier_with_a_word(self, place, training, tmp_path, names, message):
        teacher = sure_teacher(tmp_path / "t", names)
        status, printed = training(init_from=str(teacher), **STILL)
        assert status == 0
        (said,) = re.findall(r"^warning: (.*)$", printed, re.MULTILINE)
        assert re.search(message, said)
        assert facts(tmp_path / "run")["beginning"]["note"] == said
        before, after = weights_of(teacher), weights_of(tmp_path / "run" / "model")
        assert not torch.equal(before["fc.weight"][:3], after["fc.weight"])
        assert all(torch.equal(before[name], after[name]) for name in before if not name.startswith("fc."))

    def test_unknown_names_are_kept_in_order_with_a_word(self, place, training, tmp_path):
        teacher = sure_teacher(tmp_path / "t", NAMES[:3], stated=False)
        status, printed = training(init_from=str(teacher), **STILL)
        assert status == 0
        assert re.search(r"warning: .*t states no class names: its classes 0 to 2 are assumed to be those of", printed)
        assert metrics(tmp_path / "run")[-1]["top1"] == 100.0
