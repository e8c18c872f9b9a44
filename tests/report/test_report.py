"""`pld report` on runs and a store made by the test: the table, the spread, the page."""

import json
import re

import fsspec
import pytest
import yaml

from cache_teacher.cache import cache
from cache_teacher.config import CacheConfig
from pld.cli.main import main
from pld.report.runs.groups import find_differing_settings, group_runs
from pld.report.runs.read import read_run
from tests.browser import Look, look
from tests.making import make_dataset, make_teacher


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PLD_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    make_dataset(tmp_path / "data")
    make_teacher(tmp_path / "teacher")
    cache(
        CacheConfig(
            allow_wrong_labels=True, teacher="local-dir:teacher", data="data", views=2, k=5, store="store", threads=1
        )
    )
    for name, loss, seed, top1 in (("a", "pld", 0, 60.0), ("b", "pld", 1, 62.0), ("c", "ce", 0, 50.0)):
        write_run(tmp_path / name, loss, seed, top1)
    return tmp_path


def write_run(folder, loss, seed, top1):
    folder.mkdir()
    config = {"model": "resnet18", "loss": loss, "seed": seed, "output": folder.name, "online_teacher": False,
              "data": "data", "split": "train"}  # fmt: skip
    provenance = {"machine": "a machine", "git_commit": "abc", "date": "today", "command": f"train <{folder.name}>",
                  "versions": {"torch": "2"}}  # fmt: skip
    lines = [{"epoch": e, "top1": top1 - 2 + e, "top5": 80.0, "seconds": 3.0 * e} for e in (1, 2)]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "run.json").write_text(json.dumps({"student_parameters": 1234, "provenance": provenance}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def pld(monkeypatch, *argv):
    monkeypatch.setattr("sys.argv", ["pld", *argv])
    return main()


def test_what_runs_went_on_without_is_told(runs, monkeypatch, capsys):
    assert pld(monkeypatch, "report", "a", "b") == 0
    assert "went on without" not in capsys.readouterr().out
    metrics = runs / "b" / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    metrics.write_text("".join(json.dumps(line | {"bad_images": 3, "val_bad_images": 2}) + "\n" for line in lines))
    facts = json.loads((runs / "a" / "run.json").read_text())
    (runs / "a" / "run.json").write_text(json.dumps(facts | {"skipped_images": 1200}))
    assert pld(monkeypatch, "report", "a", "b", "--out", "page.html") == 0
    printed = capsys.readouterr().out
    assert "a went on without 1,200 training images that the store lacks\n" in printed
    told = "b went on without 3 broken training images, each time it came to one in the last epoch, 2 broken validation"
    assert told in printed
    assert told in (runs / "page.html").read_text()


def test_the_table_and_the_spread(runs, monkeypatch, capsys):
    assert pld(monkeypatch, "report", "a", "b", "c") == 0
    printed = capsys.readouterr().out
    assert re.search(r"^a +60\.00 +80\.00 +6 +pld +from the store +resnet18 +1,234$", printed, re.MULTILINE)
    assert re.search(r"^pld +2 +61\.00 +1\.41 +48\.29 to 73\.71 +60\.00 to 62\.00$", printed, re.MULTILINE)
    assert "a machine, commit abc" in printed
    assert pld(monkeypatch, "report", "a", "c") == 0
    assert "lowest to highest" not in capsys.readouterr().out


def test_a_run_behind_a_url_is_read_as_its_folder(runs, monkeypatch, capsys):
    assert pld(monkeypatch, "report", "a", "b") == 0
    printed = capsys.readouterr().out
    fsspec.filesystem("memory").put(str(runs / "a"), "/bucket/a", recursive=True)
    assert pld(monkeypatch, "report", "memory://bucket/a/", "b") == 0
    assert capsys.readouterr().out == printed
    assert pld(monkeypatch, "report", "memory://bucket/nothing") == 2
    assert "memory://bucket/nothing: not a run's folder: " in capsys.readouterr().err


def test_the_page_holds_everything_itself(runs, monkeypatch):
    assert pld(monkeypatch, "report", "a", "c", "--store", "store", "--out", "page/index.html") == 0
    page = (runs / "page" / "index.html").read_text()
    assert not re.search(r"""(src|href)=["'](?!data:)(?!#)""", re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL))
    assert page.count("data:image/png;base64,") == 18 + 1  # the sheet, and the loss surfaces
    for section in ("Summary", "Learning curves", "Loss surfaces", "Sizes", "Where this comes from"):
        assert f"<h2>{section}</h2>" in page
    assert "train &lt;a&gt;" in page  # what a run says of itself is text, not markup
    assert "60.00" in page
    assert "One seed each" in page


def test_looking_at_data_and_stores(runs, monkeypatch, capsys):
    assert pld(monkeypatch, "data", "data") == 0
    assert "71 images in 3 shards" in capsys.readouterr().out
    assert pld(monkeypatch, "inspect", "store") == 0
    assert re.search(r"views +2, top 5 of 12 classes", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("report", "nowhere"), "nowhere: not a run's folder"),
        (("inspect", "nowhere"), "there is no store"),
        (("data", "nowhere"), "nowhere: no such file"),
    ],
)
def test_what_is_not_there(runs, monkeypatch, capsys, argv, message):
    assert pld(monkeypatch, *argv) == 2
    assert message in capsys.readouterr().err


