"""Runs that began with weights: the input that these want, and how such a run goes on."""

import re
import shutil

import pytest
import timm
import torch

from pld.teachers import build_teacher, model_preprocessing
from pld.views.preprocessing import Preprocessing
from tests.end_to_end.colours import NAMES, sure_teacher
from tests.end_to_end.commands import facts, metrics
from tests.train_student.begun import SMALL, STILL, weights_of
from tests.train_student.runs import assert_same_weights
from train_student.config import TrainConfig
from train_student.loop.learner import Learner
from train_student.model.student import export
from train_student.run.run_folder import settings


class StopError(Exception):
    pass


@pytest.fixture
def stopping(monkeypatch):
    """Ends a run after so many steps."""

    def stop_after(steps):
        step = Learner.step

        def stop(self, batches, steps_done):
            if steps_done == steps:
                monkeypatch.setattr(Learner, "step", step)
                raise StopError
            return step(self, batches, steps_done)

        monkeypatch.setattr(Learner, "step", stop)

    return stop_after


LEARNING = {"lr": 1e-3, "opt": "adamw", "epochs": 2, "checkpoint_steps": 2, "resume": "auto"}


class TestInput:
    """Pixels are cut and normalised as the weights want, in training, validation and export."""

    WANTED = Preprocessing(input_size=(40, 40), interpolation="bilinear", mean=(0.5,) * 3, std=(0.4,) * 3,
                           crop_fraction=0.8)  # fmt: skip

    @pytest.fixture
    def other(self, tmp_path):
        torch.manual_seed(0)
        export(timm.create_model("resnet18", num_classes=3, **SMALL), self.WANTED, NAMES[:3], tmp_path / "other")
        return tmp_path / "other"

    @pytest.mark.parametrize(
        "more", [{}, {"image_size": 24}, {"crop_fraction": 1.0}, {"image_size": 56, "crop_fraction": 0.9}]
    )
    def test_the_weights_decide_unless_the_options_do(self, training, other, tmp_path, monkeypatch, more):
        trained = []
        step = Learner.step

        def follow(self, batches, steps_done):
            trained.append((self.preprocessing, batches[0].images[0].shape[2:]))
            return step(self, batches, steps_done)

        monkeypatch.setattr(Learner, "step", follow)
        assert training(init_from=str(other), **STILL, **more)[0] == 0
        size, crop = more.get("image_size", 40), more.get("crop_fraction", 0.8)
        wanted = Preprocessing(input_size=(size, size), interpolation="bilinear", mean=(0.5,) * 3, std=(0.4,) * 3,
                               crop_fraction=crop)  # fmt: skip
        assert {*trained} == {(wanted, (size, size))}
        exported = build_teacher(f"local-dir:{tmp_path / 'run' / 'model'}")
        assert exported.preprocessing == wanted
        kept = facts(tmp_path / "run")["beginning"]["preprocessing"]
        assert (kept["input_size"], kept["std"]) == ([size, size], [0.4] * 3)

    def test_a_file_has_timms_preprocessing_of_the_model(self, place, training, tmp_path):
        torch.manual_seed(0)
        torch.save(timm.create_model("test_resnet", num_classes=3).state_dict(), tmp_path / "w.pth")
        more = {"model": "test_resnet", "model_kwargs": {}, "init_from": str(tmp_path / "w.pth")}
        assert training(**STILL, **more)[0] == 0
        model = timm.create_model(f"local-dir:{tmp_path / 'run' / 'model'}")
        assert model_preprocessing(model) == model_preprocessing(timm.create_model("test_resnet"))

    def test_position_embeddings_are_resampled(self, training, tmp_path):
        """At the weights' own size they are loaded as they are; at another one timm resamples them."""
        vit = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
        torch.manual_seed(0)
        model = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=32, **vit)
        export(model, Preprocessing(input_size=(32, 32)), NAMES[:3], tmp_path / "vit")
        more = {"model": "vit_tiny_patch16_224", "model_kwargs": vit, "init_from": str(tmp_path / "vit")}
        more |= {**STILL, "freeze_bn": None}
        assert training("same", **more)[0] == 0
        assert training("larger", image_size=48, **more)[0] == 0
        same, larger = (weights_of(tmp_path / name / "model") for name in ("same", "larger"))
        assert torch.equal(same["pos_embed"], model.pos_embed)
        model.set_input_size(img_size=(48, 48))
        torch.testing.assert_close(larger["pos_embed"], model.pos_embed.detach())
        assert build_teacher(f"local-dir:{tmp_path / 'larger' / 'model'}").preprocessing.input_size == (48, 48)

    def test_a_fresh_model_of_one_size_is_built_for_another(self, training, tmp_path, stopping):
        """And goes on."""
        vit = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
        more = {"model": "vit_tiny_patch16_224", "model_kwargs": vit, "image_size": 48, **LEARNING}
        stopping(5)
        with pytest.raises(StopError):
            training(**more)
        status, printed = training(**more)
        assert (status, "goes on from step-000000004" in printed) == (0, True)
        assert weights_of(tmp_path / "run" / "model")["pos_embed"].shape == (1, 37, 24)

    def test_a_size_that_a_model_does_not_take_is_an_error(self, training, tmp_path):
        status, printed = training(model="levit_128s", model_kwargs={}, image_size=64)
        assert status == 2
        assert re.search(
            r"levit_128s: it does not take images of 64 x 64 px.*--model_kwargs '{.img_size.: 256}'", printed
        )
        more = {"model": "levit_128s", "model_kwargs": {"img_size": 64}, "epochs": 1}  # as it says
        assert training("first", image_size=64, **more)[0] == 0
        status, printed = training(init_from=str(tmp_path / "first"), image_size=96, **more)
        assert status == 2
        assert "give another --image_size or none" in printed
        assert training(init_from=str(tmp_path / "first"), **more)[0] == 0


