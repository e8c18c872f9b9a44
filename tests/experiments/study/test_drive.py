"""A study of two students on shards made here: run, gone on with, taken up by a fresh clone, one trial run again."""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from tests.making import make_dataset
from tests.pages import repository
from tests.processes import python

SMALL = json.dumps({"epochs": 1, "batch_size": 16, "warmup_epochs": 0})
COMMAND = (
    "-m",
    "experiments.study",
    "--data",
    "shards",
    "--out",
    "out",
    "--images",
    "80",
    "--seeds",
    "1",
    "--settings",
    SMALL,
)


def study(folder, rows="^main/(ce|pld)/|^cache/teacher"):
    python(*COMMAND, "--rows", rows, cwd=folder, timeout=900)
    return json.loads((folder / "out" / "study.json").read_text())


def without_run(results, name):
    return {**results, "runs": [run for run in results["runs"] if run["name"] != name]}


def top1s(results):
    return {run["name"]: run["top1"] for run in results["runs"]}


@pytest.mark.long
def test_a_study_is_run_once_and_can_be_taken_up_anywhere(tmp_path):
    (tmp_path / "first").mkdir()
    first = repository(tmp_path / "first")
    make_dataset(first / "shards", (80, 64), 40)
    results = study(first)
    assert set(top1s(results)) == {"main/ce/seed1", "main/pld/seed1", "cache/teacher on a fixed crop/seed1"}
    for run in results["runs"]:
        wanted = {"method", "settings", "seed", "top1", "config_hash", "commit", "command", "run", "kl", "curve"}
        assert wanted <= set(run)
        assert (first / run["run"] / "metrics.jsonl").is_file()
    main = [run for run in results["runs"] if run["name"].startswith("main/")]
    for run in main:
        # Fifths of 40 images: their mean is what the trainer validated.
        assert sum(run["top1_by_confidence"]) / 5 == pytest.approx(run["top1"])
    assert "Unfinished: 3 of" in (first / "out" / "study.md").read_text()

    times = {path: path.stat().st_mtime_ns for path in (first / "runs").rglob("metrics.jsonl")}
    assert study(first) == results
    assert {path: path.stat().st_mtime_ns for path in (first / "runs").rglob("metrics.jsonl")} == times

    # The page's command, in another folder: the same figure.
    pld = next(run for run in main if run["method"] == "pld")
    again = re.sub(r"--output \S+", "--output runs/again", pld["command"])
    program = [str(Path(sys.executable).parent / "accelerate"), *shlex.split(again)[1:]]
    python(*program, cwd=first)
    last = json.loads((first / "runs" / "again" / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["top1"], last["kl"]) == (pld["top1"], pld["kl"])

    (tmp_path / "clone").mkdir()
    clone = repository(tmp_path / "clone")
    (clone / "shards").symlink_to(first / "shards")
    shutil.copytree(first / "out", clone / "out")
    (clone / "out" / "study.json").write_text(json.dumps(without_run(results, pld["name"])))
    found = study(clone)
    assert top1s(found) == top1s(results)
    assert not (clone / "runs" / "study" / "logs" / "teacher.log").exists()
    assert [path.name for path in (clone / "runs/study/students").iterdir()] == [Path(pld["run"]).name]


@pytest.mark.long
def test_another_dataset_does_not_go_on_with_this_ones_results(tmp_path):
    folder = repository(tmp_path)
    make_dataset(folder / "shards", (32,), 16)
    (folder / "out").mkdir()
    held = {"study": {"data": "another", "seeds": 1, "changed": {}}, "runs": [{"config_hash": "x", "name": "y"}]}
    (folder / "out" / "study.json").write_text(json.dumps(held))
    done = python(*COMMAND, cwd=folder, check=False)
    assert done.returncode == 2
    assert "give another --out" in done.stderr


@pytest.mark.long
def test_a_folder_without_shards_is_refused(tmp_path):
    folder = repository(tmp_path)
    (folder / "shards").mkdir()
    done = python(*COMMAND, cwd=folder, check=False)
    assert done.returncode == 2
    assert "wanted tar shards train-*.tar and val-*.tar" in done.stderr
