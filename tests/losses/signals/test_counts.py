"""A TopK whose rows list as many classes as an error asks for: each row is the fixed TopK of its own k."""

import dataclasses

import pytest
import torch

from pld.errors import SignalError
from pld.losses import build_loss, gradient_error_bound, kd_loss, loss_names, needs_teacher, plistmle_loss
from pld.losses.teacher import dense_logprobs
from pld.signals import TopK, with_tensors

TEMPERATURES = (1.0, 2.0)
SETTINGS = {"dkd": {"temperature": 1.0}, "dist": {"gamma": 0.0}}  # columns of a batch are no row's own
LOSSES = {
    name: build_loss(name, approximate=True, **SETTINGS.get(name, {}))
    for name in loss_names()
    if needs_teacher(name) and name != "plistmle"
} | {"pld uniform": build_loss("pld", tail="uniform"), "pld T": build_loss("pld", temperature=2.0, approximate=True)}


def make(labelled=True, error=0.2, k=12, rows=40, tail_samples=0, logprob_error=0.0):
    generator = torch.Generator().manual_seed(3)
    scale = torch.rand(rows, 1, generator=generator, dtype=torch.float64) * 8
    logits = torch.randn(rows, 12, generator=generator, dtype=torch.float64) * scale
    labels = torch.randint(12, (rows,), generator=generator) if labelled else None
    uniforms = torch.rand(rows, generator=generator, dtype=torch.float64)
    given = {"tail_samples": tail_samples, "uniforms": uniforms, "logprob_error": logprob_error}
    ragged = TopK.from_logits(logits, labels, k, TEMPERATURES, error=error, **given)
    student = torch.randn(rows, 12, generator=generator, dtype=torch.float64)
    return logits, labels, ragged, student


def row_of(topk, row, k):
    """One row as a fixed TopK of its own k, from the numbers that it lists."""
    own = with_tensors([topk], lambda tensor: tensor[row : row + 1])
    return dataclasses.replace(own, classes=own.classes[:, :k], logprobs=own.logprobs[:, :k], counts=None)


def gradient(loss, student, topk, labels):
    student = student.clone().requires_grad_()
    value = loss(student, topk, labels, reduction="none")
    value.sum().backward()
    return value.detach(), student.grad


@pytest.mark.parametrize("labelled", [True, False])
def test_each_row_is_the_fixed_top_k_of_its_count(labelled):
    logits, labels, ragged, _ = make(labelled)
    assert len(set(ragged.counts.tolist())) > 4
    ragged.validate(12)
    for row, count in enumerate(ragged.counts.tolist()):
        own = None if labels is None else labels[row : row + 1]
        fixed, held = TopK.from_logits(logits[row : row + 1], own, count, TEMPERATURES), row_of(ragged, row, count)
        assert torch.equal(fixed.classes, held.classes)
        torch.testing.assert_close(fixed.logprobs, held.logprobs)
        torch.testing.assert_close(fixed.tail_logmass.exp(), held.tail_logmass.exp(), atol=1e-12, rtol=1e-9)
        assert gradient_error_bound(fixed).item() <= 0.2 + 1e-9
        if count > 1:
            fewer = TopK.from_logits(logits[row : row + 1], own, count - 1, TEMPERATURES)
            assert gradient_error_bound(fewer).item() > 0.2 - 1e-9


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("k", [7, 12])
@pytest.mark.parametrize("tail_samples", [0, 3])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_that_of_each_rows_own_k(name, tail_samples, k, labelled):
    if (tail_samples and k == 12) or (not labelled and LOSSES[name].required_signal.label):
        pytest.skip("there is no tail to draw from, or the loss has a term of the label")
    _, _, ragged, student = make(labelled, k=k, tail_samples=tail_samples)
    value, grad = gradient(LOSSES[name], student, ragged, ragged.labels)
    for row, count in enumerate(ragged.counts.tolist()):
        # k = C with counts has a tail, which may be empty; the fixed one of C classes has none.
        fixed = row_of(ragged, row, count)
        own = gradient(LOSSES[name], student[row : row + 1], fixed, fixed.labels)
        torch.testing.assert_close(value[row : row + 1], own[0], atol=1e-9, rtol=1e-7)
        torch.testing.assert_close(grad[row : row + 1], own[1], atol=1e-9, rtol=1e-7)


def test_dense_and_bound_are_each_rows_own():
    _, _, ragged, _ = make()
    dense, bound = dense_logprobs(ragged, 12, approximate=True), gradient_error_bound(ragged)
    for row, count in enumerate(ragged.counts.tolist()):
        fixed = row_of(ragged, row, count)
        torch.testing.assert_close(dense[row : row + 1], dense_logprobs(fixed, 12, approximate=True))
        torch.testing.assert_close(bound[row : row + 1], gradient_error_bound(fixed))


def test_what_needs_the_same_k_or_every_class_refuses():
    _, labels, ragged, student = make()
    with pytest.raises(
        SignalError, match=r"plistmle_loss: the teacher lists another number of classes .* without --error"
    ):
        plistmle_loss(student, ragged, labels)
    with pytest.raises(
        SignalError, match=r"kd_loss: the teacher holds as many as an error asks for, at most 12, of 12"
    ):
        kd_loss(student, ragged, labels, temperature=2.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": lambda c: c * 0}, "counts outside 1..12"),
        ({"counts": lambda c: c * 0 + 13}, "counts outside 1..12"),
        ({"counts": lambda c: c.clamp(min=2) - 1}, "padding that is not the first class"),
        ({"counts": lambda c: c * 0 + 12}, "a class twice in a row"),
        ({"classes": lambda c: torch.cat([c[:, :-1], (c[:, :1] + 1) % 12], dim=1)}, "padding that is not"),
    ],
)
def test_padding_that_is_none(change, message):
    _, _, ragged, _ = make(error=1.0)
    ((name, of),) = change.items()
    with pytest.raises(SignalError, match=message):
        dataclasses.replace(ragged, **{name: of(getattr(ragged, name))}).validate(12)


@pytest.mark.parametrize("error", [0.0, 2.0, float("nan"), -1.0])
def test_an_error_that_is_none(error):
    with pytest.raises(SignalError, match=r"wanted more than 0 and less than 2"):
        make(error=error)
