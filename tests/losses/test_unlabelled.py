"""Losses of images without labels: against the float64 twins, what PLD is then, and which losses refuse None."""

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pld.errors import SignalError
from pld.losses import (
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
    losses_without_labels,
    pld_loss,
    plistmle_loss,
    rkl_loss,
    soft_ce_loss,
    wttm_loss,
)
from pld.signals import TopK
from tests.losses import twins
from tests.losses.test_properties import EXTREMES, gradient, problems
from tests.losses.test_twins import TEMPERATURES, batch

# name -> (loss, twin, settings)
CASES = {
    "pld": (pld_loss, twins.pld, {}),
    "pld at 4": (pld_loss, twins.pld, {"temperature": 4.0, "approximate": True}),
    "pld, uniform tail": (pld_loss, twins.pld, {"tail": "uniform"}),
    "listmle": (listmle_loss, twins.listmle, {"approximate": True}),
    "plistmle": (plistmle_loss, twins.plistmle, {}),
    "kd": (kd_loss, twins.kd, {"alpha": 0.0, "approximate": True}),
    "rkl": (rkl_loss, twins.rkl, {"alpha": 0.0, "approximate": True}),
    "js": (js_loss, twins.js, {"alpha": 0.0, "approximate": True}),
    "soft_ce": (soft_ce_loss, twins.soft_ce, {}),
    "wttm": (wttm_loss, twins.wttm, {"alpha": 0.0, "approximate": True}),
    "ea_kd": (ea_kd_loss, twins.ea_kd, {"alpha": 0.0}),
}
# The losses whose label's term has a weight, which must be 0 for images without labels.
WITH_ALPHA = ("kd", "dist", "rkl", "js", "wttm", "ea_kd")
# The settings with which a loss takes images without labels.
SETTINGS = {"pld": {}, "listmle": {}, "plistmle": {}, "soft_ce": {}} | {name: {"alpha": 0.0} for name in WITH_ALPHA}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 5, 50, "dense"])
@pytest.mark.parametrize("classes", [2, 10, 101])
@pytest.mark.parametrize("name", CASES)
def test_twins(name, classes, k, dtype):
    loss, twin, settings = CASES[name]
    student, teacher, _ = batch(3, classes)
    kept, tolerance = classes if k == "dense" else min(k, classes), 1e-5 if dtype == torch.float32 else 1e-10
    signal = teacher.to(dtype) if k == "dense" else TopK.from_logits(teacher, None, kept, TEMPERATURES)
    logits, exact = student.to(dtype, copy=True).requires_grad_(), student.clone().requires_grad_()
    own = {name: value for name, value in settings.items() if name != "approximate"}
    values = loss(logits, signal, None, reduction="none", **settings)
    wanted = torch.stack([twin(s, t, None, kept, **own) for s, t in zip(exact, teacher, strict=True)])
    values.sum().backward()
    wanted.sum().backward()
    torch.testing.assert_close(values.double(), wanted, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(logits.grad.double(), exact.grad, atol=3 * tolerance, rtol=tolerance)


@pytest.mark.parametrize("k", [1, 5, "dense"])
@pytest.mark.parametrize("num", [1, 41])
def test_dist_is_its_twin(num, k):
    student, teacher, _ = batch(num, 10)
    signal = teacher if k == "dense" else TopK.from_logits(teacher, None, k, TEMPERATURES)
    logits, exact = student.clone().requires_grad_(), student.clone().requires_grad_()
    value = dist_loss(logits, signal, None, alpha=0.0)
    wanted = twins.dist(exact, teacher, None, 10 if k == "dense" else k, alpha=0.0)
    value.backward()
    wanted.backward()
    torch.testing.assert_close(value, wanted)
    torch.testing.assert_close(logits.grad, exact.grad)


@given(problems(), st.integers(1, 12), st.sampled_from(["drop", "uniform"]), st.sampled_from(TEMPERATURES))
def test_pld_is_that_of_the_teachers_first_choice_as_the_label(problem, k, tail, temperature):
    student, teacher, _ = problem
    unlabelled = TopK.from_logits(teacher, None, min(k, teacher.shape[1]), TEMPERATURES)
    first = unlabelled.classes[:, 0].clone()
    labelled = TopK.from_logits(teacher, first, unlabelled.k, TEMPERATURES)
    settings = {"temperature": temperature, "tail": tail, "approximate": True, "reduction": "none"}
    for signal, of_label in ((unlabelled, labelled), (teacher, teacher)):
        ours, wanted = (pld_loss(student, s, y, **settings) for s, y in ((signal, None), (of_label, first)))
        torch.testing.assert_close(ours, wanted)
        torch.testing.assert_close(
            gradient(functools.partial(pld_loss, teacher=signal, labels=None, **settings), student),
            gradient(functools.partial(pld_loss, teacher=of_label, labels=first, **settings), student),
        )
    bounds = (gradient_error_bound(topk, temperature, tail) for topk in (unlabelled, labelled))
    torch.testing.assert_close(*bounds)


@given(problems(), st.integers(1, 12), st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from(["drop", "uniform"]))
def test_the_certificate_holds(problem, k, temperature, tail):
    student, teacher, _ = problem
    topk = TopK.from_logits(teacher, None, min(k, teacher.shape[1]), TEMPERATURES)
    settings = {"temperature": temperature, "approximate": True, "reduction": "none"}
    exact = gradient(lambda s: pld_loss(s, teacher, None, **settings), student)
    ours = gradient(lambda s: pld_loss(s, topk, None, tail=tail, **settings), student)
    assert bool(((ours - exact).abs().sum(1) <= gradient_error_bound(topk, temperature, tail) + 1e-6).all())


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("student", EXTREMES)
@pytest.mark.parametrize("teacher", EXTREMES)
def test_extremes_stay_finite(name, student, teacher):
    for k in (1, 5):
        topk = TopK.from_logits(EXTREMES[teacher], None, k, (1.0, 2.0))
        leaf = EXTREMES[student].clone().requires_grad_()
        loss = build_loss(name, approximate=True, **SETTINGS[name])(leaf, topk, None)
        loss.backward()
        assert bool(torch.isfinite(loss))
        assert bool(torch.isfinite(leaf.grad).all())


@pytest.mark.parametrize("name", loss_names())
def test_a_loss_takes_none_or_names_those_that_do(name):
    student, teacher = torch.randn(3, 6), torch.randn(3, 6)
    refused = [build_loss(name)] if build_loss(name).required_signal.label else []
    refused += [build_loss(name, alpha=0.3)] if name in WITH_ALPHA else []
    assert bool(refused) == (SETTINGS.get(name) != {})
    for loss in refused:
        with pytest.raises(SignalError, match=r"labels: found None, .* Losses that need no labels: kd with alpha = 0"):
            loss(student, teacher, None)
    if name in SETTINGS:
        loss = build_loss(name, **SETTINGS[name])
        assert loss.required_signal.label is None
        assert bool(torch.isfinite(loss(student, teacher, None)))
        assert name in losses_without_labels()
    else:
        assert f"{name} " not in losses_without_labels()


def test_functions_and_modules_take_none():
    student, teacher = torch.randn(3, 6), torch.randn(3, 6)
    topk = TopK.from_logits(teacher, None, 6)
    assert torch.equal(PLDLoss()(student, topk, None), pld_loss(student, topk, topk.labels))
    both = build_loss("pld", standardize="both")(student, topk, None)
    torch.testing.assert_close(both, build_loss("pld", standardize="both")(student, teacher, None))
    weight = torch.tensor([1.0, 0.0, 2.0])
    each = pld_loss(student, topk, None, reduction="none")
    torch.testing.assert_close(pld_loss(student, topk, None, weight), (each * weight).sum() / 3)


def test_labels_belong_to_the_signal_or_to_none_of_both():
    student, teacher, labels = torch.randn(3, 6), torch.randn(3, 6), torch.tensor([0, 1, 2])
    with pytest.raises(SignalError, match=r"found some, and teacher\.labels has none; pass teacher\.labels itself"):
        pld_loss(student, TopK.from_logits(teacher, None, 2), labels)
    with pytest.raises(SignalError, match=r"found none, and teacher\.labels has some"):
        pld_loss(student, TopK.from_logits(teacher, labels, 2), None)
    with pytest.raises(SignalError, match=r"dkd_loss: labels: found None, .* it is defined by the label"):
        dkd_loss(student, teacher, None)
    with pytest.raises(SignalError, match="cross_entropy_loss: labels: found None"):
        cross_entropy_loss(student, None)
    with pytest.raises(SignalError, match=r"kd_loss: .*alpha = 0\.1 is the weight of the label's term"):
        kd_loss(student, teacher, None)
