"""What is not finite in a teacher's signal is an error where looking is free, and no finite loss where it is not."""

import dataclasses
import math

import pytest
import torch

from pld.errors import SignalError
from pld.losses import (
    DISTLoss,
    DKDLoss,
    EAKDLoss,
    JSLoss,
    KDLoss,
    ListMLELoss,
    PLDLoss,
    PListMLELoss,
    RKLLoss,
    RLDLoss,
    SoftCELoss,
    WTTMLoss,
    build_loss,
    cross_entropy_loss,
    dense_logprobs,
    dist_loss,
    dkd_loss,
    ea_kd_loss,
    gradient_error_bound,
    js_loss,
    kd_loss,
    listmle_loss,
    loss_names,
    needs_teacher,
    plackett_luce_nll,
    pld_loss,
    plistmle_loss,
    rkl_loss,
    rld_loss,
    soft_ce_loss,
    wttm_loss,
)
from pld.signals import MixedLabels, TopK

GENERATOR = torch.Generator().manual_seed(0)
STUDENT, TEACHER = (torch.randn(3, 6, generator=GENERATOR) for _ in "ab")
# In the first row the label is the teacher's first choice, in the others it may be anywhere.
LABELS = torch.tensor([int(TEACHER[0].argmax()), 5, 2])
TEMPERATURES = (0.5, 1.0, 2.0, 4.0)
WITH_TEACHER = [name for name in loss_names() if needs_teacher(name)]

FUNCTIONS = {
    "pld": pld_loss,
    "pld, uniform tail": lambda *batch: pld_loss(*batch, tail="uniform"),
    "kd": lambda *batch: kd_loss(*batch, approximate=True),
    "dkd": lambda *batch: dkd_loss(*batch, approximate=True),
    "dist": dist_loss,
    "rkl": lambda *batch: rkl_loss(*batch, approximate=True),
    "js": lambda *batch: js_loss(*batch, approximate=True),
    "soft_ce": soft_ce_loss,
    "wttm": lambda *batch: wttm_loss(*batch, approximate=True),
    "ea_kd": ea_kd_loss,
    "rld": rld_loss,
    "listmle": lambda *batch: listmle_loss(*batch, approximate=True),
    "plistmle": plistmle_loss,
}
MODULES = {
    "PLDLoss": PLDLoss(),
    "KDLoss": KDLoss(approximate=True),
    "DKDLoss": DKDLoss(approximate=True),
    "DISTLoss": DISTLoss(),
    "RKLLoss": RKLLoss(approximate=True),
    "JSLoss": JSLoss(approximate=True),
    "SoftCELoss": SoftCELoss(),
    "WTTMLoss": WTTMLoss(approximate=True),
    "EAKDLoss": EAKDLoss(),
    "RLDLoss": RLDLoss(),
    "ListMLELoss": ListMLELoss(approximate=True),
    "PListMLELoss": PListMLELoss(),
}
NAMED = {f"build_loss {name}": build_loss(name, approximate=True) for name in WITH_TEACHER}
STANDARDIZED = {
    f"build_loss {name}, {side} standardised": build_loss(name, approximate=True, standardize=side)
    for name in WITH_TEACHER
    if name != "plistmle"  # takes no truncated teacher there
    for side in ("both", "teacher")
}
LOSSES = {**FUNCTIONS, **MODULES, **NAMED, **STANDARDIZED}
OF_A_TOPK = {
    "gradient_error_bound": gradient_error_bound,
    "dense_logprobs": lambda topk: dense_logprobs(topk, 6, approximate=True),
}


def topk(k=2):
    return TopK.from_logits(TEACHER, LABELS, k, TEMPERATURES)


def spoilt(signal, field, bad, row=0):
    """The signal with one value of a field replaced, wherever in the row it stands."""
    values = getattr(signal, field).clone()
    values.view(len(values), -1)[row, -1] = bad
    return dataclasses.replace(signal, **{field: values})


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_dense_teacher(loss, bad):
    for row in range(3):
        teacher = TEACHER.clone()
        teacher[row, 3] = bad
        with pytest.raises(SignalError, match=r"of shape \[3, 6\]: found \d inf or nan, wanted finite values"):
            LOSSES[loss](STUDENT, teacher, LABELS)


@pytest.mark.parametrize(
    ("field", "bad", "found"),
    [
        ("logprobs", math.nan, "found 1 inf or nan, wanted finite values"),
        ("logprobs", math.inf, "found 1 inf or nan, wanted finite values"),
        ("logprobs", -math.inf, "found 1 inf or nan, wanted finite values"),
        ("label_logprob", math.nan, "found 1 inf or nan, wanted finite values"),
        ("label_logprob", math.inf, "found 1 inf or nan, wanted finite values"),
        ("label_logprob", -math.inf, "found 1 inf or nan, wanted finite values"),
        ("tail_logmass", math.nan, "found 1 nan or .inf, wanted finite values, or -inf where the tail is empty"),
        ("tail_logmass", math.inf, "found 1 nan or .inf, wanted finite values, or -inf where the tail is empty"),
    ],
)
@pytest.mark.parametrize("k", [1, 2, 6])
def test_a_topk_made_by_hand(field, bad, found, k):
    for row in range(3):
        signal = spoilt(topk(k), field, bad, row)
        for loss in LOSSES.values():
            with pytest.raises(SignalError, match=rf"\.{field} of shape .*{found}"):
                loss(STUDENT, signal, LABELS)
        for function in OF_A_TOPK.values():
            with pytest.raises(SignalError, match=rf"topk\.{field} of shape .*{found}"):
                function(signal)
        with pytest.raises(SignalError, match=r"not finite|nan or .inf"):
            signal.validate(6)


