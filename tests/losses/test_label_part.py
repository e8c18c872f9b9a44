"""The labels' part of a loss against float64 twins; with the teacher's it makes the loss."""

import pytest
import torch

from pld.losses import build_loss, loss_names, needs_teacher, standardize_logits
from pld.signals import TopK
from tests.losses import twins
from tests.losses.test_mixed import mixed_with
from tests.losses.test_twins import batch

NUM, CLASSES, K = 9, 10, 4
TWO_PARTS = [name for name in loss_names() if needs_teacher(name) and name != "soft_ce"]  # it has nothing of the label
# name, settings, and of one sample the weight of its label's cross entropy.
CASES = [
    ("pld", {}, lambda teacher, label: teacher.softmax(0)[label]),
    ("pld", {"temperature": 2.0}, lambda teacher, label: (teacher / 2).softmax(0)[label]),
    ("pld", {"tail": "uniform"}, lambda teacher, label: teacher.softmax(0)[label]),
    ("listmle", {}, lambda teacher, label: 1 / CLASSES),
    ("plistmle", {}, lambda teacher, label: (2 ** (CLASSES - 1) - 1) / sum(2**r - 1 for r in range(CLASSES))),
    ("kd", {}, lambda teacher, label: 0.1),
    ("kd", {"alpha": 0.0}, lambda teacher, label: 0.0),
    ("dist", {"alpha": 0.7}, lambda teacher, label: 0.7),
    ("dkd", {"alpha": 3.0}, lambda teacher, label: 1.0),
    ("rld", {"alpha": 3.0}, lambda teacher, label: 1.0),
    ("rkl", {"alpha": 0.7}, lambda teacher, label: 0.7),
    ("js", {"alpha": 0.7}, lambda teacher, label: 0.7),
    ("wttm", {"alpha": 3.0}, lambda teacher, label: 3.0),
    ("ea_kd", {"alpha": 3.0}, lambda teacher, label: 3.0),
]


def problem(kind, mixed):
    student, teacher, labels = batch(NUM, CLASSES)
    signal = TopK.from_logits(teacher, labels, K, (1.0, 2.0, 4.0)) if kind == "top-k" else teacher
    return student, teacher, signal, mixed_with(labels, CLASSES) if mixed else labels


def cross_entropies(name, student, labels, mixed):
    """Rankings have one label first, that of the larger share; the others weigh both."""
    if not mixed:
        return [twins.cross_entropy(*one) for one in zip(student, labels.tolist(), strict=True)]
    if name in ("pld", "listmle", "plistmle"):
        return [twins.cross_entropy(*one) for one in zip(student, labels.labels.tolist(), strict=True)]
    both = zip(student, labels.labels.tolist(), labels.others.tolist(), labels.share.double(), strict=True)
    return [twins.mixed_cross_entropy(*one) for one in both]


@pytest.mark.parametrize("standardize", ["none", "teacher", "both"])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("kind", ["top-k", "dense"])
@pytest.mark.parametrize(("name", "settings", "weight"), CASES)
def test_it_is_the_labels_weight_times_cross_entropy(name, settings, weight, kind, mixed, standardize):
    student, teacher, signal, labels = problem(kind, mixed)
    if standardize != "none" and kind == "top-k":
        signal = teacher = teacher.log_softmax(1)  # a truncated one is approximated, which its own tests see to
    loss = build_loss(name, approximate=True, standardize=standardize, **settings)
    logits = student.clone().requires_grad_()
    total, part = loss.in_parts(logits, signal, labels)
    torch.testing.assert_close(total, loss(student, signal, labels), rtol=0, atol=0)
    assert not part.requires_grad
    student = torch.stack([twins.standardize(row) for row in student]) if standardize == "both" else student
    teacher = standardize_logits(teacher) if standardize != "none" else teacher
    first = labels.labels if mixed else labels
    entropies = cross_entropies(name, student, labels, mixed)
    wanted = [weight(t, y) * ce for t, y, ce in zip(teacher, first.tolist(), entropies, strict=True)]
    torch.testing.assert_close(part.double(), torch.stack(wanted).mean(), rtol=1e-6, atol=1e-9)
    total.backward()
    alone = student_gradient(loss, problem(kind, mixed)[0], signal, labels)
    assert torch.equal(logits.grad, alone)


def student_gradient(loss, student, signal, labels):
    logits = student.clone().requires_grad_()
    loss(logits, signal, labels).backward()
    return logits.grad


@pytest.mark.parametrize("name", ["pld", "plistmle"])
def test_what_is_left_are_the_other_ranks(name):
    """The twin of the whole ranking without its first term."""
    student, teacher, labels = batch(NUM, CLASSES)
    total, part = build_loss(name).in_parts(student, teacher, labels)
    rest = []
    for s, t, y in zip(student, teacher, labels.tolist(), strict=True):
        order = twins.order_of(t, y)
        powers = [2 ** (CLASSES - r) - 1 for r in range(1, CLASSES + 1)]
        weights = t.softmax(0)[order].tolist() if name == "pld" else [p / sum(powers) for p in powers]
        rest.append(twins.plackett_luce(s, order, [0.0, *weights[1:]]))
    torch.testing.assert_close(total - part, torch.stack(rest).mean())


@pytest.mark.parametrize("name", ["pld", "listmle", "plistmle", "kd", "dist"])
def test_without_labels_there_is_none(name):
    student, teacher, _ = batch(NUM, CLASSES)
    loss = build_loss(name, **({"alpha": 0.0} if name in ("kd", "dist") else {}))
    total, part = loss.in_parts(student, teacher, None)
    assert part is None
    assert torch.equal(total, loss(student, teacher, None))


@pytest.mark.parametrize("name", loss_names())
def test_every_loss_with_a_teacher_and_a_label_has_one(name):
    student, teacher, labels = batch(NUM, CLASSES)
    _, part = build_loss(name).in_parts(student, teacher, labels)
    assert (part is not None) == (name in TWO_PARTS)


def test_half_precision_is_worked_on_in_float32():
    student, teacher, labels = batch(NUM, CLASSES)
    for name in TWO_PARTS:
        _, wanted = build_loss(name).in_parts(student.half().double(), teacher.half().double(), labels)
        _, part = build_loss(name).in_parts(student.half(), teacher.half(), labels)
        torch.testing.assert_close(part.double(), wanted, rtol=1e-5, atol=1e-6)
