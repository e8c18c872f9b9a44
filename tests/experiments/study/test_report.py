"""study.md and its page from a study.json that nobody ran."""

import re

import pytest

from experiments.study.drive import main
from pld.report.runs.comparison import comparison_cells
from pld.report.sections import Section
from pld.report.statistics import paired_difference
from tests.browser import look
from tests.experiments.study.made_up import recipes, write_study


def written(folder, **options):
    results = write_study(folder / "study.json", **options)
    main(["--report", "--out", str(folder)])
    return results, (folder / "study.md").read_text(), (folder / "study.html").read_text()


@pytest.fixture
def no_surfaces(monkeypatch):
    """Without the loss surfaces, which take most of a page's time and do not depend on the runs."""
    monkeypatch.setattr(
        "experiments.study.report.page.landscape_section", lambda num_classes: Section(title="Loss surfaces")
    )


@pytest.mark.usefixtures("no_surfaces")
def test_every_run_is_on_the_page_with_where_it_comes_from(tmp_path):
    results, text, page = written(tmp_path)
    assert f"All {len(results.runs)} runs are in." in text
    for run in results.runs.values():
        assert run["config_hash"] in page
        assert run["run"] in page
        assert f"<td>{run['top1']:.2f}</td>" in page
    assert "a &lt;machine&gt;" in page
    assert not re.search(r"""(src|href)=["'](?!data:)(?!#)""", re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL))


@pytest.mark.usefixtures("no_surfaces")
def test_the_table_is_computed(tmp_path):
    results, text, _ = written(tmp_path)
    by_seed = {
        method: {r["seed"]: r["top1"] for r in results.runs.values() if r["name"].startswith(f"main/{method}/")}
        for method in ("ce", "pld")
    }
    found = paired_difference(by_seed["pld"], by_seed["ce"])
    mean = sum(by_seed["ce"].values()) / 5
    line = f"\n| CE | {mean:.2f} | {found.estimate.mean:+.2f} | "
    line += f"{found.estimate.low:+.2f} to {found.estimate.high:+.2f} | yes | {found.p:.3g} |"
    assert line in text
    # Nothing in it that study.json did not say: another study.json, other figures.
    _, other, _ = written(tmp_path / "other", noise=1.0)
    assert line not in other


def test_what_does_not_differ_is_said_plainly():
    same = {seed: 30.0 + 0.1 * (-1) ** seed for seed in range(5)}
    level = paired_difference(same, dict.fromkeys(same, 30.0))
    below = paired_difference({seed: value - 5 for seed, value in same.items()}, same | {0: 30.0})
    one = paired_difference({1: 3.0}, {1: 2.0})
    shown = [comparison_cells("a", same, found)[2:5] for found in (level, below, one, None)]
    assert shown == [["+0.02", "-0.12 to +0.16", "no"], shown[1], ["+1.00", "-", "-"], ["-", "-", "-"]]
    assert shown[1][2] == "yes"
    assert shown[1][0].startswith("-")


@pytest.mark.usefixtures("no_surfaces")
def test_where_a_claim_fails_the_page_says_what_was_examined(tmp_path):
    _, text, _ = written(tmp_path, noise=6.0)
    assert "## Where PLD is not ahead: what was examined" in text
    for optimiser in ("adamw", "lamb", "adabelief", "adan"):
        assert re.search(rf"\| dist, {optimiser} \| [\d.]+ \| [+-]\d", text)


@pytest.mark.usefixtures("no_surfaces")
@pytest.mark.parametrize("limit", [0, 1, 2, 14, 40])
def test_an_unfinished_study_says_so(tmp_path, limit):
    _, text, page = written(tmp_path, limit=limit)
    assert f"Unfinished: {limit} of 126 runs are in." in text
    assert f"Unfinished: {limit} of 126 runs are in." in page


@pytest.mark.usefixtures("no_surfaces")
def test_runs_of_another_plan_are_left_out_and_counted(tmp_path):
    results = write_study(tmp_path / "study.json", limit=3)
    results.add({**next(iter(results.runs.values())), "config_hash": "0" * 64, "top1": 99.99})
    main(["--report", "--out", str(tmp_path)])
    text = (tmp_path / "study.md").read_text()
    assert "Unfinished: 3 of 126 runs are in." in text
    assert "1 runs of other configurations are left out." in text
    assert "99.99" not in text


@pytest.mark.parametrize(("limit", "width"), [(None, 390), (None, 1280), (14, 390)])
def test_in_a_browser(tmp_path, limit, width):
    written(tmp_path, limit=limit)
    found = look(tmp_path / "study.html", width=width, screenshot=tmp_path / "page.png")
    assert found.console == []
    assert found.inner == width
    assert found.scroll <= width, found.wide
    assert found.wide == []
    assert (tmp_path / "page.png").stat().st_size > 20_000


def test_the_made_up_study_is_of_the_repositorys_recipes():
    assert recipes().student["loss"] == "pld"
