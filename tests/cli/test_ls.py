"""pld ls: stores and runs in a folder and behind a URL, whole, unfinished, damaged and hostile."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys

import fsspec
import pytest

from pld.cli.main import _main
from pld.config import run
from pld.process.owner import Owner
from pld.store.format.canonical import dump_document, load_document
from pld.store.objects.fsspec_storage import FsspecStorage
from tests.processes import environment
from tests.store.world import World, tree
from train_student.config import TrainConfig
from train_student.loop.metrics_file import MetricsFile
from train_student.run.bucket.lock import lock_bucket
from train_student.run.lock import lock_run
from train_student.run.run_folder import create_run_folder

NOT_JSON = "found bytes that are not JSON, wanted a JSON document of a pld store"


def listed(capsys, place):
    """The cells of each line that `pld ls` prints, by the line's first."""
    assert run(_main, ["ls", str(place)]) == 0
    lines = capsys.readouterr().out.splitlines()
    return {cells[0]: cells[1:] for line in lines if line for cells in [re.split(r"  +", line)]}


def make_run(folder, epochs_done, **options):
    flat = {"data": "glyphs", "store": "stores/a", "model": "resnet18", "epochs": 3, "output": str(folder), **options}
    create_run_folder(folder, TrainConfig.from_flat(**flat), {})
    for epoch in range(1, epochs_done + 1):
        MetricsFile(folder).append(epoch=epoch, **({"top1": 60.0 + epoch} if epoch != 3 else {}))
    return folder


def test_stores_from_whole_to_empty(tmp_path, capsys):
    world = World()
    world.write(tmp_path / "stores" / "whole", 4, block_views=2)
    writer = world.open_writer(tmp_path / "stores" / "unfinished")
    for part in writer.missing_parts(4, 2)[:4]:
        world.write_part(writer, part)
    world.open_writer(tmp_path / "stores" / "empty")
    shutil.copytree(tmp_path / "stores" / "whole", tmp_path / "lost")
    (tmp_path / "lost" / "commits" / "v002-003" / "train-0001.json").unlink()
    size = f"{sum(map(len, tree(tmp_path / 'stores' / 'whole').values())) / 1e3:.3g} kB"
    found = listed(capsys, tmp_path)
    assert found["store"] == ["teacher", "images", "classes", "views", "k", "size", "state"]
    assert found["stores/whole"] == ["resnet50.a1_in1k", "17", "20", "4 of 4", "4", size, "complete"]
    assert found["stores/unfinished"][3:5] == ["2 of 4", "4"]
    assert found["stores/unfinished"][-1] == "2 of 6 parts missing"
    assert found["stores/empty"][-1] == "empty: no views yet"
    assert found["lost"][-1] == "damaged: 1 of 6 parts are lost; pld verify names them"
    assert found["lost"][3] == "2 of 4"


def test_k_says_what_a_view_lists(tmp_path, capsys):
    for name, settings in {"error": {"error": 0.3}, "drawn": {"tail_samples": 3}}.items():
        World(**settings).write(tmp_path / name, 1)
        World(**settings, k=5).write(tmp_path / f"{name}5", 1)
    World(error=0.3, tail_samples=3).write(tmp_path / "both", 1)
    found = listed(capsys, tmp_path)
    wanted = {"error": "<=4", "error5": "<=5", "drawn": "4+3", "drawn5": "5+3", "both": "<=4+3"}
    assert {name: found[name][4] for name in wanted} == wanted


