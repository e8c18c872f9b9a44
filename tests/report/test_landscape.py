"""`pld landscape`: its numbers against the float64 twins and the theory, and the command."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pld.cli.main import main
from pld.report.measures.landscape import LOSSES, PLD_TEMPERATURES, Plane, grid, random_plane, surface
from tests.losses import twins

PLD = [name for name in LOSSES if name.startswith("PLD")]


def twin(name, plane, students):
    """The mean loss of the students."""
    if name == "DIST":
        teachers = plane.teacher.expand(len(students), -1)
        return twins.dist(students, teachers, torch.full((len(students),), plane.label), len(plane.teacher), gamma=0.0)
    temperature = PLD_TEMPERATURES[PLD.index(name)]
    losses = [twins.pld(s, plane.teacher, plane.label, len(plane.teacher), temperature) for s in students]
    return torch.stack(losses).mean()


def test_there_are_the_papers_five():
    assert list(LOSSES) == ["PLD, T = 2", "PLD, T = 1", "PLD, T = 0.5", "PLD, T = 0.1", "DIST"]


@pytest.mark.parametrize("num_classes", [2, 7, 1000])
def test_the_plane_is_the_papers(num_classes):
    plane = random_plane(num_classes, seed=3)
    assert float(plane.teacher.norm()) == pytest.approx(1)
    torch.testing.assert_close(plane.directions @ plane.directions.T, torch.eye(2, dtype=torch.float64))
    points = grid(plane, 5)
    assert points.tolist() == pytest.approx([-5, -2.5, 0, 2.5, 5])
    there = plane.students(points[:1], points[-1:])[0]
    torch.testing.assert_close(there, plane.teacher - 5 * plane.directions[0] + 5 * plane.directions[1])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("num_classes", [3, 40])
def test_values_are_the_twins(name, num_classes):
    plane = random_plane(num_classes, seed=1)
    points = grid(plane, 9)
    values = surface(plane, LOSSES[name], points)
    for i, j in ((0, 0), (0, 8), (4, 4), (5, 2), (7, 3)):
        student = plane.teacher + points[i] * plane.directions[0] + points[j] * plane.directions[1]
        assert float(values[i, j]) == pytest.approx(float(twin(name, plane, student[None])), rel=1e-9)


def bends(values):
    """Second differences along both axes and both diagonals."""
    turned = values.flip(1)
    lines = [values, values.T, *(x.diagonal(d)[:, None] for x in (values, turned) for d in range(-6, 7))]
    return torch.cat([x.diff(n=2, dim=0).flatten() for x in lines])


@settings(max_examples=20)
@given(st.integers(2, 60), st.integers(0, 2**32))
def test_pld_is_convex_along_every_line(num_classes, seed):
    plane = random_plane(num_classes, seed)
    for name in PLD:
        assert float(bends(surface(plane, LOSSES[name], grid(plane, 13))).min()) >= -1e-9


def test_dist_is_not():
    plane = random_plane(60, seed=0)
    assert float(bends(surface(plane, LOSSES["DIST"], grid(plane, 13))).min()) < -1e-2


@pytest.mark.parametrize("name", PLD)
def test_plds_minimum_is_where_newtons_method_finds_it(name):
    plane = random_plane(100, seed=0)
    points = grid(plane, 61)
    values = surface(plane, LOSSES[name], points)
    where = torch.zeros(2, dtype=torch.float64)
    for _ in range(4):

        def at(ab):
            return twin(name, plane, (plane.teacher + ab @ plane.directions)[None])

        where = where - torch.linalg.solve(
            torch.autograd.functional.hessian(at, where), torch.autograd.functional.jacobian(at, where)
        )
    assert float(where.abs().max()) < 5
    i, j = divmod(int(values.argmin()), len(points))
    cell = float(points[1] - points[0])
    assert max(abs(float(points[i] - where[0])), abs(float(points[j] - where[1]))) <= cell


def test_dists_correlation_is_best_at_the_teacher():
    plane = random_plane(100, seed=0)
    values = surface(plane, LOSSES["DIST"], grid(plane, 61))
    assert divmod(int(values.argmin()), 61) == (30, 30)


def test_another_teacher_has_the_label_with_it():
    teacher = torch.tensor([0.0, 0.6, 0.8], dtype=torch.float64)
    plane = Plane(teacher=teacher, directions=torch.eye(3, dtype=torch.float64)[:2])
    assert plane.label == 2


def landscape(monkeypatch, *argv):
    monkeypatch.setattr("sys.argv", ["pld", "landscape", *argv])
    return main()


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert landscape(monkeypatch, "--classes", "20", "--steps", "7") == 0
    printed = capsys.readouterr().out
    assert "PLD, T = 0.1" in printed
    assert "picture: landscape.png" in printed
    with Image.open("landscape.png") as picture:
        assert picture.width > 1600
        assert len(picture.convert("RGB").getcolors(2**24)) > 1000
    for out in ("new/a.svg", "new/b.svg"):
        assert landscape(monkeypatch, "--classes", "20", "--steps", "7", "--out", out) == 0
    drawn = (tmp_path / "new" / "a.svg").read_text()
    assert drawn == (tmp_path / "new" / "b.svg").read_text()
    assert "the label is the teacher's most probable" in drawn
    assert "not defined for one sample" in drawn.replace("\n", " ")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--classes", "1"), "1 classes, seed 0: wanted at least 2 classes"),
        (("--seed", "-1"), "seed -1: wanted"),
        (("--seed", str(2**70)), "wanted at least 2 classes and a seed from 0 to 2^63 - 1"),
        (("--steps", "1"), "1 steps along each direction: wanted at least 2"),
        (("--out", "landscape.xyz"), "landscape.xyz: wanted a name ending in .png"),
        (("--classes", "5", "--steps", "3", "--out", "file/inside.png"), "file/inside.png: cannot be written"),
    ],
)
def test_bad_arguments(tmp_path, monkeypatch, capsys, argv, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert landscape(monkeypatch, *argv) == 2
    assert message in capsys.readouterr().err


def test_a_word_for_a_number(monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped:
        landscape(monkeypatch, "--steps", "many")
    assert stopped.value.code == 2
    assert "--steps: invalid int value: 'many'" in capsys.readouterr().err


def test_without_matplotlib(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "pld.report.figures.landscape", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert landscape(monkeypatch) == 2
    assert "the picture needs matplotlib: pip install '.[report]' in a clone of pld-distill" in capsys.readouterr().err
