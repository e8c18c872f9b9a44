"""What README, docs and docstrings say: their examples run, their links lead somewhere."""

import doctest
import importlib
import re

import pytest

from tests.processes import ROOT, python

WITH_EXAMPLES = (
    "pld.images.order",
    "pld.losses.plackett_luce.nll",
    "pld.losses.ranking",
    "pld.signals.topk",
    "pld.views.policy",
    "pld.views.view",
)
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "pld").rglob("*.md")})


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


def test_the_blocks_of_how_it_works(tmp_path):
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "how_it_works.md").read_text(), re.DOTALL | re.MULTILINE
    )
    (tmp_path / "program.py").write_text("\n".join(blocks))
    printed = python("program.py", cwd=tmp_path).stdout
    view, error, bound, *order = printed.splitlines()
    assert view == "View(top=104, left=136, height=253, width=335, flip=False, ops=())"
    measured, proven = ([float(x) for x in re.findall(r"\d\.\d+", line)] for line in (error, bound))
    assert len(measured) == len(proven) == 4
    assert all(m <= p for m, p in zip(measured, proven, strict=True))
    assert sorted(map(int, re.findall(r"\d+", " ".join(order)))) == list(range(16))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, target