def test_a_store_itself_and_nothing(tmp_path, capsys):
    World().write(tmp_path / "store", 1)
    assert list(listed(capsys, tmp_path / "store")) == ["store", "."]
    (tmp_path / "none").mkdir()
    assert run(_main, ["ls", str(tmp_path / "none")]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/none: found no store or run here, nor 4 folders deep\n"
    assert run(_main, ["ls", str(tmp_path / "missing")]) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_folders_deeper_than_four_and_hidden_ones_are_left_out_and_circles_end(tmp_path, capsys):
    World().write(tmp_path / "1/2/3/4", 1)
    shutil.copytree(tmp_path / "1/2/3/4", tmp_path / "1/2/3/other/5")
    shutil.copytree(tmp_path / "1/2/3/4", tmp_path / ".hidden/store")
    (tmp_path / "1/circle").symlink_to(tmp_path)
    assert list(listed(capsys, tmp_path)) == ["store", "1/2/3/4"]


def test_runs(tmp_path, capsys):
    make_run(tmp_path / "runs" / "done", 3)
    make_run(tmp_path / "runs" / "half", 1, store=["stores/a", "stores/b"])
    make_run(tmp_path / "runs" / "begun", 0, loss="ce", store=None)
    make_run(tmp_path / "runs" / "live", 0, store=None, online_teacher=True, teacher="resnet152")
    found = listed(capsys, tmp_path)
    assert found == {
        "run": ["model", "loss", "teacher", "epochs", "top-1 %", "state"],
        "runs/done": ["resnet18", "pld", "stores/a", "3 of 3", "62.00", "finished"],
        "runs/half": ["resnet18", "pld", "stores/a + stores/b", "1 of 3", "61.00", "can go on"],
        "runs/begun": ["resnet18", "ce", "none", "0 of 3", "-", "can go on"],
        "runs/live": ["resnet18", "pld", "live resnet152", "0 of 3", "-", "can go on"],
    }


def test_a_run_of_before_options_had_groups(tmp_path, capsys):
    folder = make_run(tmp_path / "old", 1)
    (folder / "config.yaml").write_text("model: resnet50\nloss: kd\nstore: stores/x\nepochs: 5\n")
    assert listed(capsys, tmp_path)["old"] == ["resnet50", "kd", "stores/x", "1 of 5", "61.00", "can go on"]


def test_a_run_that_is_in_use_and_one_whose_command_was_killed(tmp_path, capsys):
    make_run(tmp_path / "run", 1)
    with lock_run(tmp_path / "run"):
        assert re.fullmatch(r"in use by process \d+ on \S+ since .+", listed(capsys, tmp_path)["run"][-1])
    hold = "import os, sys; from pathlib import Path; from train_student.run.lock import lock_run\n"
    hold += "held = lock_run(Path(sys.argv[1])); held.__enter__(); os._exit(9)"
    subprocess.run([sys.executable, "-c", hold, tmp_path / "run"], env=environment(), check=False)
    lock = tmp_path / ".run.lock"
    assert listed(capsys, tmp_path)["run"][-1] == "can go on"
    lock.write_text(json.dumps({**json.loads(lock.read_text()), "host": "node\x1b[2J7"}))
    state = listed(capsys, tmp_path)["run"][-1]
    assert re.fullmatch(r"in use by process \d+ on node\?\[2J7 since .+, last heard of \d+ s ago", state)


def test_damaged_and_hostile_ones_are_listed_as_such(tmp_path, capsys):
    World().write(tmp_path / "good", 1)
    for name in ("cut", "nested", "escape", "folder"):
        shutil.copytree(tmp_path / "good", tmp_path / name)
    (tmp_path / "cut" / "store.json").write_bytes((tmp_path / "good" / "store.json").read_bytes()[:99])
    (tmp_path / "nested" / "store.json").write_text("[" * 10**6)
    (tmp_path / "folder" / "blocks" / "v000.json").unlink()
    (tmp_path / "folder" / "blocks" / "v000.json").mkdir()
    manifest = load_document((tmp_path / "good" / "store.json").read_bytes(), "")
    manifest["identity"]["teacher"]["name"] = "evil\x1b]0;title\x07"
    (tmp_path / "escape" / "store.json").write_bytes(dump_document(manifest))
    for name, text in {
        "bomb": "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nmodel: [*b, *b, *b]\n",
        "deep": "[" * 10**5,
        "binary": "\x00\x01",
        "list": "- 1\n",
        "loss": "loss: {name: pdl}\n",
        "large": "#" * 2**19,
    }.items():
        (make_run(tmp_path / name, 0) / "config.yaml").write_text(text)
    (make_run(tmp_path / "figures", 1) / "metrics.jsonl").write_text('{"epoch": 1}\n{"epoch": ')
    (make_run(tmp_path / "types", 1) / "metrics.jsonl").write_text('{"epoch": [], "top1": {}}')
    found = listed(capsys, tmp_path)
    assert found["good"][-1] == "complete"
    assert found["cut"] == [*"------", f"unreadable: store.json: {NOT_JSON}"]
    assert found["nested"][-1].startswith("unreadable: store.json: found endless nesting")
    assert found["escape"][-1].startswith("unreadable: store.json: it says the fingerprint")
    assert found["figures"][-1] == "unreadable: metrics.jsonl, line 2: found no figures of an epoch"
    for name in ("deep", "binary", "list", "loss", "large", "types"):
        assert found[name][-1].startswith("unreadable: "), name
    assert len(found["bomb"][0]) <= 100
    assert "\x1b" not in str(found)


@pytest.fixture
def in_bucket(bucket, tmp_path):
    """A bucket's folder with a store and a run."""
    World().write(f"{bucket}/all/stores/a", 2)
    driver = fsspec.filesystem("s3", use_listings_cache=False)
    driver.put(str(make_run(tmp_path / "b", 1)), f"{bucket}/all/b", recursive=True)
    return f"{bucket}/all"


def test_a_run_on_a_bucket_that_is_in_use_and_one_whose_command_ended(in_bucket, capsys):
    storage = FsspecStorage(f"{in_bucket}/b")
    with lock_bucket(storage):
        assert re.fullmatch(r"in use by process \d+ on \S+ since .+", listed(capsys, in_bucket)["b"][-1])
    assert listed(capsys, in_bucket)["b"][-1] == "can go on"
    elsewhere = dataclasses.asdict(dataclasses.replace(Owner.this_process(), host="node7"))
    storage.put("lock/000000002.json", json.dumps(elsewhere).encode())
    in_use = r"in use by process \d+ on node7 since .+, last heard of \d+ s ago"
    assert re.fullmatch(in_use, listed(capsys, in_bucket)["b"][-1])
    storage.put("lock/000000002.beat", b"1")
    assert re.fullmatch(in_use, listed(capsys, in_bucket)["b"][-1])
    storage.put("lock/000000002.json", b"{")  # says nothing
    assert listed(capsys, in_bucket)["b"][-1] == "can go on"


def test_behind_a_url(in_bucket, capsys):
    found = listed(capsys, in_bucket)
    assert found["stores/a"][3:5] + found["stores/a"][-1:] == ["2 of 2", "4", "complete"]
    assert found["stores/a"][5].endswith(" kB")
    assert found["b"] == ["resnet18", "pld", "stores/a", "1 of 3", "61.00", "can go on"]
    assert list(listed(capsys, f"{in_bucket}/stores/a")) == ["store", "."]
    assert list(listed(capsys, in_bucket.removesuffix("all"))) == ["store", "all/stores/a", "run", "all/b"]
