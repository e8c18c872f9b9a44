"""What a student begins with: fresh weights, whatever its name might be taken to promise."""

import pytest
import torch

from pld.classes.matching import Classes
from pld.errors import TeacherError
from tests.making import NUM_CLASSES, make_teacher
from train_student.config import TrainConfig
from train_student.model.student import build_student, student_note

CLASSES = Classes(names=None, count=NUM_CLASSES, owner="data")


def config(model, **settings):
    return TrainConfig.from_flat(data="glyphs", loss="ce", model=model, **settings).model


@pytest.mark.parametrize(
    ("model", "weights"),
    [
        ("local-dir:runs/teacher/model", "runs/teacher/model"),
        ("local-dir:/data/models/vit.large", "/data/models/vit.large"),
        ("hf-hub:timm/resnet50.a1_in1k", "timm/resnet50.a1_in1k"),
        ("resnet50.a1_in1k", "a1_in1k"),
    ],
)
def test_a_name_of_weights_is_told_that_they_are_not_loaded(model, weights):
    told = (
        f"{model}: its architecture, with fresh weights; the weights in {weights} are not loaded: "
        "add --pretrained to load them"
    )
    assert student_note(config(model)) == told
    assert student_note(config(model, model_kwargs={"pretrained": False, "drop_rate": 0.1})) == told


@pytest.mark.parametrize("model", ["resnet50", "vit_small_patch16_224", "test_resnet"])
def test_an_architectures_name_promises_none(model):
    assert student_note(config(model)) is None


def test_what_the_note_says_is_so(tmp_path):
    name = f"local-dir:{make_teacher(tmp_path / 'model')}"
    plain, loaded = config(name), config(name, model_kwargs={"pretrained": True})
    assert "are not loaded" in student_note(plain)
    assert student_note(loaded) is None
    torch.manual_seed(7)  # not that which the folder's weights were made with
    fresh, other, trained = (build_student(c, CLASSES).model.conv1.weight for c in (plain, plain, loaded))
    again = build_student(loaded, CLASSES).model.conv1.weight
    assert not torch.equal(fresh, other)
    assert not torch.equal(fresh, trained)
    assert torch.equal(trained, again)


def test_a_folder_that_holds_no_model_is_refused(tmp_path):
    with pytest.raises(TeacherError, match=r"no config\.json"):
        build_student(config(f"local-dir:{tmp_path}"), CLASSES)
