"""When a teacher is stopped: signals that are made up, so that it is known what is wrong with the labels."""

import numpy as np
import pytest
import torch

from cache_teacher.label_check import LabelCheck, hold_until_passed
from pld.errors import DataError
from pld.signals import TopK


def signal(labels, choices, num_classes, confidence):
    """A teacher that makes these choices with this confidence."""
    rest = (1 - confidence) / (num_classes - 1)
    probabilities = torch.full((len(labels), num_classes), rest, dtype=torch.float64)
    probabilities[torch.arange(len(labels)), torch.as_tensor(choices)] = confidence
    return TopK.from_logits(probabilities.log(), torch.as_tensor(labels), 1)


def check(num_classes, said=None):
    return LabelCheck(num_classes, str, "Do this.", [].append if said is None else said.append)


def looked_at(labels, choices, num_classes, confidence):
    """What is warned of; raises where the teacher is stopped."""
    said: list[str] = []
    looking = check(num_classes, said)
    looking.add(signal(labels, choices, num_classes, confidence), range(len(labels)))
    looking.conclude()
    return said


def draw(num_classes, num, accuracy, seed=0):
    """Labels, and choices that are right this often and anything else otherwise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num)
    other = (labels + rng.integers(1, num_classes, num)) % num_classes
    return labels, np.where(rng.random(num) < accuracy, labels, other)


@pytest.mark.parametrize(("num_classes", "num"), [(12, 36), (100, 2000), (1000, 2000)])
@pytest.mark.parametrize("moved", ["all", "text"])
def test_another_order_is_noticed(num_classes, num, moved):
    labels, choices = draw(num_classes, num, 0.9)
    text = np.array(sorted(range(num_classes), key=str))  # 0, 1, 10, 100, ...
    order = text if moved == "text" else np.roll(np.arange(num_classes), 1)
    with pytest.raises(DataError, match=r"probably in another order than the labels .taken: .*Do this\."):
        looked_at(labels, order[choices], num_classes, 0.85)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("accuracy", "confidence"), [(0.8, 0.9), (0.5, 0.6), (0.3, 0.5), (0.1, 0.12)])
def test_honest_teachers_go_on(seed, accuracy, confidence):
    assert looked_at(*draw(100, 2000, accuracy, seed), 100, confidence) == []


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("num", [3, 30, 2000])
def test_an_untrained_teacher_that_knows_it_goes_on(seed, num):
    rng = np.random.default_rng(seed)
    assert looked_at(rng.integers(0, 10, num), rng.integers(0, 10, num), 10, 0.12) == []


@pytest.mark.parametrize("choice", ["constant", "one class", "lopsided"])
def test_labels_of_one_class_tell_little(choice):
    """A folder sorted by class: right as often as it chooses that class, which is not chance."""
    labels = np.zeros(2000, dtype=np.int64)
    choices = np.where(np.random.default_rng(0).random(2000) < 0.4, 0, 5)
    if choice == "constant":
        choices = labels.copy()
    if choice == "lopsided":
        labels[:100] = 5
    assert looked_at(labels, choices, 50, 0.6) == []


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("accuracy", [0.4, 0.6])
def test_views_of_one_image_are_no_evidence_of_their_own(seed, accuracy):
    """Ten views of an image are mistaken alike, which is no other order."""
    labels, choices = draw(1000, 2000, accuracy, seed)
    looking = check(1000)
    for first in range(0, 2000, 200):
        rows = np.arange(first, first + 200)
        looking.add(
            signal(np.repeat(labels[rows], 10), np.repeat(choices[rows], 10), 1000, accuracy + 0.1), rows.tolist()
        )
    looking.conclude()


@pytest.mark.parametrize("views", [1, 10, 50])
def test_another_order_is_noticed_after_the_first_views(views):
    labels, choices = draw(1000, 2000 // views, 0.8)
    looking = check(1000)
    with pytest.raises(DataError, match="probably in another order"):
        looking.add(
            signal(np.repeat(labels, views), np.repeat((choices + 1) % 1000, views), 1000, 0.8), range(len(labels))
        )
    assert looking.has_passed


def test_a_teacher_far_from_its_confidence_is_worth_a_word():
    (word,) = looked_at(*draw(100, 2000, 0.2), 100, 0.8)
    assert "are its classes in the order of the labels?" in word


def test_choices_that_never_change_are_no_other_order():
    labels, _ = draw(10, 2000, 1.0)
    with pytest.raises(DataError, match="by chance it would be on"):  # but sure and right by chance alone
        looked_at(labels, np.full(2000, 3), 10, 0.9)
    assert looked_at(labels, np.full(2000, 3), 10, 0.1) == []


def test_parts_wait_until_the_teacher_has_passed():
    looking, given = check(10), []

    def parts():
        for number in range(6):
            looking.add(signal(*draw(10, 600, 0.9, number), 10, 0.9), range(600))
            given.append(number)
            yield number

    come = hold_until_passed(parts(), looking)
    assert next(come) == 0
    assert given == [0, 1, 2, 3]  # 2,400 views
    assert list(come) == [1, 2, 3, 4, 5]


def test_nothing_comes_of_a_teacher_that_is_stopped():
    looking = check(10)

    def parts():
        labels, choices = draw(10, 300, 0.9)
        looking.add(signal(labels, (choices + 1) % 10, 10, 0.9), range(300))
        yield 0

    with pytest.raises(DataError, match="another order"):
        next(hold_until_passed(parts(), looking))
