"""Losses of mixed images: against the float64 twins, what share 1 gives, the certificate, and what is refused."""

import dataclasses
import functools

import jaxtyping
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pld.errors import SignalError
from pld.losses import (
    CrossEntropyLoss,
    PLDLoss,
    build_loss,
    cross_entropy_loss,
    dist_loss,
    dkd_loss,
    ea_kd_loss,
    gradient_error_bound,
    js_loss,
    kd_loss,
    listmle_loss,
    loss_names,
    needs_teacher,
    pld_loss,
    plistmle_loss,
    rkl_loss,
    rld_loss,
    soft_ce_loss,
    wttm_loss,
)
from pld.signals import MixedLabels, TopK
from tests.losses import twins
from tests.losses.test_properties import TEMPERATURES, gradient, problems
from tests.losses.test_twins import batch


def mixed_with(labels, classes, seed=0):
    """These labels, mixed with others; of the first image the share is 1, of the second 0.5."""
    generator = torch.Generator().manual_seed(seed)
    share = 0.5 + torch.rand(len(labels), generator=generator) / 2
    share[:2] = torch.tensor([1.0, 0.5])[: len(labels)]
    return MixedLabels(labels=labels, others=torch.randint(classes, labels.shape, generator=generator), share=share)


def weighed(twin, of_labels):
    """A twin whose cross entropy, of this weight, is with both labels."""

    def of_both(student, teacher, label, other, share, k, **settings):
        both = twins.mixed_cross_entropy(student, label, other, share)
        return twin(student, teacher, label, k, **settings) + of_labels * (both - twins.cross_entropy(student, label))

    return of_both


# name -> (loss, twin, the weight of its cross entropy, settings)
CASES = {
    "pld": (pld_loss, twins.pld, 0.0, {}),
    "pld, uniform tail": (pld_loss, twins.pld, 0.0, {"tail": "uniform"}),
    "listmle": (listmle_loss, twins.listmle, 0.0, {"approximate": True}),
    "plistmle": (plistmle_loss, twins.plistmle, 0.0, {}),
    "kd": (kd_loss, twins.kd, 0.1, {"approximate": True}),
    "kd at 1": (kd_loss, twins.kd, 0.5, {"alpha": 0.5, "temperature": 1.0}),
    "dkd": (dkd_loss, twins.dkd, 1.0, {"approximate": True}),
    "dkd at 1": (dkd_loss, twins.dkd, 1.0, {"alpha": 2.0, "beta": 0.5, "temperature": 1.0}),
    "rkl": (rkl_loss, twins.rkl, 0.1, {"approximate": True}),
    "js": (js_loss, twins.js, 0.1, {"approximate": True}),
    "soft_ce": (soft_ce_loss, twins.soft_ce, 0.0, {}),
    "wttm": (wttm_loss, twins.wttm, 1.0, {"approximate": True}),
    "ea_kd": (ea_kd_loss, twins.ea_kd, 1.0, {}),
    "rld": (rld_loss, twins.rld, 1.0, {}),
}


def with_twins(loss, twin, dtype, k, classes, **settings):
    """Compare values and gradients of a batch with those of a twin of (student, teacher, label, other, share, k)."""
    student, teacher, labels = batch(9, classes)
    mixed, tolerance = mixed_with(labels, classes), 1e-5 if dtype == torch.float32 else 1e-10
    kept = classes if k == "dense" else min(k, classes)
    signal = teacher.to(dtype) if k == "dense" else TopK.from_logits(teacher, labels, kept, (0.5, 1.0, 2.0, 4.0))
    logits, exact = student.to(dtype, copy=True).requires_grad_(), student.clone().requires_grad_()
    values = loss(logits, signal, mixed, reduction="none", **settings)
    own = {name: value for name, value in settings.items() if name != "approximate"}
    of_each = zip(exact, teacher, labels.tolist(), mixed.others.tolist(), mixed.share.double(), strict=True)
    wanted = torch.stack([twin(*one, kept, **own) for one in of_each])
    values.sum().backward()
    wanted.sum().backward()
    torch.testing.assert_close(values.double(), wanted, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(logits.grad.double(), exact.grad, atol=3 * tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 5, "dense"])
@pytest.mark.parametrize("classes", [2, 10, 101])
@pytest.mark.parametrize("name", CASES)
def test_twins(name, classes, k, dtype):
    loss, twin, of_labels, settings = CASES[name]
    with_twins(loss, weighed(twin, of_labels), dtype, k, classes, **settings)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_its_twin(smoothing, dtype):
    def loss(logits, _, mixed, reduction):
        return cross_entropy_loss(logits, mixed, label_smoothing=smoothing, reduction=reduction)

    def twin(student, _, label, other, share, k):
        return twins.mixed_cross_entropy(student, label, other, share, smoothing)

    with_twins(loss, twin, dtype, "dense", 10)


