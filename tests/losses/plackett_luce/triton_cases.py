"""The Triton kernel against the slow float64 twins. Not collected by itself: `test_triton` runs it in another process.

Triton decides when it is imported whether kernels are interpreted. With TRITON_INTERPRET=1 in the environment the
kernel runs in NumPy on CPU tensors; without it, on the GPU: `pytest tests/losses/plackett_luce/triton_cases.py`.
"""

import functools
import itertools
import os

import jaxtyping
import pytest
import torch

from pld.errors import ConfigError
from pld.losses import PLDLoss, build_loss, plackett_luce_nll, pld_loss
from pld.losses.plackett_luce.nll import unchecked_nll
from pld.signals import MixedLabels, TopK
from tests.losses import twins
from tests.losses.test_properties import EXTREMES
from tests.losses.test_twins import TEMPERATURES, batch

DEVICE = torch.device("cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda")
TAILS = ("drop", "uniform")
MORE_TYPES = (torch.bfloat16, torch.float16, torch.float64)

fused = functools.partial(pld_loss, backend="triton", approximate=True, reduction="none")


def run(student, signal, labels, **settings):
    """The kernel's losses and gradient, on the CPU again."""
    signal = signal.to(DEVICE)
    leaf = student.to(DEVICE, copy=True).requires_grad_()
    if isinstance(labels, MixedLabels):
        labels = labels.to(DEVICE)
    else:
        labels = signal.labels if isinstance(signal, TopK) else labels.to(DEVICE)
    values = fused(leaf, signal, labels, **settings)
    (grad,) = torch.autograd.grad(values.sum(), leaf)
    assert values.dtype == (torch.float64 if student.dtype == torch.float64 else torch.float32)
    assert grad.dtype == student.dtype
    return values.detach().cpu(), grad.cpu()


def compare(num, classes, k, tail="drop", temperature=1.0, rows=7, *, labelled=True):
    """The first few rows against the twin; whether they had labels both inside and outside the top k."""
    student, teacher, labels = batch(num, classes)
    labels = labels if labelled else None
    topk = TopK.from_logits(teacher, labels, min(k, classes), TEMPERATURES)
    values, grad = run(student.float(), topk, labels, tail=tail, temperature=temperature)
    for i in range(min(num, rows)):
        exact = student[i].clone().requires_grad_()
        label = int(labels[i]) if labelled else None
        wanted = twins.pld(exact, teacher[i], label, min(k, classes), temperature, tail)
        wanted.backward()
        tolerance = 1e-5 * max(1.0, abs(wanted.item()))
        assert abs(values[i].item() - wanted.item()) <= tolerance
        assert float((grad[i].double() - exact.grad).abs().max()) <= tolerance
    return labelled and len((topk.classes == labels[:, None]).any(1)[:rows].unique()) == 2


def test_mixed_labels_are_those_of_the_larger_share():
    student, teacher, labels = batch(7, 50)
    mixed = MixedLabels(labels=labels, others=labels.flip(0), share=torch.full((7,), 0.75))
    topk = TopK.from_logits(teacher, labels, 5)
    for ours, wanted in zip(run(student.float(), topk, mixed), run(student.float(), topk, labels), strict=True):
        assert torch.equal(ours, wanted)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("k", [1, 5, "all"])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_small(classes, k, tail):
    compare(1, classes, classes if k == "all" else k, tail)
    compare(2, classes, classes if k == "all" else k, tail)


@pytest.mark.parametrize("tail", TAILS)
def test_labels_inside_and_outside_the_top_k(tail):
    assert compare(41, 10, 5, tail, temperature=0.5)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("k", [1, 5, 10])
def test_without_labels_the_teacher_ranks(k, tail):
    compare(3, 10, k, tail, labelled=False)


@pytest.mark.long
@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("k", [1, 5, 50])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_many_small(classes, k, tail):
    compare(41, classes, k, tail, rows=41)


