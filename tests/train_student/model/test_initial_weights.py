"""Weights fitted to a model: classifiers by name, also of models with two or none, and what differs is said."""

import dataclasses

import pytest
import timm
import torch

from pld.classes.matching import Classes
from pld.errors import ConfigError
from train_student.model.initial_weights import InitialWeights, load_weights

NAMES = ("ant", "bee", "cat", "dog")
OURS = Classes(names=NAMES, count=4, owner="data")
VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}


def build(seed, name="vit_tiny_patch16_224", num_classes=4):
    torch.manual_seed(seed)
    model = timm.create_model(name, num_classes=num_classes, **VIT)
    for head in filter(None, (getattr(model, name, None) for name in ("head", "head_dist"))):
        if isinstance(head, torch.nn.Linear):
            torch.nn.init.normal_(head.weight)  # timm's begin at zero
            torch.nn.init.normal_(head.bias)
    return model


def weights(model, class_names=NAMES, **more):
    return InitialWeights(where="w", tensors=model.state_dict(), class_names=class_names, **more)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_each_classifiers_rows_follow_the_names(name):
    """One classifier, or two, whose logits are averaged."""
    trained, student, order = build(0, name).eval(), build(1, name).eval(), [2, 0, 3, 1]
    note = load_weights(student, weights(trained, tuple(NAMES[i] for i in order)), OURS)
    assert note == "w: its classifier is put in the order of the classes of data"
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(student(images)[:, order], trained(images))


@pytest.mark.parametrize("num_classes", [0, 3, 5])
def test_another_number_of_classes_leaves_the_classifier_fresh(num_classes):
    trained, student = build(0, num_classes=num_classes), build(1)
    head = student.head.weight.clone()
    note = load_weights(student, weights(trained, None), OURS)
    assert note == f"w: has {num_classes} classes, data has 4: the student's classifier begins with fresh weights"
    assert torch.equal(student.head.weight, head)
    assert torch.equal(student.pos_embed, trained.pos_embed)


def test_the_same_names_need_no_word():
    trained, student = build(0), build(1)
    assert load_weights(student, weights(trained), OURS) is None
    assert torch.equal(student.head.weight, trained.head.weight)


def test_numbers_on_both_sides_are_kept_with_a_word():
    trained, student = build(0), build(1)
    nameless = dataclasses.replace(OURS, names=None)
    note = load_weights(student, weights(trained, None), nameless)
    assert note == "w and data state no class names: their 4 classes are taken to be the same in their order"
    assert torch.equal(student.head.weight, trained.head.weight)


def test_imagenets_names_are_inferred_only_where_the_data_has_one():
    """A file of 1000 classes; the data's are ImageNet's in another order, or other ones."""
    from pld.classes.names import imagenet_names

    names = imagenet_names("imagenet-1k")
    trained = build(0, num_classes=1000)
    for ours, note in ((names[::-1], "is put in the order"), (tuple(map("x{}".format, range(1000))), "are assumed")):
        student = build(1, num_classes=1000)
        found = weights(trained, None, names_inferred=True)
        assert note in load_weights(student, found, Classes(names=ours, count=1000, owner="data"))
        rows = trained.head.weight.flip(0) if ours[0] == names[-1] else trained.head.weight
        assert torch.equal(student.head.weight, rows)


def test_what_differs_is_named():
    trained = build(0).state_dict()
    trained["norm.bias"] = trained["norm.bias"][:5]
    trained["stray"] = trained.pop("cls_token")
    found = InitialWeights(where="w", tensors=trained, class_names=NAMES)
    with pytest.raises(ConfigError) as caught:
        load_weights(build(1), found, OURS)
    for words in ("cls_token is missing", "norm.bias is [5], wanted [24]", "stray is none of the model's"):
        assert words in str(caught.value)