@pytest.mark.parametrize("k", [1, 5, "dense"])
def test_dist_is_its_twin(k):
    student, teacher, labels = batch(41, 10)
    mixed = mixed_with(labels, 10)
    signal = teacher if k == "dense" else TopK.from_logits(teacher, labels, k, (1.0,))
    logits, exact = student.clone().requires_grad_(), student.clone().requires_grad_()
    value = dist_loss(logits, signal, mixed, alpha=0.5)
    of_each = zip(exact, labels.tolist(), mixed.others.tolist(), mixed.share.double(), strict=True)
    both = torch.stack([twins.mixed_cross_entropy(*one) for one in of_each]).mean()
    wanted = twins.dist(exact, teacher, labels, 10 if k == "dense" else k, alpha=0.0) + 0.5 * both
    value.backward()
    wanted.backward()
    torch.testing.assert_close(value, wanted)
    torch.testing.assert_close(logits.grad, exact.grad)


@pytest.mark.parametrize("name", loss_names())
@given(problem=problems(), k=st.integers(1, 12), dense=st.booleans(), dtype=st.sampled_from(["float32", "float64"]))
def test_share_1_is_the_unmixed_loss_to_the_last_bit(name, problem, k, dense, dtype):
    student, teacher, labels = problem
    student, classes = student.to(getattr(torch, dtype)), teacher.shape[1]
    signal = teacher if dense else TopK.from_logits(teacher, labels, min(k, classes), (0.5, 1.0, 2.0, 4.0))
    mixed = dataclasses.replace(mixed_with(labels, classes), share=torch.ones(len(labels)))
    loss = functools.partial(build_loss(name, approximate=True), teacher=signal, reduction="none")
    assert torch.equal(loss(student, labels=mixed), loss(student, labels=labels))
    ours, wanted = (gradient(functools.partial(loss, labels=each), student) for each in (mixed, labels))
    assert torch.equal(ours, wanted)


@pytest.mark.parametrize("name", loss_names())
@given(problem=problems())
def test_a_loss_is_linear_in_the_share(name, problem):
    student, teacher, labels = problem
    mixed = mixed_with(labels, teacher.shape[1])
    loss = functools.partial(build_loss(name, approximate=True), student, teacher, reduction="none")
    half, whole, between = (
        loss(dataclasses.replace(mixed, share=torch.full((len(labels),), share))) for share in (0.5, 1.0, 0.75)
    )
    torch.testing.assert_close(between, (half + whole) / 2)


@given(
    problems(),
    st.integers(1, 12),
    st.sampled_from(TEMPERATURES),
    st.sampled_from(["drop", "uniform"]),
    st.integers(0, 99),
)
def test_the_certificate_holds(problem, k, temperature, tail, seed):
    student, teacher, labels = problem
    mixed = mixed_with(labels, teacher.shape[1], seed)
    topk = TopK.from_logits(teacher, labels, min(k, teacher.shape[1]), TEMPERATURES)
    settings = {"temperature": temperature, "approximate": True, "reduction": "none"}
    exact = gradient(lambda s: pld_loss(s, teacher, mixed, **settings), student)
    ours = gradient(lambda s: pld_loss(s, topk, mixed, tail=tail, **settings), student)
    assert bool(((ours - exact).abs().sum(1) <= gradient_error_bound(topk, temperature, tail) + 1e-6).all())


@given(problems(), st.floats(0, 1))
def test_the_label_terms_are_exact_from_any_topk(problem, alpha):
    """What KD's alpha adds is the same from one class as from all of them."""
    student, teacher, labels = problem
    mixed = mixed_with(labels, teacher.shape[1])

    def term(signal):
        full, none = (
            gradient(lambda s: kd_loss(s, signal, mixed, alpha=a, temperature=1.0, reduction="none"), student)  # noqa: B023
            for a in (alpha, 0.0)
        )
        return full - (1 - alpha) * none

    of_ce = alpha * gradient(lambda s: cross_entropy_loss(s, mixed, reduction="none"), student)
    for signal in (teacher, TopK.from_logits(teacher, labels, 1, (1.0,))):
        torch.testing.assert_close(term(signal), of_ce)


def test_the_other_label_keeps_the_teachers_rank():
    student, teacher, labels = batch(6, 9)
    both = [mixed_with(labels, 9, seed) for seed in (0, 1)]
    for k in (1, 4, 9):
        topk = TopK.from_logits(teacher, labels, k)
        assert torch.equal(*(pld_loss(student, topk, mixed) for mixed in both))


@pytest.mark.parametrize("name", [name for name in loss_names() if name not in ("kd", "dkd", "ea_kd")])
def test_gradcheck(name):
    student, teacher, labels = batch(3, 7)
    loss = functools.partial(build_loss(name), teacher=teacher, labels=mixed_with(labels, 7), reduction="none")
    assert torch.autograd.gradcheck(loss, student.requires_grad_())