def test_the_first_class_that_is_the_label_is_looked_at_too():
    """No loss reads it there, and all the same the signal is wrong."""
    signal = topk()
    logprobs = signal.logprobs.clone()
    logprobs[0, 0] = torch.nan
    assert signal.classes[0, 0] == LABELS[0]
    for loss in LOSSES.values():
        with pytest.raises(SignalError, match=r"\.logprobs of shape \[3, 2\]: found 1 inf or nan"):
            loss(STUDENT, dataclasses.replace(signal, logprobs=logprobs), LABELS)


def test_an_empty_tail_is_none_of_it():
    for k in (5, 6):  # of six classes, with the label
        signal = topk(k)
        assert bool((signal.tail_logmass == -torch.inf).any())
        for loss in FUNCTIONS.values():
            assert bool(torch.isfinite(loss(STUDENT, signal, LABELS)))
    without = dataclasses.replace(topk(6), tail_logmass=torch.zeros(3, 0), temperatures=())
    assert torch.equal(pld_loss(STUDENT, without, LABELS), pld_loss(STUDENT, topk(6), LABELS))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_weights(bad):
    weight = torch.tensor([1.0, bad, 1.0])
    found = r"weight of shape \[3\]: found 1 inf or nan, wanted finite values"
    for loss in (*MODULES.values(), *NAMED.values(), *STANDARDIZED.values()):
        with pytest.raises(SignalError, match=found):
            loss(STUDENT, TEACHER, LABELS, weight=weight)
    with pytest.raises(SignalError, match=found):
        cross_entropy_loss(STUDENT, LABELS, weight=weight)
    order, ranks = torch.tensor([[0, 1], [2, -1], [4, 3]]), torch.ones(3, 2)
    with pytest.raises(SignalError, match="rest_" + found):
        plackett_luce_nll(STUDENT, order, ranks, rest_weight=weight)
    ranks[1, 1] = bad  # of no class: it is ignored, whatever it is
    assert bool(torch.isfinite(plackett_luce_nll(STUDENT, order, ranks)).all())
    ranks[1, 0] = bad
    with pytest.raises(SignalError, match=r"weight of shape \[3, 2\]: found 1 inf or nan"):
        plackett_luce_nll(STUDENT, order, ranks)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"logprob_error": math.nan}, "TopK.logprob_error: found nan, wanted a finite number, nats, 0 or more"),
        ({"logprob_error": math.inf}, "TopK.logprob_error: found inf"),
        ({"logprob_error": -0.1}, "TopK.logprob_error: found -0.1"),
        ({"temperatures": (1.0, math.nan, 2.0, 4.0)}, r"TopK.temperatures: found \[1.0, nan, .*\], wanted finite"),
        ({"temperatures": (0.5, 1.0, 2.0, math.inf)}, r"TopK.temperatures: found .*inf\], wanted finite"),
        ({"temperatures": (0.5, 1.0, 0.0, 4.0)}, r"TopK.temperatures: found .*0.0, 4.0\], wanted finite"),
    ],
)
def test_its_plain_numbers(fields, message):
    signal = dataclasses.replace(topk(), **fields)
    for look in (lambda: signal.validate(6), lambda: gradient_error_bound(signal)):
        with pytest.raises(SignalError, match=message):
            look()


@pytest.mark.parametrize("name", loss_names())
def test_no_value_is_looked_at_on_a_device_that_would_be_waited_for(name):
    """Tensors of the meta device have no values to look at: what asks for one raises."""
    signal, loss = topk().to("meta"), build_loss(name, approximate=True)
    for teacher in (signal, TEACHER.to("meta")):
        student = STUDENT.to("meta").requires_grad_()
        others, share = torch.zeros(3, dtype=torch.int64, device="meta"), torch.ones(3, device="meta")
        for labels in (signal.labels, MixedLabels(labels=signal.labels, others=others, share=share)):
            student.grad = None
            loss(student, teacher, labels, weight=torch.ones(3, device="meta")).backward()
            assert student.grad.shape == student.shape


@pytest.mark.parametrize("field", ["logprobs", "label_logprob", "tail_logmass"])
@pytest.mark.parametrize(
    "loss", ["pld", "pld, uniform tail", "kd", "dkd", "dist", "rkl", "js", "soft_ce", "wttm", "ea_kd", "rld"]
)
def test_where_nobody_looks_the_loss_is_not_finite_either(loss, field, monkeypatch):
    """What a GPU makes of it; ListMLE and p-ListMLE read no probabilities."""
    for name in ("arguments", "plackett_luce.nll"):
        monkeypatch.setattr(f"pld.losses.{name}.values_are_free", lambda tensor: False)
    signal = topk()
    values = getattr(signal, field) * torch.nan
    assert not bool(torch.isfinite(FUNCTIONS[loss](STUDENT, dataclasses.replace(signal, **{field: values}), LABELS)))
    assert not bool(torch.isfinite(FUNCTIONS[loss](STUDENT, TEACHER * torch.nan, LABELS)))
