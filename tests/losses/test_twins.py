"""Every loss against its slow float64 twin, dense and top-k, values and gradients."""

import pytest
import torch

from pld.losses import (
    cross_entropy_loss,
    dist_loss,
    dkd_loss,
    ea_kd_loss,
    js_loss,
    kd_loss,
    listmle_loss,
    pld_loss,
    plistmle_loss,
    rkl_loss,
    rld_loss,
    soft_ce_loss,
    wttm_loss,
)
from pld.signals import TopK
from tests.losses import twins

TEMPERATURES = (0.5, 1.0, 1.5, 2.0, 4.0)

# name -> (loss, twin, settings)
CASES = {
    "pld": (pld_loss, twins.pld, {}),
    "pld at 0.5": (pld_loss, twins.pld, {"temperature": 0.5}),
    "pld at 4": (pld_loss, twins.pld, {"temperature": 4.0, "approximate": True}),
    "pld, uniform tail": (pld_loss, twins.pld, {"tail": "uniform"}),
    "pld at 2, uniform tail": (pld_loss, twins.pld, {"tail": "uniform", "temperature": 2.0, "approximate": True}),
    "listmle": (listmle_loss, twins.listmle, {"approximate": True}),
    "plistmle": (plistmle_loss, twins.plistmle, {}),
    "kd": (kd_loss, twins.kd, {"approximate": True}),
    "kd at 1": (kd_loss, twins.kd, {"alpha": 0.5, "temperature": 1.0}),
    "dkd": (dkd_loss, twins.dkd, {"approximate": True}),
    "dkd at 1": (dkd_loss, twins.dkd, {"alpha": 2.0, "beta": 0.5, "temperature": 1.0}),
    "rkl": (rkl_loss, twins.rkl, {"approximate": True}),
    "rkl at 1": (rkl_loss, twins.rkl, {"alpha": 0.5, "temperature": 1.0, "approximate": True}),
    "js": (js_loss, twins.js, {"approximate": True}),
    "soft_ce": (soft_ce_loss, twins.soft_ce, {}),
    "soft_ce at 2": (soft_ce_loss, twins.soft_ce, {"temperature": 2.0, "approximate": True}),
    "wttm": (wttm_loss, twins.wttm, {"approximate": True}),
    "wttm at 1": (wttm_loss, twins.wttm, {"alpha": 0.5, "beta": 3.0, "temperature": 1.0}),
    "ea_kd": (ea_kd_loss, twins.ea_kd, {}),
    "ea_kd at 4": (
        ea_kd_loss,
        twins.ea_kd,
        {"alpha": 0.5, "beta": 2.0, "temperature": 4.0, "entropy_temperature": 0.5, "approximate": True},
    ),
    "rld": (rld_loss, twins.rld, {}),
    "rld at 4": (rld_loss, twins.rld, {"alpha": 0.5, "beta": 8.0, "temperature": 4.0, "approximate": True}),
}


def batch(num, classes, seed=0, spread=3.0):
    """Logits, and labels of which about half are the teacher's first choice."""
    generator = torch.Generator().manual_seed(seed)
    student = torch.randn(num, classes, generator=generator, dtype=torch.float64) * spread
    teacher = torch.randn(num, classes, generator=generator, dtype=torch.float64) * spread
    labels = torch.randint(classes, (num,), generator=generator)
    labels[::2] = teacher[::2].argmax(1)
    # Logits that float32 holds exactly: the twin then sees the very same numbers.
    return student.float().double(), teacher.float().double(), labels


def compare(loss, twin, settings, num, classes, k, dtype, *, rows):
    student, teacher, labels = batch(num, classes)
    logits = student.to(dtype, copy=True).requires_grad_()
    signal = teacher.to(dtype) if k == "dense" else TopK.from_logits(teacher, labels, min(k, classes), TEMPERATURES)
    values = loss(logits, signal, labels, reduction="none", **settings)
    values.sum().backward()
    own = {name: value for name, value in settings.items() if name != "approximate"}
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    for i in rows:
        exact = student[i].clone().requires_grad_()
        wanted = twin(exact, teacher[i], int(labels[i]), classes if k == "dense" else min(k, classes), **own)
        wanted.backward()
        scale = max(1.0, abs(wanted.item()))
        assert abs(values[i].item() - wanted.item()) <= tolerance * scale
        assert float((logits.grad[i].double() - exact.grad).abs().max()) <= tolerance * scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 5, 50, "dense"])
