"""Losses from a sampled tail: over all draws, values and gradients average to those from every class."""

import dataclasses
import itertools

import pytest
import torch

from pld.errors import SignalError
from pld.losses import (
    build_loss,
    dist_loss,
    dkd_loss,
    ea_kd_loss,
    kd_loss,
    listmle_loss,
    pld_loss,
    rkl_loss,
    soft_ce_loss,
    wttm_loss,
)
from pld.signals import TopK
from tests.losses import twins

TEMPERATURES = (0.5, 1.0, 1.5, 2.0, 4.0)
CASES = {
    "kd": (kd_loss, twins.kd),
    "dkd": (dkd_loss, twins.dkd),
    "soft_ce": (soft_ce_loss, twins.soft_ce),
    "wttm": (wttm_loss, twins.wttm),
}


def every_draw(teacher, label, k, num):
    """All samples of one row's tail, each with its share of the u in [0, 1).

    A sample changes where a point u, u + 1, ... reaches the end of a class. These u follow from the probabilities; the
    sample is drawn in the middle of each interval between them.
    """
    labels = None if label is None else torch.tensor([label])

    def draw(u):
        uniforms = torch.tensor([u], dtype=torch.float64)
        return TopK.from_logits(teacher[None], labels, k, TEMPERATURES, tail_samples=num, uniforms=uniforms)

    some = draw(0.5)
    logprobs = teacher.log_softmax(0)
    tail = [c for c in range(len(teacher)) if c not in some.classes[0].tolist() and c != label]
    threshold, temperature = some.tail_sample.threshold[0], some.tail_sample.temperature
    inclusion = [float(((logprobs[c] - threshold) / temperature).clamp(max=0).exp()) for c in tail]
    assert sum(inclusion) == pytest.approx(num, abs=1e-9)
    chance = [value for value in inclusion if value < 1 - 1e-9]
    edges = sorted({0.0, 1.0, *(float(end) % 1 for end in torch.tensor(chance, dtype=torch.float64).cumsum(0))})
    return [(draw((low + high) / 2), high - low) for low, high in itertools.pairwise(edges) if high - low > 1e-12]


def mean_over_draws(loss, student, draws, **settings):
    """The expected value and gradient of a loss."""
    value, gradient = 0.0, torch.zeros_like(student)
    for topk, share in draws:
        logits = student[None].clone().requires_grad_()
        drawn = loss(logits, topk, topk.labels, **settings)
        drawn.backward()
        value, gradient = value + share * drawn.item(), gradient + share * logits.grad[0]
    return value, gradient


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize(("classes", "k", "num"), [(6, 2, 2), (6, 2, 1), (6, 2, 3), (9, 1, 4), (5, 3, 1)])
@pytest.mark.parametrize("name", CASES)
def test_over_all_draws_the_mean_is_that_of_every_class(name, classes, k, num, temperature):
    loss, twin = CASES[name]
    generator = torch.Generator().manual_seed(classes)
    for label_rank in (0, classes - 1, 2):
        student, teacher = (3 * torch.randn(2, classes, generator=generator, dtype=torch.float64)).unbind()
        label = int(teacher.argsort(descending=True)[label_rank])
        draws = every_draw(teacher, label, k, num)
        assert sum(share for _, share in draws) == pytest.approx(1)
        value, gradient = mean_over_draws(loss, student, draws, temperature=temperature)
        exact = student.clone().requires_grad_()
        wanted = twin(exact, teacher, label, classes, temperature=temperature)
        wanted.backward()
        assert value == pytest.approx(wanted.item(), rel=1e-8)
        torch.testing.assert_close(gradient, exact.grad, rtol=1e-7, atol=1e-8)


