"""What must hold for all inputs: identities, invariances, extremes, and the certificate."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pld.losses import (
    PLDLoss,
    build_loss,
    cross_entropy_loss,
    gradient_error_bound,
    listmle_loss,
    loss_names,
    needs_teacher,
    plackett_luce_nll,
    pld_loss,
    standardize_logits,
)
from pld.signals import TopK

TEMPERATURES = (0.5, 1.0, 2.0)


@st.composite
def problems(draw, max_spread=8.0):
    """(student, teacher, labels) in float64."""
    num, classes = draw(st.integers(1, 5)), draw(st.integers(2, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    spread = draw(st.floats(0.01, max_spread))
    student, teacher = (torch.randn(num, classes, generator=generator, dtype=torch.float64) * spread for _ in "ab")
    if draw(st.booleans()):
        teacher = teacher.round()  # with ties
    return student, teacher, torch.randint(classes, (num,), generator=generator)


def gradient(loss, student):
    leaf = student.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf).sum(), leaf)[0]


@given(problems())
def test_one_hot_weights_are_cross_entropy(problem):
    student, _, labels = problem
    nll = plackett_luce_nll(student, labels[:, None], torch.ones(len(labels), 1, dtype=torch.float64))
    torch.testing.assert_close(nll, cross_entropy_loss(student, labels, reduction="none"))


@given(problems())
def test_a_certain_teacher_is_cross_entropy(problem):
    student, teacher, labels = problem
    certain = teacher.clone().scatter_(1, labels[:, None], 1e4)
    torch.testing.assert_close(pld_loss(student, certain, labels), cross_entropy_loss(student, labels))


@given(problems())
def test_a_uniform_teacher_is_listmle(problem):
    student, teacher, labels = problem
    torch.testing.assert_close(
        pld_loss(student, torch.zeros_like(teacher), labels), listmle_loss(student, torch.zeros_like(teacher), labels)
    )


@given(problems(), st.floats(-50, 50))
def test_translation_changes_nothing(problem, shift):
    student, teacher, labels = problem
    wanted = pld_loss(student, teacher, labels)
    torch.testing.assert_close(pld_loss(student + shift, teacher, labels), wanted)
    torch.testing.assert_close(pld_loss(student, teacher + round(shift), labels), wanted)


@given(problems(), st.integers(1, 12), st.sampled_from(["drop", "uniform"]))
def test_the_gradient_sums_to_zero(problem, k, tail):
    student, teacher, labels = problem
    topk = TopK.from_logits(teacher, labels, min(k, teacher.shape[1]), TEMPERATURES)
    sums = gradient(lambda s: pld_loss(s, topk, labels, tail=tail, reduction="none"), student).sum(1)
    torch.testing.assert_close(sums, torch.zeros_like(sums), atol=1e-9, rtol=0)


@given(problems())
def test_all_classes_are_dense(problem):
    student, teacher, labels = problem
    topk = TopK.from_logits(teacher, labels, teacher.shape[1], TEMPERATURES)
    for temperature in TEMPERATURES:
        dense, full = (
            pld_loss(student, signal, labels, temperature=temperature, reduction="none") for signal in (teacher, topk)
        )
        torch.testing.assert_close(full, dense)


@given(problems(), st.randoms(use_true_random=False))
def test_permuting_classes_permutes_the_gradient(problem, random):
    student, teacher, labels = problem
    teacher = teacher + torch.arange(teacher.shape[1]) * 1e-7  # ties are broken by class number
    order = list(range(student.shape[1]))
    random.shuffle(order)
    moved = torch.tensor([order.index(label) for label in labels.tolist()])
    straight = gradient(lambda s: pld_loss(s, teacher, labels, reduction="none"), student)
    permuted = gradient(lambda s: pld_loss(s, teacher[:, order], moved, reduction="none"), student[:, order])
    torch.testing.assert_close(permuted, straight[:, order])


@given(problems(), problems(), st.floats(0, 1))
def test_convex_in_the_student(problem, other, where):
    student, teacher, labels = problem
    end = torch.randn(student.shape, generator=torch.Generator().manual_seed(other[0].numel()), dtype=torch.float64) * 5

    def loss(s):
        return pld_loss(s, teacher, labels, reduction="none")

    between = loss(where * student + (1 - where) * end)
    assert bool((between <= where * loss(student) + (1 - where) * loss(end) + 1e-9).all())


@settings(max_examples=300)
@given(problems(), st.integers(1, 12), st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from(["drop", "uniform"]))
def test_the_certificate_holds_for_truncation(problem, k, temperature, tail):
    student, teacher, labels = problem
    topk = TopK.from_logits(teacher, labels, min(k, teacher.shape[1]), TEMPERATURES)
    exact = gradient(lambda s: pld_loss(s, teacher, labels, temperature=temperature, reduction="none"), student)
    ours = gradient(
        lambda s: pld_loss(s, topk, labels, temperature=temperature, tail=tail, approximate=True, reduction="none"),
        student,
    )
    bound = gradient_error_bound(topk, temperature, tail)
    assert bool(((ours - exact).abs().sum(1) <= bound + 1e-6).all())


@pytest.mark.long
def test_the_certificate_holds_ten_thousand_times():
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        classes = int(torch.randint(2, 200, (), generator=generator))
        k = int(torch.randint(1, classes + 1, (), generator=generator))
        spread = float(torch.rand((), generator=generator)) * 6
        student, teacher = (torch.randn(100, classes, generator=generator, dtype=torch.float64) * spread for _ in "ab")
        labels = torch.randint(classes, (100,), generator=generator)
        topk = TopK.from_logits(teacher, labels, k)
        exact = gradient(lambda s: pld_loss(s, teacher, labels, reduction="none"), student)  # noqa: B023
        ours = gradient(lambda s: pld_loss(s, topk, labels, reduction="none"), student)  # noqa: B023
        assert bool(((ours - exact).abs().sum(1) <= gradient_error_bound(topk) + 1e-6).all())


EXTREMES = {
    "wide": torch.tensor([[1e4, -1e4, 0.0, 5.0, -5.0]]),
    "wide, label last": torch.tensor([[-1e4, 1e4, 1e4, 0.0, 1.0]]),
    "equal": torch.zeros(1, 5),
    "one": torch.tensor([[0.0, 0.0, 300.0, 0.0, 0.0]]),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", [name for name in loss_names() if needs_teacher(name)])
@pytest.mark.parametrize("student", EXTREMES)
@pytest.mark.parametrize("teacher", EXTREMES)
def test_extremes_stay_finite(name, student, teacher, dtype):
    labels = torch.tensor([0])
    for k in (1, 3, 5):
        topk = TopK.from_logits(EXTREMES[teacher], labels, k, (0.5, 1.0, 2.0, 4.0))
        leaf = EXTREMES[student].to(dtype, copy=True).requires_grad_()
        loss = build_loss(name, approximate=True)(leaf, topk, labels)
        loss.backward()
        assert bool(torch.isfinite(loss))
        assert bool(torch.isfinite(leaf.grad).all())
        assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("classes", [2, 7, 1000])
def test_a_constant_student_learns_from_dist_by_cross_entropy_alone(classes, dtype):
    labels = torch.randint(classes, (5,), generator=torch.Generator().manual_seed(0))
    teacher = torch.randn(5, classes, generator=torch.Generator().manual_seed(1))
    student = torch.full((5, classes), 0.3, dtype=dtype)
    dist, ce = (gradient(functools.partial(loss, labels=labels), student) for loss in (
        functools.partial(build_loss("dist"), teacher=teacher), cross_entropy_loss))  # fmt: skip
    assert torch.equal(dist, ce)


def test_wide_logits_take_the_slow_path_and_agree_with_it():
    generator = torch.Generator().manual_seed(1)
    teacher = torch.randn(4, 20, generator=generator)
    labels = torch.randint(20, (4,), generator=generator)
    student = torch.randn(4, 20, generator=generator) * 200
    student.scatter_(1, labels[:, None], 800.0)  # placed first, it leaves sums that float32 cannot hold next to it
    for topk in (TopK.from_logits(teacher, labels, k) for k in (3, 20)):
        loss = functools.partial(pld_loss, teacher=topk, labels=labels, reduction="none")
        narrow, exact = gradient(loss, student), gradient(loss, student.double())
        torch.testing.assert_close(narrow.double(), exact, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_gradients_scale_when_the_loss_is_not_the_last_operation(scale):
    student, teacher = torch.randn(6, 9), torch.randn(6, 9)
    labels, weight = torch.randint(9, (6,)), torch.rand(6)
    plain = gradient(lambda s: pld_loss(s, teacher, labels, reduction="none"), student)
    scaled = gradient(lambda s: (pld_loss(s, teacher, labels, reduction="none") * weight).sum() * scale, student)
    torch.testing.assert_close(scaled, plain * weight[:, None] * scale)
    weighted = gradient(lambda s: pld_loss(s, teacher, labels, weight=weight), student)
    torch.testing.assert_close(weighted, plain * (weight / weight.sum())[:, None])


def test_backward_twice_over_a_retained_graph():
    student, teacher = torch.randn(6, 9, requires_grad=True), torch.randn(6, 9)
    loss = pld_loss(student, teacher, torch.randint(9, (6,)))
    first = torch.autograd.grad(loss, student, retain_graph=True)[0].clone()
    assert torch.equal(torch.autograd.grad(loss, student)[0], first)


def test_a_second_derivative_is_refused():
    student = torch.randn(2, 5, requires_grad=True)
    grad = torch.autograd.grad(pld_loss(student, torch.randn(2, 5), torch.tensor([0, 1])), student, create_graph=True)[
        0
    ]
    with pytest.raises(RuntimeError, match="does not require grad"):
        grad.sum().backward()


def test_autocast_does_not_touch_it():
    student, teacher, labels = torch.randn(6, 1000), torch.randn(6, 1000), torch.randint(1000, (6,))
    wanted = pld_loss(student, teacher, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(pld_loss(student, teacher, labels), wanted)


def test_a_minus_one_in_an_order_counts_for_nothing():
    student = torch.randn(2, 6, dtype=torch.float64)
    order, weight = torch.tensor([[1, 3, 2], [0, 5, 4]]), torch.rand(2, 3, dtype=torch.float64)
    gaps = torch.tensor([[1, -1, 3, 2, -1], [0, 5, -1, 4, -1]])
    heavy = torch.full((2, 5), 7.0, dtype=torch.float64)
    heavy[gaps >= 0] = weight.flatten()
    torch.testing.assert_close(plackett_luce_nll(student, gaps, heavy), plackett_luce_nll(student, order, weight))


def test_module_and_registry_are_the_function():
    student, teacher, labels = torch.randn(4, 7), torch.randn(4, 7), torch.tensor([0, 1, 2, 3])
    wanted = pld_loss(student, teacher, labels, temperature=2.0)
    assert torch.equal(PLDLoss(temperature=2.0)(student, teacher, labels), wanted)
    assert torch.equal(build_loss("pld", temperature=2.0)(student, teacher, labels), wanted)
    both = build_loss("pld", standardize="both")(student, teacher, labels)
    assert torch.equal(both, pld_loss(standardize_logits(student), standardize_logits(teacher), labels))