@pytest.mark.parametrize("classes", [2, 3, 10, 101])
@pytest.mark.parametrize("name", CASES)
def test_small(name, classes, k, dtype):
    for num in (1, 2, 41):
        compare(*CASES[name], num, classes, k, dtype, rows=range(min(num, 7)))


@pytest.mark.parametrize("k", [1, 5, 50, "dense"])
@pytest.mark.parametrize("name", CASES)
def test_a_thousand_classes(name, k):
    compare(*CASES[name], 41, 1000, k, torch.float32, rows=[0, 1])


@pytest.mark.long
@pytest.mark.parametrize("k", [1, 5, 50])
@pytest.mark.parametrize("name", CASES)
def test_imagenet_21k(name, k):
    compare(*CASES[name], 2, 21841, k, torch.float32, rows=[0, 1])


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_imagenet_21k_dense(name):
    compare(*CASES[name], 2, 21841, "dense", torch.float32, rows=[0])


def compare_dist(num, classes, k, dtype, spread=3.0, **settings):
    """DIST takes the whole batch: its columns do."""
    student, teacher, labels = batch(num, classes, spread=spread)
    logits, exact = student.to(dtype, copy=True).requires_grad_(), student.clone().requires_grad_()
    signal = teacher.to(dtype) if k == "dense" else TopK.from_logits(teacher, labels, min(k, classes), TEMPERATURES)
    value = dist_loss(logits, signal, labels, **settings)
    own = {name: value for name, value in settings.items() if name != "approximate"}
    wanted = twins.dist(exact, teacher, labels, classes if k == "dense" else k, **own)
    value.backward()
    wanted.backward()
    scale = max(1.0, abs(wanted.item())) * (1e-5 if dtype == torch.float32 else 1e-10)
    assert abs(value.item() - wanted.item()) <= scale
    assert float((logits.grad - exact.grad).abs().max()) <= scale


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 5, "dense"])
@pytest.mark.parametrize("classes", [2, 3, 10, 101])
@pytest.mark.parametrize("num", [1, 2, 41])
def test_dist(num, classes, k, dtype):
    compare_dist(num, classes, k, dtype)
    compare_dist(num, classes, k, dtype, alpha=0.5, beta=1.5, gamma=0.7, temperature=4.0, approximate=True)


@pytest.mark.parametrize("num", [2, 41])
def test_dist_where_samples_and_classes_hardly_differ(num):
    """Vectors whose spread is a ten-thousandth of their length: float32 would have no digits of it left."""
    compare_dist(num, 10, "dense", torch.float32, spread=1e-4)


@pytest.mark.parametrize("k", [50, "dense"])
@pytest.mark.parametrize("num", [1, 2, 41])
def test_dist_of_a_thousand_classes(num, k):
    compare_dist(num, 1000, k, torch.float32)


@pytest.mark.long
@pytest.mark.parametrize("num", [1, 2, 41])
def test_dist_of_imagenet_21k(num):
    compare_dist(num, 21841, "dense", torch.float32)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing):
    student, _, labels = batch(41, 10)
    logits, exact = student.float().requires_grad_(), student.clone().requires_grad_()
    values = cross_entropy_loss(logits, labels, label_smoothing=smoothing, reduction="none")
    wanted = torch.stack([twins.cross_entropy(s, y, smoothing) for s, y in zip(exact, labels.tolist(), strict=True)])
    values.sum().backward()
    wanted.sum().backward()
    torch.testing.assert_close(values.double(), wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits.grad.double(), exact.grad, atol=1e-5, rtol=0)


@pytest.mark.parametrize("k", [1, 4, "dense"])
@pytest.mark.parametrize("name", ["pld", "pld, uniform tail", "listmle", "plistmle", "dist"])
def test_gradcheck(name, k):
    loss, settings = (dist_loss, {}) if name == "dist" else CASES[name][::2]
    student, teacher, labels = batch(3, 7)
    signal = teacher if k == "dense" else TopK.from_logits(teacher, labels, k, TEMPERATURES)
    logits = student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, signal, labels, reduction="none", **settings), logits)
