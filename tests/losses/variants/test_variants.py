"""What WTTM, EA-KD, RLD, reverse KL, Jensen-Shannon and soft targets are, for all inputs, and the k that each needs."""

import functools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pld.errors import SignalError
from pld.losses import build_loss, ea_kd_loss, js_loss, kd_loss, rkl_loss, rld_loss, soft_ce_loss, wttm_loss
from pld.signals import TopK
from tests.losses.test_properties import gradient, problems

NEW = ("rkl", "js", "soft_ce", "wttm", "ea_kd", "rld")
TEMPERATURES = (1.0, 2.0)
each = functools.partial(functools.partial, reduction="none")


@given(problems(), st.sampled_from([0.5, 1.0, 2.0]))
def test_divergences_know_no_side_or_turn_it_round(problem, temperature):
    student, teacher, labels = problem
    settings = {"alpha": 0.0, "temperature": temperature}
    js, rkl, kd = (each(loss, labels=labels, **settings) for loss in (js_loss, rkl_loss, kd_loss))
    torch.testing.assert_close(js(student, teacher), js(teacher, student))
    torch.testing.assert_close(rkl(student, teacher), kd(teacher, student))
    assert bool((js(student, teacher) <= temperature**2 * math.log(2) + 1e-9).all())
    for loss in (js, rkl):
        assert bool((loss(student, teacher) >= -1e-9).all())
        torch.testing.assert_close(loss(teacher, teacher), torch.zeros(len(labels), dtype=torch.float64))


@given(problems(), st.integers(1, 12))
def test_soft_targets_and_unweighted_matching_at_1_are_kd(problem, k):
    """The values differ by the teacher's entropy, which no gradient sees; at T = 1 the power sum is 1."""
    student, teacher, labels = problem
    kd, soft_ce, wttm = (
        each(loss, labels=labels, temperature=1.0, **settings)
        for loss, settings in ((kd_loss, {"alpha": 0.0}), (soft_ce_loss, {}), (wttm_loss, {"alpha": 0.0}))
    )
    for signal in (teacher, TopK.from_logits(teacher, labels, min(k, teacher.shape[1]))):
        wanted = gradient(functools.partial(kd, teacher=signal), student)
        torch.testing.assert_close(gradient(functools.partial(soft_ce, teacher=signal), student), wanted)
        torch.testing.assert_close(wttm(student, signal), kd(student, signal))
    entropy = torch.special.entr(teacher.softmax(1)).sum(1)
    torch.testing.assert_close(soft_ce(student, teacher), kd(student, teacher) + entropy)


@given(problems(), st.integers(1, 12))
def test_the_power_sum_is_exact_from_any_topk(problem, k):
    """Of a student that divides the tail as the target does, lumping loses nothing: only the sum could differ."""
    _, teacher, labels = problem
    student = (teacher.softmax(1).sqrt() / teacher.softmax(1).sqrt().sum(1, keepdim=True)).log()
    off = student + torch.nn.functional.one_hot(labels, student.shape[1])  # S keeps the label at every k
    topk = TopK.from_logits(teacher, labels, min(k, teacher.shape[1]), TEMPERATURES)
    loss = each(wttm_loss, labels=labels, alpha=0.0, temperature=2.0, approximate=True)
    torch.testing.assert_close(loss(off, topk), loss(off, teacher))


@given(problems(), st.integers(1, 12))
def test_a_sure_teacher_teaches_nothing_in_ea_kd(problem, k):
    student, teacher, labels = problem
    sure = teacher.scatter(1, labels[:, None], 1e4)
    for signal in (sure, TopK.from_logits(sure, labels, min(k, teacher.shape[1]), TEMPERATURES)):
        grad = gradient(lambda s: ea_kd_loss(s, signal, labels, alpha=0.0, reduction="none"), student)  # noqa: B023
        assert bool((grad == 0).all())


