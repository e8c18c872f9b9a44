"""What is printed while something long runs."""

import sys

import pytest

from pld import progress as module
from pld.progress import progress


class Terminal:
    """Standard error that says that it is a terminal."""

    def __init__(self, under):
        self.under, self.text = under, ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def __getattr__(self, name):
        return getattr(self.under, name)


def test_a_log_gets_lines(console, monkeypatch):
    monkeypatch.setattr(module, "_LOG_SECONDS", 0.0)
    with progress(2000, "runs/a") as bar:
        bar.update(1000)
    text = console.readouterr().err
    assert "\r" not in text
    lines = text.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("runs/a: 0 % (0.00 of 2.00k), 00:00 gone, ? to go, ")
    assert lines[1].startswith("runs/a: 50 % (1.00k of 2.00k), 00:00 gone, 00:00 to go, ")
    assert lines[1].endswith("img/s")


def test_a_log_gets_no_line_for_each_step(console):
    with progress(100, "runs/a") as bar:
        for _ in range(100):
            bar.update(1)
    assert [line.partition(",")[0] for line in console.readouterr().err.splitlines()] == [
        "runs/a: 0 % (0.00 of 100)",
        "runs/a: 100 % (100 of 100)",
    ]


@pytest.mark.parametrize("show", [True, False])
def test_a_terminal_gets_a_bar(console, monkeypatch, show):
    terminal = Terminal(sys.stderr)
    monkeypatch.setattr("sys.stderr", terminal)
    with progress(2000, "runs/a", show=show) as bar:
        bar.update(1000)
    assert ("\rruns/a: " in terminal.text) == show


def test_a_total_may_be_unknown_at_first(console):
    with progress(0, "verifying", "B") as bar:
        bar.total = 10
        bar.update(10)
    assert console.readouterr().err.splitlines()[-1].startswith("verifying: 100 % (10.0 of 10.0)")