def test_autocast_weights_and_half_types_as_with_one_label():
    student, teacher, labels = torch.randn(6, 50), torch.randn(6, 50), torch.randint(50, (6,))
    mixed, weight = mixed_with(labels, 50), torch.rand(6)
    for name in loss_names():
        loss = build_loss(name)
        wanted = loss(student, teacher, mixed)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(loss(student, teacher, mixed), wanted)
        assert loss(student.bfloat16(), teacher, mixed).dtype == torch.float32
        each = loss(student, teacher, mixed, reduction="none")
        weighted = loss(student, teacher, mixed, weight=weight)
        torch.testing.assert_close(weighted, (each * weight).sum() / weight.sum())


def test_modules_and_standardised_logits_take_them():
    student, teacher, labels = torch.randn(6, 50), torch.randn(6, 50), torch.randint(50, (6,))
    mixed = mixed_with(labels, 50)
    topk = TopK.from_logits(teacher, labels, 50)
    assert torch.equal(PLDLoss()(student, topk, mixed), pld_loss(student, topk, mixed))
    assert torch.equal(CrossEntropyLoss()(student, mixed), cross_entropy_loss(student, mixed))
    for name in loss_names():
        side = "both" if needs_teacher(name) else "none"
        assert bool(torch.isfinite(build_loss(name, standardize=side)(student, topk, mixed)))


def test_a_share_has_no_gradient():
    student, labels = torch.randn(4, 5, requires_grad=True), torch.tensor([0, 1, 2, 3])
    mixed = mixed_with(labels, 5)
    mixed.share.requires_grad_()
    cross_entropy_loss(student, mixed).backward()
    assert student.grad is not None
    assert mixed.share.grad is None


LABELS = torch.tensor([0, 1, 2])
GOOD = MixedLabels(labels=LABELS, others=LABELS.flip(0), share=torch.tensor([0.5, 0.7, 1.0]))


@pytest.mark.parametrize("name", loss_names())
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"share": torch.tensor([0.5, 0.49, 1.0])},
            r"labels\.share: found 0\.49\.\.1, wanted 0\.5\.\.1; labels\.label",
        ),
        ({"share": torch.tensor([0.5, 1.01, 1.0])}, r"labels\.share: found 0\.5\.\.1\.01, wanted 0\.5\.\.1"),
        ({"share": torch.tensor([0.5, torch.nan, 1.0])}, r"labels\.share: found nan\.\.nan, wanted 0\.5\.\.1"),
        ({"share": torch.tensor([0.5, torch.inf, 1.0])}, r"labels\.share: found 0\.5\.\.inf, wanted 0\.5\.\.1"),
        ({"share": torch.tensor([1, 1, 1])}, r"labels\.share: found torch\.int64, wanted floating point"),
        ({"share": torch.tensor([1.0])}, r"labels\.share: found shape \[1\], wanted \[3\]"),
        ({"others": torch.tensor([0, 1, 5])}, r"labels\.others: found 0\.\.5, wanted 0\.\.4"),
        ({"others": torch.tensor([0, 1, -1])}, r"labels\.others: found -1\.\.1, wanted 0\.\.4"),
        ({"others": torch.tensor([0, 1])}, r"labels\.others: found shape \[2\], wanted \[3\]"),
        ({"others": LABELS.int()}, r"labels\.others: found torch\.int32, wanted int64 class indices"),
        ({"others": LABELS.to("meta")}, r"labels\.others: found it on meta, wanted cpu, .* use MixedLabels\.to\(dev"),
        ({"labels": torch.tensor([0, 1, 5])}, r"labels\.labels: found 0\.\.5, wanted 0\.\.4"),
        ({"labels": torch.tensor([0, 1])}, r"labels\.labels: found shape \[2\], wanted \[3\]"),
    ],
)
def test_bad_labels(name, change, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users have our checks alone
    student = torch.randn(3, 5)
    bad = dataclasses.replace(GOOD, **change)
    with pytest.raises(SignalError, match=message):
        build_loss(name)(student, torch.randn(3, 5), bad)
    assert bool(torch.isfinite(build_loss(name)(student, torch.randn(3, 5), GOOD)))


def test_the_labels_of_the_larger_share_are_the_topks():
    student, teacher = torch.randn(3, 5), torch.randn(3, 5)
    topk = TopK.from_logits(teacher, LABELS, 2)
    swapped = dataclasses.replace(GOOD, labels=GOOD.others, others=GOOD.labels)
    with pytest.raises(SignalError, match=r"labels: 2 of 3 differ from teacher\.labels"):
        pld_loss(student, topk, swapped)
    with pytest.raises(SignalError, match=r"found some, and teacher\.labels has none"):
        pld_loss(student, TopK.from_logits(teacher, None, 2), GOOD)
