"""Images without labels meet stores and teachers: keys are matched as ever, and classes are the teacher's."""

import dataclasses

import pytest
import torch

from pld.classes.matching import Classes
from pld.errors import DataError
from pld.images import open_source
from pld.join.match import join_source, relabel, use_teacher_classes
from pld.store import open_store
from pld.teachers import build_teacher
from tests.making import make_dataset, make_store, make_teacher

NAMES = tuple(f"class {i}" for i in range(12))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("unlabelled")
    make_dataset(root / "data")
    make_teacher(root / "teacher")
    make_store(root, "labelled", views=1, k=3)
    make_store(root, "unlabelled", views=1, k=3, unlabelled=True)
    return root


def test_a_store_without_labels_takes_images_with_and_without(world):
    store = open_store(world / "unlabelled")
    without = join_source(store, open_source(str(world / "data"), unlabelled=True))
    with_labels = join_source(store, open_source(str(world / "data")))
    assert without.labels is None
    assert with_labels.keys.tolist() == without.keys.tolist() == store.keys.tolist()
    assert with_labels.labels.tolist() == open_source(str(world / "data")).labels.tolist()


def test_a_labelled_store_does_not(world):
    store = open_store(world / "labelled")
    with pytest.raises(DataError, match=r"have no labels, but .*/labelled holds labelled images"):
        join_source(store, open_source(str(world / "data"), unlabelled=True))


def test_both_stores_hold_the_same_ranking(world):
    topks = [open_store(world / name).load_view(0)[range(71)] for name in ("labelled", "unlabelled")]
    assert torch.equal(topks[0].classes, topks[1].classes)
    assert torch.equal(topks[0].logprobs, topks[1].logprobs)
    assert bool((topks[1].tail_at(1.0) >= topks[0].tail_at(1.0)).all())  # which has the label too


def test_classes_are_those_that_the_teacher_states(world):
    source = open_source(str(world / "data"), unlabelled=True)
    teacher = build_teacher(f"local-dir:{world / 'teacher'}")
    stated = dataclasses.replace(teacher, class_names=NAMES, names_inferred=False)
    assert use_teacher_classes(stated, source).class_names == NAMES
    for names, inferred in ((None, False), (NAMES, True)):
        unnamed = use_teacher_classes(dataclasses.replace(teacher, class_names=names, names_inferred=inferred), source)
        assert unnamed.class_names is None
        assert "states no class names" in unnamed.notes[-1]
        assert "--class_names FILE (imagenet-1k," in unnamed.notes[-1]


def test_names_given_are_some_of_the_stores_or_name_its_classes(world):
    source = open_source(str(world / "data"), unlabelled=True, class_names=NAMES[::-1])
    assert relabel(source, Classes(names=NAMES, count=12, owner="s")).class_names == NAMES
    named = relabel(source, Classes(names=None, count=12, owner="s"))
    assert named.class_names == NAMES[::-1]
    assert "s states no class names" in named.notes[-1]
    with pytest.raises(DataError, match="1 of 12 classes are not among those of s"):
        relabel(source, Classes(names=("x", *NAMES[1:]), count=12, owner="s"))