class TestResuming:
    @pytest.fixture
    def mine(self, place, tmp_path):
        """The teacher's folder, to remove."""
        return shutil.copytree(place / "teacher", tmp_path / "mine")

    def test_a_run_goes_on_without_the_weights_that_it_began_with(self, place, training, tmp_path, stopping, mine):
        assert training("undisturbed", init_from=str(mine), **LEARNING)[0] == 0
        stopping(5)
        with pytest.raises(StopError):
            training(init_from=str(mine), **LEARNING)
        shutil.rmtree(mine)
        status, printed = training(init_from=str(mine), **LEARNING)
        assert status == 0
        assert "goes on from step-000000004" in printed
        assert_same_weights(tmp_path / "run", tmp_path / "undisturbed")
        assert build_teacher(f"local-dir:{tmp_path / 'run' / 'model'}").preprocessing.input_size == (32, 32)

    def test_other_weights_are_refused(self, place, training, tmp_path, stopping, mine):
        """By their place; and without a checkpoint, when they are loaded again, by their digest."""
        stopping(1)
        with pytest.raises(StopError):
            training(init_from=str(mine), **LEARNING)
        status, printed = training(init_from=str(place / "teacher"), **LEARNING)
        assert status == 2
        assert f"was begun with init_from '{mine}', now '{place / 'teacher'}'" in printed
        other = sure_teacher(tmp_path / "t", (NAMES[2], NAMES[0], NAMES[1]))
        same = shutil.copy(mine / "model.safetensors", tmp_path / "same.safetensors")
        shutil.copy(other / "model.safetensors", mine / "model.safetensors")
        status, printed = training(init_from=str(mine), **LEARNING)
        assert status == 2
        assert re.search(r"mine: other weights \(sha256 \w{12}\) than .*run was begun with \(\w{12}\)", printed)
        shutil.copy(same, mine / "model.safetensors")
        assert training(init_from=str(mine), **LEARNING)[0] == 0

    def test_the_input_of_fresh_weights_is_the_recipes_given_or_not(self, place, training, tmp_path):
        """A run of the version that always wrote both sizes goes on."""
        fresh = {"model": "test_resnet", "model_kwargs": {}, "epochs": 1, "resume": "auto"}
        assert training(**fresh, image_size=224, crop_fraction=224 / 236)[0] == 0
        status, printed = training(**fresh)
        assert (status, "finished already" in printed) == (0, True)
        status, printed = training(**fresh, image_size=32)
        assert "was begun with image_size 224, now 32" in printed

    def test_the_refusals_advice_is_right(self, place, training, tmp_path):
        """More epochs, another learning rate, another loss: another run that begins where the first one ended."""
        assert training(init_from=str(place / "teacher"), **LEARNING)[0] == 0
        advice = f" To train its model further, start a new run: --output OTHER --init_from {tmp_path / 'run'}\n"
        for more in ({"epochs": 3}, {"lr": 1e-4}, {"loss": "ls"}, {"resume": "never"}, {}):
            _, printed = training(**{**LEARNING, "init_from": str(place / "teacher"), **more})
            assert advice in printed
        settings = {**LEARNING, "init_from": str(tmp_path / "run"), "lr": 1e-4, "loss": "ls", "epochs": 3}
        assert training("second", **settings)[0] == 0
        assert facts(tmp_path / "second")["beginning"]["weights"] == str(tmp_path / "run" / "model")
        assert [line["epoch"] for line in metrics(tmp_path / "second")] == [1, 2, 3]


def test_options_that_are_not_given_tell_no_configuration_apart():
    """Runs of the version before do not know them."""
    plain = {"data": "glyphs", "loss": "ce"}
    assert not {"pretrained", "init_from", "freeze_bn", "unlabelled"} & settings(TrainConfig.from_flat(**plain)).keys()
    assert settings(TrainConfig.from_flat(**plain, pretrained=True, freeze_bn=True))["freeze_bn"] is True


def test_a_new_option_does_not_make_old_runs_another_configuration():
    """Reports group runs by these settings: an option that is younger is left out of them at its default."""
    config = TrainConfig.from_flat(data="glyphs", store="store", loss="kd", output="run")
    assert len(settings(config)) == 49