def test_a_run_without_a_validation_yet(runs, monkeypatch, capsys):
    (runs / "a" / "metrics.jsonl").write_text("")
    assert pld(monkeypatch, "report", "a") == 2
    assert "no validation in it yet" in capsys.readouterr().err


def test_labels_say_no_more_than_it_takes(tmp_path):
    """Long labels leave a chart no room; what they do not say is in a table."""
    kwargs = {"channels": [16, 32, 64, 128], "layers": [1, 1, 1, 1]}
    changed = {
        "teacher": {"epochs": 12, "opt": "adamw", "model_kwargs": {}},
        "ce": {},
        "kd0": {"loss": "kd", "alpha": 0.0},
        "kd1": {"loss": "kd", "alpha": 0.1},
        "pld": {"loss": "pld"},
    }
    for name, settings in changed.items():
        write_run(tmp_path / name, "ce", 0, 50.0)
        config = yaml.safe_load((tmp_path / name / "config.yaml").read_text())
        config |= {"epochs": 8, "opt": "lamb", "model_kwargs": kwargs, "alpha": None} | settings
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(config))
    groups = group_runs([read_run(tmp_path / name) for name in changed])
    assert [group.label for group in groups] == [
        "ce, epochs 12",
        "ce, epochs 8",
        "kd, alpha 0.0",
        "kd, alpha 0.1",
        "pld",
    ]
    assert find_differing_settings(groups)["opt"] == ["adamw", *["lamb"] * 4]
    assert sorted(find_differing_settings(groups)) == ["alpha", "epochs", "model_kwargs", "opt"]


def test_a_second_run_of_a_seed_is_not_dropped(tmp_path):
    for name in ("a", "b", "c"):
        write_run(tmp_path / name, "ce", 0, 50.0)
    write_run(tmp_path / "d", "ce", 1, 51.0)
    groups = group_runs([read_run(tmp_path / name) for name in "abcd"])
    assert [[run.path.name for run in group.runs.values()] for group in groups] == [["a", "d"], ["b"], ["c"]]
    assert all(str(tmp_path / name) in group.label for name, group in zip("bc", groups[1:], strict=True))


@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(runs, monkeypatch, width):
    (runs / "c" / "config.yaml").write_text((runs / "c" / "config.yaml").read_text() + "alpha: 0.5\n")
    write_run(runs / "d", "ce", 0, 52.0)
    (runs / "d" / "config.yaml").write_text((runs / "d" / "config.yaml").read_text() + "alpha: 0.9\n")
    assert pld(monkeypatch, "report", "a", "b", "c", "d", "--store", "store", "--out", "page/index.html") == 0
    page = runs / "page" / "index.html"
    assert "<h2>Sweep of alpha</h2>" in page.read_text()
    assert "<h2>Settings that differ</h2>" in page.read_text()
    found = look(page, width=width, screenshot=runs / "page.png")
    assert found == Look(inner=width, scroll=width, wide=[], console=[])
