"""Standardised logits work with every loss of the registry, on both sides or the teacher's alone."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pld.errors import ConfigError
from pld.losses import build_loss, loss_names, needs_teacher, standardize_logits
from pld.signals import TopK
from tests.losses import twins

TWINS = {
    "ce": lambda s, t, y: twins.cross_entropy(s, y),
    "ls": lambda s, t, y: twins.cross_entropy(s, y, 0.1),
    "kd": lambda s, t, y: twins.kd(s, t, y, len(t)),
    "dkd": lambda s, t, y: twins.dkd(s, t, y, len(t)),
    "listmle": lambda s, t, y: twins.listmle(s, t, y, len(t)),
    "plistmle": lambda s, t, y: twins.plistmle(s, t, y, len(t)),
    "pld": lambda s, t, y: twins.pld(s, t, y, len(t)),
    "rkl": lambda s, t, y: twins.rkl(s, t, y, len(t)),
    "js": lambda s, t, y: twins.js(s, t, y, len(t)),
    "soft_ce": lambda s, t, y: twins.soft_ce(s, t, y, len(t)),
    "wttm": lambda s, t, y: twins.wttm(s, t, y, len(t)),
    "ea_kd": lambda s, t, y: twins.ea_kd(s, t, y, len(t)),
    "rld": lambda s, t, y: twins.rld(s, t, y, len(t)),
}


def twin(name, students, teachers, labels):
    """The mean over the batch."""
    if name == "dist":
        return twins.dist(students, teachers, labels, teachers.shape[1])
    samples = zip(students, teachers, labels.tolist(), strict=True)
    return torch.stack([TWINS[name](*sample) for sample in samples]).mean()


@pytest.mark.parametrize("name", loss_names())
@pytest.mark.parametrize("side", ["both", "teacher"])
@settings(max_examples=25)
# A class whose probability is the same in both samples but for 1e-12: DIST takes it for constant.
# And a teacher of two classes, of which standardising leaves the sign: its columns differ by rounding alone.
@example(num=2, classes=2, seed=20, scale=0.99999, shift=1.0, ties=False)
@example(num=2, classes=2, seed=2, scale=44.0, shift=0.0, ties=True)
@given(
    num=st.integers(1, 4),
    classes=st.integers(2, 9),
    seed=st.integers(0, 2**32),
    scale=st.floats(0.1, 50),
    shift=st.floats(-20, 20),
    ties=st.booleans(),
)
def test_every_loss_takes_them(name, side, num, classes, seed, scale, shift, ties):
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(num, classes, generator=generator, dtype=torch.float64) for _ in "ab")
    student, teacher = student * scale + shift, (teacher * 3).round() if ties else teacher * scale - shift
    labels = torch.randint(classes, (num,), generator=generator)
    if side == "teacher" and not needs_teacher(name):
        with pytest.raises(ConfigError, match="standardize = 'teacher'"):
            build_loss(name, standardize=side)
        return
    loss = build_loss(name, standardize=side)
    exact = student.clone().requires_grad_()
    standardized = [twins.standardize(row) for row in exact] if side == "both" else list(exact)
    wanted = twin(name, torch.stack(standardized), torch.stack([twins.standardize(row) for row in teacher]), labels)
    wanted.backward()
    # Where a column is constant but for rounding, Pearson's 1e-8 in the denominator turns 1e-16 into up to 1e-8.
    atol = 1e-7 if name == "dist" else 1e-9
    for signal in (teacher, TopK.from_logits(teacher, labels, classes)):
        logits = student.clone().requires_grad_()
        value = loss(logits, signal, labels)
        value.backward()
        torch.testing.assert_close(value, wanted, atol=atol, rtol=1e-9)
        torch.testing.assert_close(logits.grad, exact.grad, atol=1e-7, rtol=1e-6)


def test_their_mean_is_0_and_their_deviation_1():
    logits = torch.randn(5, 100) * 7 + 3
    scaled = standardize_logits(logits)
    torch.testing.assert_close(scaled.mean(1), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.std(1), torch.ones(5))
    assert bool(torch.isfinite(standardize_logits(torch.zeros(2, 5))).all())