@pytest.mark.parametrize(
    ("num", "classes", "k", "tail"),
    [
        (3, 1000, 50, "drop"),
        (3, 1000, 50, "uniform"),
        (1, 1000, 1000, "drop"),
        (2, 9001, 50, "uniform"),  # three blocks, the last one short
        (2, 4097, 1, "drop"),
        (1, 33, 32, "uniform"),
    ],
)
def test_large(num, classes, k, tail):
    compare(num, classes, k, tail, rows=2)


@pytest.mark.long
@pytest.mark.parametrize("num", [1, 2, 41])
@pytest.mark.parametrize("k", [1, 5, 50, 1000])
@pytest.mark.parametrize("tail", TAILS)
def test_a_thousand_classes(num, k, tail):
    compare(num, 1000, k, tail, rows=41 if k < 1000 else 3)


@pytest.mark.long
@pytest.mark.parametrize("k", [1, 50, 2000])
@pytest.mark.parametrize("tail", TAILS)
def test_imagenet_21k(k, tail):
    compare(2, 21841, k, tail)


def test_a_dense_teacher():
    student, teacher, labels = batch(3, 40)
    values, grad = run(student.float(), teacher.float(), labels)
    leaf = student.requires_grad_()
    wanted = pld_loss(leaf, teacher.float().double(), labels, reduction="none")
    torch.testing.assert_close(values.double(), wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(grad.double(), torch.autograd.grad(wanted.sum(), leaf)[0], atol=1e-5, rtol=0)


# The interpreter cuts digits off where a GPU rounds bfloat16: hence 2^-7 and not 2^-8.
@pytest.mark.parametrize(("dtype", "rounding"), [(torch.bfloat16, 2**-7), (torch.float16, 2**-11), (torch.float64, 0)])
@pytest.mark.parametrize("tail", TAILS)
def test_other_types_of_logits(dtype, rounding, tail):
    student, teacher, labels = batch(4, 100)
    student = student.to(dtype)
    topk = TopK.from_logits(teacher, labels, 5)
    values, grad = run(student, topk, labels, tail=tail)
    leaf = student.double().requires_grad_()
    wanted = pld_loss(leaf, topk, labels, tail=tail, reduction="none")
    exact = torch.autograd.grad(wanted.sum(), leaf)[0]
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(values.double(), wanted, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(grad.double(), exact, atol=tolerance / 10, rtol=tolerance + rounding)


def test_a_small_gradient_of_a_half_type_is_there_once_it_is_scaled():
    # Unscaled it is below float16's smallest number; a gradient scaler's factor brings it back.
    student = torch.zeros(1, 40, dtype=torch.float16)
    student[0, 1:] = -19.0
    order, weight = torch.tensor([[0]], device=DEVICE), torch.ones(1, 1, device=DEVICE)
    leaf = student.to(DEVICE).requires_grad_()
    nll = plackett_luce_nll(leaf, order, weight, backend="triton")
    (grad,) = torch.autograd.grad(nll.sum() * 65536, leaf)
    wanted = 65536 * torch.softmax(student.double(), dim=1)[:, 1:]
    torch.testing.assert_close(grad[:, 1:].cpu().double(), wanted, atol=0, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, *(pytest.param(t, marks=pytest.mark.long) for t in MORE_TYPES)])
@pytest.mark.parametrize("tail", TAILS)
def test_extremes_are_finite_and_exact(tail, dtype):
    labels = torch.tensor([0])
    for (_, student), (_, teacher), k in itertools.product(EXTREMES.items(), EXTREMES.items(), (1, 3, 5)):
        topk = TopK.from_logits(teacher, labels, k)
        values, grad = run(student.to(dtype), topk, labels, tail=tail)
        leaf = student.to(dtype).double().requires_grad_()
        wanted = pld_loss(leaf, topk, labels, tail=tail, reduction="none")
        exact = torch.autograd.grad(wanted.sum(), leaf)[0]
        torch.testing.assert_close(values.double(), wanted, atol=1e-5, rtol=1e-5)
        rounding = {torch.bfloat16: 2**-7, torch.float16: 2**-10}.get(dtype, 0.0)
        torch.testing.assert_close(grad.double(), exact, atol=1e-5, rtol=rounding)


def test_a_common_offset_costs_no_digits():
    # Random logits about 4096: multiples of 2^-11, which float32 holds there exactly.
    student, teacher, labels = batch(2, 1000)
    student = (student * 2048).round() / 2048
    topk = TopK.from_logits(teacher, labels, 5)
    values, grad = run((student + 4096).float(), topk, labels, tail="uniform")
    leaf = student.requires_grad_()
    wanted = pld_loss(leaf, topk, labels, tail="uniform", reduction="none")
    torch.testing.assert_close(values.double(), wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(grad.double(), torch.autograd.grad(wanted.sum(), leaf)[0], atol=1e-6, rtol=0)


def test_listed_classes_are_left_out_of_the_rest_not_subtracted():
    # Beside the listed class the rest is 1e-15 of the sum: as a difference it would be noise.
    student = torch.zeros(1, 64)
    student[0, 3] = 35.0
    order = torch.tensor([[3, 7]])
    weight = torch.tensor([[0.5, 0.5]])
    leaf, exact = student.to(DEVICE).requires_grad_(), student.double().requires_grad_()
    values = plackett_luce_nll(leaf, order.to(DEVICE), weight.to(DEVICE), backend="triton")
    wanted = plackett_luce_nll(exact, order, weight.double())
    torch.testing.assert_close(values.detach().cpu().double(), wanted.detach(), atol=0, rtol=1e-6)
    grads = (torch.autograd.grad(x.sum(), s)[0].cpu().double() for x, s in ((values, leaf), (wanted, exact)))
    torch.testing.assert_close(*grads, atol=1e-7, rtol=1e-6)


def test_entries_of_an_order_that_do_not_count():
    student = torch.randn(3, 6)
    order = torch.tensor([[1, -1, 3, 2, -1], [0, 5, -1, 4, -1], [4, -1, -1, -1, -1]])
    weight = torch.rand(3, 5) + 0.1
    rest_weight = torch.rand(3)
    leaf, exact = student.to(DEVICE).requires_grad_(), student.double().requires_grad_()
    values = plackett_luce_nll(
        leaf, order.to(DEVICE), weight.to(DEVICE), rest_weight=rest_weight.to(DEVICE), backend="triton"
    )
    wanted = plackett_luce_nll(exact, order, weight.double(), rest_weight=rest_weight.double())
    torch.testing.assert_close(values.detach().cpu().double(), wanted.detach(), atol=1e-6, rtol=1e-6)
    grads = (torch.autograd.grad(x.sum(), s)[0].cpu().double() for x, s in ((values, leaf), (wanted, exact)))
    torch.testing.assert_close(*grads, atol=1e-6, rtol=0)


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_gradients_scale_when_the_loss_is_not_the_last_operation(scale):
    student, teacher, labels = torch.randn(6, 9), torch.randn(6, 9).to(DEVICE), torch.randint(9, (6,)).to(DEVICE)
    weight = torch.rand(6).to(DEVICE)
    leaf = student.to(DEVICE).requires_grad_()
    (plain,) = torch.autograd.grad(fused(leaf, teacher, labels).sum(), leaf)
    (scaled,) = torch.autograd.grad((fused(leaf, teacher, labels) * weight).sum() * scale, leaf)
    torch.testing.assert_close(scaled, plain * weight[:, None] * scale)
    mean = pld_loss(leaf, teacher, labels, weight=weight, backend="triton")
    torch.testing.assert_close(torch.autograd.grad(mean, leaf)[0], plain * (weight / weight.sum())[:, None])


def test_backward_twice_over_a_retained_graph():
    leaf = torch.randn(3, 9).to(DEVICE).requires_grad_()
    loss = fused(leaf, torch.randn(3, 9).to(DEVICE), torch.randint(9, (3,)).to(DEVICE)).sum() * 0.5
    first = torch.autograd.grad(loss, leaf, retain_graph=True)[0].clone()
    for _ in range(2):
        assert torch.equal(torch.autograd.grad(loss, leaf, retain_graph=True)[0], first)


def test_a_second_derivative_is_refused():
    leaf = torch.randn(2, 5).to(DEVICE).requires_grad_()
    loss = fused(leaf, torch.randn(2, 5).to(DEVICE), torch.tensor([0, 1]).to(DEVICE))
    (grad,) = torch.autograd.grad(loss.sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        grad.sum().backward()


def test_the_teacher_gets_no_gradient():
    leaf = torch.randn(2, 5).to(DEVICE).requires_grad_()
    order, weight = torch.tensor([[0, 1], [2, 3]]).to(DEVICE), torch.rand(2, 2).to(DEVICE).requires_grad_()
    plackett_luce_nll(leaf, order, weight, backend="triton").sum().backward()
    assert leaf.grad is not None
    assert weight.grad is None


@pytest.mark.parametrize("layout", ["columns", "every other", "transposed", "expanded"])
def test_any_strides(layout):
    logits = torch.randn(8, 20)
    student = {
        "columns": logits[:4, 3:13],
        "every other": logits[:4, ::2],
        "transposed": logits[:, :4].T,
        "expanded": logits[:1, :8].expand(4, 8),
    }[layout]
    topk = TopK.from_logits(torch.randn(student.shape), torch.tensor([0, 1, 2, 3]), 3)
    values, grad = run(student, topk, topk.labels)
    wanted, exact = run(student.contiguous(), topk, topk.labels)
    assert torch.equal(values, wanted)
    assert torch.equal(grad, exact)


def test_a_class_out_of_range_gives_its_row_nan_and_writes_nowhere_else():
    # On a GPU nobody looks at the labels first: what must not happen is a write to another row.
    student = torch.randn(3, 8).to(DEVICE).requires_grad_()
    index = torch.tensor([[1, 2], [3, 8], [-1, 4]]).to(DEVICE)
    valid, weight = torch.ones_like(index, dtype=torch.bool), torch.ones(3, 2).to(DEVICE)
    values = unchecked_nll(student, index, valid, weight, None, "triton")
    assert values.isnan().tolist() == [False, True, True]
    (grad,) = torch.autograd.grad(values[0], student)
    wanted = unchecked_nll(student[:1], index[:1], valid[:1], weight[:1], None)
    torch.testing.assert_close(grad[:1], torch.autograd.grad(wanted.sum(), student)[0][:1])


def test_more_ranks_than_the_kernel_takes():
    labels = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(
        ConfigError, match=r'found 5001 ranks, k and the label, wanted at most 4096; .* backend="torch"'
    ):
        run(torch.zeros(1, 5000), torch.zeros(1, 5000), labels)


def test_gradcheck():
    student, teacher, labels = (x.to(DEVICE) for x in batch(1, 4))
    topk = TopK.from_logits(teacher, labels, 2)
    loss = functools.partial(fused, teacher=topk, labels=labels, tail="uniform")
    assert torch.autograd.gradcheck(loss, student.requires_grad_())


def test_module_and_registry_pass_the_backend_on():
    student, teacher = torch.randn(3, 7).to(DEVICE), torch.randn(3, 7).to(DEVICE)
    labels = torch.tensor([0, 1, 2]).to(DEVICE)
    wanted = fused(student, teacher, labels).mean()
    assert torch.equal(PLDLoss(backend="triton")(student, teacher, labels), wanted)
    assert torch.equal(build_loss("pld", backend="triton")(student, teacher, labels), wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiles_without_graph_breaks(dtype, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # shape checks are not for compiled code
    student, teacher, labels = batch(3, 50)
    topk = TopK.from_logits(teacher, labels, 5).to(DEVICE)

    def loss(logits):
        return pld_loss(logits, topk, topk.labels, backend="triton", tail="uniform") * 3

    eager, compiled = (student.to(DEVICE, dtype, copy=True).requires_grad_() for _ in "ab")
    value = torch.compile(loss, fullgraph=True, backend="aot_eager")(compiled)
    (grad,) = torch.autograd.grad(value, compiled, retain_graph=True)
    torch.testing.assert_close(value, loss(eager))
    torch.testing.assert_close(grad, torch.autograd.grad(loss(eager), eager)[0])
    assert torch.equal(torch.autograd.grad(value, compiled)[0], grad)