def test_without_labels():
    student, teacher = (3 * torch.randn(2, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).unbind()
    draws = every_draw(teacher, None, 2, 2)
    value, gradient = mean_over_draws(kd_loss, student, draws, alpha=0.0)
    exact = student.clone().requires_grad_()
    wanted = twins.kd(exact, teacher, None, 6, alpha=0.0)
    wanted.backward()
    assert value == pytest.approx(wanted.item(), rel=1e-8)
    torch.testing.assert_close(gradient, exact.grad, rtol=1e-7, atol=1e-8)


def batch(num, classes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 3 * torch.randn(2, num, classes, generator=generator)
    labels = torch.randint(classes, (num,), generator=generator)
    labels[::2] = teacher[::2].argmax(1)
    return student, teacher, labels


@pytest.mark.parametrize("name", CASES)
def test_a_tail_that_is_drawn_whole_is_exact(name):
    loss, twin = CASES[name]
    student, teacher, labels = batch(8, 7)
    labels = torch.where((teacher >= teacher.topk(3).values[:, -1:]).gather(1, labels[:, None])[:, 0], 0, labels)
    for row in range(8):  # a row whose label is outside the top 3 has a tail of 3 classes
        if int(labels[row]) in teacher[row].topk(3).indices.tolist():
            continue
        topk = TopK.from_logits(teacher[row : row + 1], labels[row : row + 1], 3, TEMPERATURES, tail_samples=3)
        assert torch.equal(topk.tail_sample.log_inclusion(), torch.zeros(1, 3))
        found = loss(student[row : row + 1], topk, topk.labels)
        wanted = twin(student[row].double(), teacher[row].double(), int(labels[row]), 7)
        assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_gradcheck(name):
    student, teacher, labels = (values.double() if values.is_floating_point() else values for values in batch(3, 8))
    topk = TopK.from_logits(teacher, labels, 2, TEMPERATURES, tail_samples=3)
    logits = student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: CASES[name][0](s, topk, labels, reduction="none"), logits)


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("number", [-50.0, 0.1, 7.0])
def test_adding_a_number_to_all_logits_changes_nothing(number, temperature):
    student, teacher, labels = batch(4, 12)
    topk = TopK.from_logits(teacher.double(), labels, 3, TEMPERATURES, tail_samples=4)
    for loss, _ in CASES.values():
        logits = student.double().requires_grad_()
        values = loss(logits, topk, labels, temperature=temperature, reduction="none")
        values.sum().backward()
        shifted = loss(student.double() + number, topk, labels, temperature=temperature, reduction="none")
        torch.testing.assert_close(shifted, values.detach(), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(logits.grad.sum(1), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-8)


@pytest.mark.parametrize("spread", [1e-3, 1.0, 30.0, 300.0])
@pytest.mark.parametrize("name", CASES)
def test_finite_for_sure_and_unsure_teachers(name, spread):
    _, teacher, labels = batch(16, 100)
    topk = TopK.from_logits(teacher * spread, labels, 5, TEMPERATURES, tail_samples=8)
    for scale in (0.0, 1.0, 1e4):
        logits = (batch(16, 100, seed=1)[0] * scale).requires_grad_()
        values = CASES[name][0](logits, topk, labels, reduction="none")
        values.sum().backward()
        assert bool(torch.isfinite(values).all())
        assert bool(torch.isfinite(logits.grad).all())


def test_ea_kd_weighs_the_estimate_as_it_weighs_the_lumped_divergence():
    student, teacher, labels = batch(4, 12)
    topk = TopK.from_logits(teacher, labels, 3, TEMPERATURES, tail_samples=4)

    def both(of):
        each = {"alpha": 0.0, "temperature": 2.0, "reduction": "none", "approximate": True}
        return ea_kd_loss(student, of, labels, **each), kd_loss(student, of, labels, **each)

    (estimate, kd), (lumped, lumped_kd) = both(topk), both(dataclasses.replace(topk, tail_sample=None))
    assert not torch.allclose(estimate, lumped)
    torch.testing.assert_close(estimate / kd, lumped / lumped_kd)


@pytest.mark.parametrize(
    ("loss", "settings"),
    [(pld_loss, {"temperature": 2.0}), (listmle_loss, {}), (dist_loss, {"temperature": 4.0}), (rkl_loss, {})],
)
def test_losses_that_need_the_order_still_refuse(loss, settings):
    student, teacher, labels = batch(4, 12)
    topk = TopK.from_logits(teacher, labels, 3, TEMPERATURES, tail_samples=4)
    with pytest.raises(
        SignalError, match=r"k = 3 of 12 classes and 4 of the tail, which serve kd, dkd, soft_ce, wttm and ea_kd alone"
    ):
        loss(student, topk, labels, **settings)
    assert bool(torch.isfinite(loss(student, topk, labels, **settings, approximate=True)))


def test_without_the_sample_kd_refuses_and_lumps():
    student, teacher, labels = batch(4, 12)
    topk = TopK.from_logits(teacher, labels, 3, TEMPERATURES, tail_samples=4)
    plain = TopK.from_logits(teacher, labels, 3, TEMPERATURES)
    kd_loss(student, topk, labels)
    without = dataclasses.replace(topk, tail_sample=None)
    with pytest.raises(SignalError, match="k = 3 of 12 classes, wanted all"):
        kd_loss(student, without, labels)
    lumped = kd_loss(student, without, labels, approximate=True)
    assert torch.equal(lumped, kd_loss(student, plain, labels, approximate=True))
    assert torch.equal(pld_loss(student, topk, labels), pld_loss(student, plain, labels))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": lambda c: c + 12}, r"teacher.tail_sample.classes: found .*, wanted 0..11"),
        ({"logprobs": lambda p: p * torch.nan}, "teacher.tail_sample.logprobs of shape .*: found 16 inf or nan"),
        ({"threshold": lambda t: t - torch.inf}, "teacher.tail_sample.threshold of shape .*: found 4 inf or nan"),
        ({"temperature": lambda t: 2.0}, "temperature: found 2.0, wanted .* at least the temperatures held"),
    ],
)
def test_wrong_samples(change, message):
    student, teacher, labels = batch(4, 12)
    topk = TopK.from_logits(teacher, labels, 3, TEMPERATURES, tail_samples=4)
    sample = topk.tail_sample
    bad = dataclasses.replace(sample, **{name: of(getattr(sample, name)) for name, of in change.items()})
    with pytest.raises(SignalError, match=message):
        kd_loss(student, dataclasses.replace(topk, tail_sample=bad), labels)


