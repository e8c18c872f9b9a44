"""What `make certificate` does, on made-up logits."""

import pytest
import torch

from experiments import certificate


def made_up(num=40, classes=60):
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(num, classes, generator=generator) * 4
    student = teacher + torch.randn(num, classes, generator=generator) * 2
    labels = torch.randint(classes, (num,), generator=generator)
    labels[::2] = teacher[::2].argmax(1)  # half of them inside the top k
    return student, [teacher], labels


def test_every_error_is_within_its_bound():
    found = certificate.compare(*made_up(), ks=(1, 5, 60))
    assert [(row.k, row.rounded, row.tail) for row in found] == [
        (k, rounded, tail) for k in (1, 5, 60) for rounded in (False, True) for tail in ("drop", "uniform")
    ]
    exact, rounded = ({(r.k, r.tail): r for r in found if r.rounded is held} for held in (False, True))
    assert float(exact[60, "drop"].measured.max()) < 1e-12  # all classes, not rounded: nothing is lost
    assert float(exact[60, "drop"].bound.max()) == 0
    assert float(rounded[60, "drop"].measured.max()) > 1e-4
    for row in found[:8]:
        assert float((row.measured / row.bound).max()) > 0.3  # the bound is near what happens
    assert bool((rounded[5, "drop"].bound > exact[5, "drop"].measured).all())


def test_errors_of_an_average_are_within_its_bound():
    student, teachers, labels = made_up()
    found = certificate.compare(student, [*teachers, teachers[0].flip(0)], labels, ks=(5, 60))
    exact, rounded = ([row for row in found if row.k == 60 and row.rounded is held] for held in (False, True))
    assert float(exact[0].measured.max()) < 1e-6
    assert float((rounded[0].measured / rounded[0].bound).max()) > 0.1


def test_an_error_above_the_bound_is_not_passed_over(monkeypatch):
    monkeypatch.setattr(certificate, "gradient_error_bound", lambda topk, tail: torch.zeros(len(topk.labels)))
    with pytest.raises(AssertionError):
        certificate.compare(*made_up(), ks=(5,))


def test_the_table_goes_between_the_documents_marks(tmp_path):
    table = certificate.as_markdown(certificate.compare(*made_up(), ks=(5, 10)))
    assert table.count("\n") == 2 + 2 * 4
    assert len({line.count("|") for line in table.splitlines()}) == 1
    document = tmp_path / "page.md"
    document.write_text(certificate.DOCUMENT.read_text())
    for _ in range(2):
        certificate.write_section(document, table)
    before, after = certificate.DOCUMENT.read_text(), document.read_text()
    assert after.count(table) == 1
    assert after.splitlines()[0] == before.splitlines()[0]
    assert after.splitlines()[-1] == before.splitlines()[-1]
