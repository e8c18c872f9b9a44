"""Losses over positions: against the flattened call and the float64 twins, and what is left out counts for nothing."""

import functools

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pld.errors import ConfigError, SignalError
from pld.losses import (
    CrossEntropyLoss,
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
    pld_loss,
)
from pld.signals import MixedLabels, TopK
from tests.losses import twins

MODULES = {
    "pld": PLDLoss,
    "pld, uniform tail": functools.partial(PLDLoss, tail="uniform"),
    "kd": functools.partial(KDLoss, approximate=True),
    "dkd": functools.partial(DKDLoss, approximate=True),
    "listmle": functools.partial(ListMLELoss, approximate=True),
    "plistmle": PListMLELoss,
    "rkl": functools.partial(RKLLoss, approximate=True),
    "js": functools.partial(JSLoss, approximate=True),
    "soft_ce": SoftCELoss,
    "wttm": functools.partial(WTTMLoss, approximate=True),
    "ea_kd": EAKDLoss,
    "rld": RLDLoss,
    "ce": CrossEntropyLoss,
}
IGNORED = -100
CLASSES, KEPT = 7, 3
# A class that is never probable is one more class to them all the same.
COUNT_CLASSES = ("listmle", "plistmle", "ea_kd", "pld, uniform tail")


def world(class_dim, ignored=0.3, seed=0, dtype=torch.float64):
    """Student, teacher, labels and weight of 2 x 3 x 4 positions, about a third of them ignored and nan."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(2, 3, 4, CLASSES, generator=generator, dtype=torch.float64) * 2 for _ in "ab")
    labels = torch.randint(CLASSES, (2, 3, 4), generator=generator)
    weight = torch.rand(2, 3, 4, generator=generator, dtype=torch.float64)
    out = torch.rand(2, 3, 4, generator=generator) < ignored
    labels[out], student[out], teacher[out], weight[out] = IGNORED, torch.nan, torch.nan, torch.nan
    # As a network gives them: contiguous with the classes where they are.
    student, teacher = (side.movedim(-1, class_dim).contiguous().to(dtype) for side in (student, teacher))
    return student, teacher, labels, weight.to(dtype)


def signal_of(teacher, labels, class_dim, kind):
    """The teacher as it is, or a TopK with a row for each position."""
    if kind == "dense":
        return teacher
    rows = teacher.movedim(class_dim, -1).flatten(0, -2).nan_to_num(0.0)
    return TopK.from_logits(rows, labels.flatten().clamp(min=0), KEPT, (1.0, 2.0, 4.0))


def call(loss, student, teacher, labels, weight=None):
    return (
        loss(student, labels, weight) if isinstance(loss, CrossEntropyLoss) else loss(student, teacher, labels, weight)
    )


@pytest.mark.parametrize("kind", ["dense", "top-k"])
@pytest.mark.parametrize("class_dim", [1, -1])
@pytest.mark.parametrize("name", MODULES)
def test_it_is_the_flattened_call_of_what_counts(name, class_dim, kind):
    student, teacher, labels, weight = world(class_dim)
    student.requires_grad_()
    keep = labels != IGNORED
    plain = student.detach().movedim(class_dim, -1)[keep].requires_grad_()
    kept = teacher.movedim(class_dim, -1)[keep]
    for given_weight in (None, weight):
        args = (signal_of(teacher, labels, class_dim, kind), labels, given_weight)
        kept_weight = None if given_weight is None else given_weight[keep]
        flat = (signal_of(kept, labels[keep], -1, kind), labels[keep], kept_weight)
        for reduction in ("mean", "none"):
            loss = MODULES[name](class_dim=class_dim, ignore_index=IGNORED, reduction=reduction)
            ours, wanted = call(loss, student, *args), call(MODULES[name](reduction=reduction), plain, *flat)
            if reduction == "none":
                assert ours.shape == labels.shape
                assert bool((ours[~keep] == 0).all())
            torch.testing.assert_close(ours if reduction == "mean" else ours[keep], wanted)
            of_ours, of_wanted = (
                torch.autograd.grad(x.sum(), leaf)[0] for x, leaf in ((ours, student), (wanted, plain))
            )
            of_ours = of_ours.movedim(class_dim, -1)
            torch.testing.assert_close(of_ours[keep], of_wanted)
            assert bool((of_ours[~keep] == 0).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("class_dim", [1, -1])
def test_the_twin_at_each_position(class_dim, dtype):
    student, teacher, labels, _ = world(class_dim, dtype=dtype)
    student.requires_grad_()
    loss = PLDLoss(class_dim=class_dim, ignore_index=IGNORED)(student, teacher.float(), labels)
    loss.backward()
    assert loss.dtype == torch.float32
    rows, targets = (side.detach().double().movedim(class_dim, -1) for side in (student, teacher))
    places = (labels != IGNORED).nonzero().tolist()
    exact = {tuple(at): rows[tuple(at)].clone().requires_grad_() for at in places}
    wanted = sum(twins.pld(s, targets[at], int(labels[at]), CLASSES) for at, s in exact.items()) / len(exact)
    wanted.backward()
    tolerance = 1e-5 if dtype == torch.float32 else 2e-3
    assert abs(loss.item() - wanted.item()) <= 1e-5 * max(1.0, wanted.item())
    for at, one in exact.items():
        grad = student.grad.movedim(class_dim, -1)[at].double()
        torch.testing.assert_close(grad, one.grad, atol=tolerance, rtol=tolerance)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.floats(0, 1), st.sampled_from([1, -1]))
def test_the_mean_is_over_what_counts(seed, ignored, class_dim):
    student, teacher, labels, weight = world(class_dim, ignored, seed)
    student.requires_grad_()
    layout = {"class_dim": class_dim, "ignore_index": IGNORED}
    keep = labels != IGNORED
    each = PLDLoss(**layout, reduction="none")(student, teacher, labels)
    assert bool((each[~keep] == 0).all())
    mean, weighted = (PLDLoss(**layout)(student, teacher, labels, w) for w in (None, weight))
    if bool(keep.any()):
        torch.testing.assert_close(mean, each.sum() / keep.sum())
        torch.testing.assert_close(weighted, (each * weight)[keep].sum() / weight[keep].sum())
        return
    assert mean.item() == weighted.item() == 0
    assert bool((torch.autograd.grad(mean, student)[0] == 0).all())


def test_a_sequence_and_a_plain_batch():
    student, teacher, labels = torch.randn(2, 5, 7), torch.randn(2, 5, 7), torch.randint(7, (2, 5))
    wanted = pld_loss(student.flatten(0, 1), teacher.flatten(0, 1), labels.flatten())
    assert torch.equal(PLDLoss(class_dim=-1)(student, teacher, labels), wanted)
    plain = student[0], teacher[0], labels[0]
    for class_dim in (None, 1, -1):
        assert torch.equal(PLDLoss(class_dim=class_dim, ignore_index=IGNORED)(*plain), pld_loss(*plain))
    out = labels[0].clone()
    out[1:3] = IGNORED
    keep = out != IGNORED
    ours = PLDLoss(ignore_index=IGNORED)(student[0], teacher[0], out)
    torch.testing.assert_close(ours, pld_loss(student[0][keep], teacher[0][keep], out[keep]))
    unlabelled = PLDLoss(class_dim=-1)(student, teacher, None)
    assert torch.equal(unlabelled, pld_loss(student.flatten(0, 1), teacher.flatten(0, 1), None))
    across = DISTLoss(class_dim=-1)(student, teacher, labels)
    assert torch.equal(across, DISTLoss()(student.flatten(0, 1), teacher.flatten(0, 1), labels.flatten()))


@pytest.mark.parametrize("class_dim", [1, -1])
def test_what_it_is_given_stays_as_it_is(class_dim):
    """Blanking writes into a copy; and where nothing is left out, contiguous rows are not copied at all."""
    student, teacher, labels, weight = world(class_dim)
    before = [x.clone() for x in (student, teacher, labels, weight)]
    PLDLoss(class_dim=class_dim, ignore_index=IGNORED)(student, teacher, labels, weight)
    for now, then in zip((student, teacher, labels, weight), before, strict=True):
        assert torch.equal(now.nan_to_num(9), then.nan_to_num(9))
    seen = []
    loss = PLDLoss(class_dim=-1)
    loss.function = lambda s, *_, **__: seen.append(s.data_ptr()) or s.sum()
    loss(student, teacher, None)
    assert seen == [student.data_ptr()]


GOOD = (torch.zeros(2, 5, 3), torch.zeros(2, 5, 3), torch.zeros(2, 3, dtype=torch.int64))


@pytest.mark.parametrize(
    ("layout", "arguments", "message"),
    [
        ({}, GOOD, r"student_logits: found .*\[2, 5, 3\], wanted .*\[B, C\].*; a module .* PLDLoss\(class_dim=1\)"),
        ({"ignore_index": -1}, GOOD, r"student_logits: found shape \[2, 5, 3\], wanted \[B, C\]; .*class_dim=1, which"),
        (
            {"class_dim": -1},
            GOOD,
            r"labels: found shape \[2, 3\], wanted \[2, 5\] .* with the classes in dimension -1; cl",
        ),
        (
            {"class_dim": 1},
            (GOOD[0], torch.zeros(2, 3, 5), GOOD[2]),
            r"teacher: found shape \[2, 3, 5\], wanted \[2, 5, 3",
        ),
        ({"class_dim": 1}, (*GOOD, torch.ones(2)), r"weight: found shape \[2\], wanted \[2, 3\] for student_logits"),
        ({"class_dim": 1}, (*GOOD[:2], GOOD[2] - 100), r"labels: found -100\.\.-100, wanted 0\.\.4"),
        (
            {"class_dim": 1, "ignore_index": -1},
            (*GOOD[:2], None),
            r"labels: found None, wanted labels, from which ignore",
        ),
        (
            {"class_dim": 1},
            (*GOOD[:2], MixedLabels(labels=GOOD[2][0], others=GOOD[2][0], share=torch.ones(3))),
            r"labels: found MixedLabels, wanted a tensor, with class_dim .*; without these the module takes",
        ),
    ],
)
def test_bad_shapes(layout, arguments, message, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users have our checks alone
    with pytest.raises(SignalError, match=message):
        PLDLoss(**layout)(*arguments)


def test_a_topk_has_a_row_for_each_position():
    student, teacher, labels, _ = world(1)
    loss = PLDLoss(class_dim=1, ignore_index=IGNORED)
    topk = signal_of(teacher, labels, 1, "top-k")
    other = labels.clone()
    first = tuple((labels != IGNORED).nonzero()[0].tolist())
    other[first] = (labels[first] + 1) % CLASSES
    with pytest.raises(
        SignalError, match=r"labels: 1 of \d+ that count differ from teacher\.labels; .*labels\.flatten"
    ):
        loss(student, topk, other)
    keep = labels != IGNORED
    fewer = TopK.from_logits(teacher.movedim(1, -1)[keep], labels[keep], KEPT)
    with pytest.raises(SignalError, match=r"teacher: found classes of shape .* wanted \[24, k\]"):
        loss(student, fewer, labels)


def test_bad_layouts_and_a_loss_of_the_whole_batch(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users have our checks alone
    for class_dim in (0, 2, True):
        with pytest.raises(ConfigError, match=r"pld_loss: class_dim = .*, wanted 1 for logits \[B, C, ...\], -1 for"):
            PLDLoss(class_dim=class_dim)
    for ignore_index in (1.5, True, "-100"):
        with pytest.raises(ConfigError, match=r"pld_loss: ignore_index = .*, wanted an integer such as -100"):
            PLDLoss(ignore_index=ignore_index)
    with pytest.raises(
        ConfigError, match=r"dist_loss: ignore_index = -100, wanted None: its value depends on the whole"
    ):
        DISTLoss(class_dim=1, ignore_index=IGNORED)
    # The advice.
    student, teacher, labels, _ = world(1)
    keep = labels != IGNORED
    assert bool(torch.isfinite(DISTLoss()(student.movedim(1, -1)[keep], teacher.movedim(1, -1)[keep], labels[keep])))
    shown = "class_dim=1, ignore_index=-100)"
    assert repr(PLDLoss(class_dim=1, ignore_index=IGNORED)).endswith(shown)


@pytest.mark.parametrize("kind", ["dense", "top-k"])
@pytest.mark.parametrize("name", [name for name in MODULES if name not in COUNT_CLASSES])
def test_masked_out_classes_are_refused_and_the_advice_is_right(name, kind):
    generator = torch.Generator().manual_seed(1)
    student, teacher = (torch.randn(4, CLASSES, generator=generator) for _ in "ab")
    masked = torch.zeros(4, CLASSES, dtype=torch.bool)
    masked[:, 2] = masked[0, 5] = True
    labels, loss = torch.tensor([0, 1, 3, 4]), MODULES[name]()
    infinite = [side.masked_fill(masked, -torch.inf) for side in (student, teacher)]
    with pytest.raises(SignalError, match=r"found 5 inf or nan.*logits\[:, allowed\]; .* logits\.clamp\(min=-1e4\)"):
        call(loss, *infinite, labels)
    if not isinstance(loss, CrossEntropyLoss):
        with pytest.raises(SignalError, match=r"teacher of .* found 5 inf or nan.*logits\[:, allowed\]"):
            call(loss, student, infinite[1], labels)
    ours, target = (side.clamp(min=-1e4) for side in infinite)
    ours.requires_grad_()
    signal = target if kind == "dense" else TopK.from_logits(target, labels, KEPT, (1.0, 2.0, 4.0))
    value = call(loss, ours, signal, labels)
    value.backward()
    rows = []
    for row in range(4):
        left = [c for c in range(CLASSES) if not masked[row, c]]
        label = torch.tensor([left.index(int(labels[row]))])
        less = teacher[row : row + 1, left]
        less = less if kind == "dense" else TopK.from_logits(less, label, KEPT, (1.0, 2.0, 4.0))
        rows.append(call(loss, student[row : row + 1, left], less, label))
    torch.testing.assert_close(value, torch.stack(rows).mean())
    assert bool((ours.grad[masked] == 0).all())
    mixed = infinite[0].clone()
    mixed[0, 0] = torch.nan
    with pytest.raises(SignalError, match=r"found 6 inf or nan, wanted finite values$"):
        call(loss, mixed, teacher, labels)