def test_standardised_logits_need_every_class_all_the_same():
    student, teacher, labels = batch(4, 12)
    topk = TopK.from_logits(teacher, labels, 3, TEMPERATURES, tail_samples=4)
    assert torch.isfinite(build_loss("kd")(student, topk, labels))
    with pytest.raises(SignalError, match="wanted all"):
        build_loss("kd", standardize="teacher")(student, topk, labels)


@pytest.mark.parametrize("num", [4, pytest.param(8, marks=pytest.mark.long), pytest.param(16, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", CASES)
def test_twenty_thousand_draws(name, num):
    """The mean gradient is within 4 standard errors of the exact one: its squared distance against what is expected."""
    draws, classes = 20_000, 100
    loss, twin = CASES[name]
    student, teacher = (
        2 * torch.randn(2, classes, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    ).unbind()
    labels, points = (
        torch.full((draws,), 7),
        torch.rand(draws, generator=torch.Generator().manual_seed(num), dtype=torch.float64),
    )
    topk = TopK.from_logits(teacher.expand(draws, -1), labels, 10, TEMPERATURES, tail_samples=num, uniforms=points)
    for temperature in (1.0, 2.0, 4.0):
        logits = student.repeat(draws, 1).requires_grad_()
        loss(logits, topk, labels, temperature=temperature, reduction="none").sum().backward()
        exact = student.clone().requires_grad_()
        twin(exact, teacher, 7, classes, temperature=temperature).backward()
        off = logits.grad.mean(0) - exact.grad
        assert float(off.norm()) < 4 * float((logits.grad.var(dim=0) / draws).sum().sqrt())