@given(problems())
def test_no_gradient_flows_through_the_weight_of_ea_kd(problem):
    student, teacher, labels = problem
    loss, kd = each(ea_kd_loss, labels=labels, alpha=0.0, beta=1.0), each(kd_loss, labels=labels, alpha=0.0)
    kd = functools.partial(kd, teacher=teacher, temperature=1.0)
    tempered = ((side / 2).softmax(1) for side in (student, teacher))
    of_student, of_teacher = (torch.special.entr(side).sum(1, keepdim=True) for side in tempered)
    weight = of_teacher / 2 * (1 + of_student / math.log(student.shape[1]))
    ours = gradient(functools.partial(loss, teacher=teacher), student)
    torch.testing.assert_close(ours, weight * gradient(kd, student))


@given(problems(), st.integers(0, 99))
def test_what_the_teacher_puts_above_the_label_is_masked_in_rld(problem, seed):
    """However the teacher ranks those classes: only the largest of them, the first choice, is read."""
    student, teacher, labels = problem
    teacher = teacher.double()
    label = teacher.gather(1, labels[:, None])
    between = torch.rand(teacher.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    most = teacher.amax(1, keepdim=True)
    other = torch.where((teacher > label) & (teacher < most), label + between * (most - label), teacher)
    loss = each(rld_loss, labels=labels, alpha=0.0, beta=1.0)
    torch.testing.assert_close(loss(student, other), loss(student, teacher))
    last = teacher.scatter(1, labels[:, None], teacher.amin(1, keepdim=True) - 1)
    assert torch.equal(loss(student, last), build_loss("ce")(student, None, labels, reduction="none"))


@pytest.mark.parametrize("name", ["rkl", "js"])
def test_divergences_that_the_student_weighs_need_all_classes_at_any_temperature(name):
    student, teacher, labels = torch.randn(3, 8), torch.randn(3, 8), torch.tensor([0, 1, 2])
    topk = TopK.from_logits(teacher, labels, 4, TEMPERATURES)
    for temperature in (0.5, 1.0):
        loss = build_loss(name, temperature=temperature)
        assert "the student's own probabilities" in loss.required_signal.all_classes
        with pytest.raises(SignalError, match=r"k = 4 of 8 classes, wanted all: the student's own probabilities weigh"):
            loss(student, topk, labels)
    # The advice of the error.
    whole = TopK.from_logits(teacher, labels, 8)
    torch.testing.assert_close(build_loss(name)(student, whole, labels), build_loss(name)(student, teacher, labels))
    assert bool(torch.isfinite(build_loss(name, approximate=True)(student, topk, labels)))


@pytest.mark.parametrize("name", ["soft_ce", "wttm", "ea_kd", "rld"])
def test_others_take_any_k_up_to_temperature_1(name):
    student, teacher, labels = torch.randn(3, 8), torch.randn(3, 8), torch.tensor([0, 1, 2])
    topk = TopK.from_logits(teacher, labels, 2, TEMPERATURES)
    loss = build_loss(name, temperature=1.0)
    assert loss.required_signal.all_classes is None
    assert bool(torch.isfinite(loss(student, topk, labels)))
    hot = build_loss(name, temperature=2.0)
    assert "temperature 2 much of the teacher's mass" in hot.required_signal.all_classes
    with pytest.raises(SignalError, match=r"k = 2 of 8 classes, wanted all: at temperature 2 much"):
        hot(student, topk, labels)
    assert hot(student, TopK.from_logits(teacher, labels, 8, TEMPERATURES), labels) > 0


def test_ea_kd_says_that_its_entropies_have_a_temperature_of_their_own():
    loss = build_loss("ea_kd")
    assert loss.required_signal.temperatures == (1.0, 2.0)
    teacher, labels = torch.randn(3, 8), torch.tensor([0, 1, 2])
    with pytest.raises(SignalError, match=r"temperature 2: this teacher's signal holds 1$"):
        loss(torch.randn(3, 8), TopK.from_logits(teacher, labels, 2), labels)


@pytest.mark.parametrize("name", NEW)
def test_one_class_is_nothing_to_learn(name):
    student = torch.randn(2, 1, requires_grad=True)
    build_loss(name)(student, torch.randn(2, 1), torch.tensor([0, 0])).backward()
    assert bool((student.grad == 0).all())
