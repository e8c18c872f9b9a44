"""Teachers that are not timm's, from the command to the store, its check and a student beside them."""

import re
import subprocess
import sys
import time

import pytest
import torch
import torchvision

from cache_teacher.cache import main as cache_main
from pld.cli.main import _main as pld_main
from pld.config import run
from pld.store import open_store
from tests.end_to_end.colours import NAMES, colour_folder, colour_tar, sure_code
from tests.end_to_end.commands import facts
from tests.making import SIDE
from tests.processes import environment, tree_bytes
from tests.teachers.classifiers import save
from train_student.run.train import main as train_main

KINDS = ("python", "torchvision", "transformers")


def forget():
    """As in a process that begins: nothing of the package is imported."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "mine"]:
        del sys.modules[name]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package in a folder of its own whose function builds a teacher of the eight colours."""
    folder = tmp_path / "code" / "mine"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "teachers.py").write_text(sure_code())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(folder.parent), *sys.path])
    forget()
    yield folder
    forget()


def arguments(teacher, store, views):
    argv = ["--teacher", teacher, "--data", "data", "--store", store, "--views", str(views), "-k", "3"]
    return [*argv, "--threads", "1", "--batch_size", "16", "--allow_wrong_labels"]


def written(store):
    """All that does not depend on the moment and the command."""
    return {name: data for name, data in tree_bytes(store).items() if name not in ("store.json", "README.md")}


def test_killed_and_gone_on_with_it_is_the_same_store(tmp_path, package):
    for shard in range(4):
        colour_tar(tmp_path / "data" / f"train-{shard}.tar", dict(zip(NAMES, range(8), strict=True)), 4, 4 * shard)
    assert run(cache_main, arguments("python:mine.teachers:build", "undisturbed", 3)) == 0
    argv = [sys.executable, "-m", "cache_teacher", *arguments("python:mine.teachers:build", "store", 3)]
    env = environment(PYTHONPATH=f"{environment()['PYTHONPATH']}:{package.parent}", PAUSE="0.2")
    process = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((tmp_path / "store").glob("commits/*/*")):
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert 0 < len(written(tmp_path / "store")) < len(written(tmp_path / "undisturbed"))
    assert run(cache_main, arguments("python:mine.teachers:build", "store", 3)) == 0
    assert written(tmp_path / "store") == written(tmp_path / "undisturbed")
    fingerprints = {open_store(name).manifest.identity.fingerprint for name in ("store", "undisturbed")}
    assert len(fingerprints) == 1
    assert open_store("store").stats.accuracy == 1


def test_code_that_changed_is_refused_by_its_digest(tmp_path, package, capsys):
    colour_folder(tmp_path / "data")
    teacher = "python:mine.teachers:build"
    assert run(cache_main, arguments(teacher, "store", 1)) == 0
    before = open_store("store").manifest.identity.teacher.code_sha256
    text = (package / "teachers.py").read_text()
    (package / "teachers.py").write_text(text.replace("40.0", "41.00"))
    forget()
    assert run(cache_main, arguments(teacher, "store", 2)) == 2
    error = capsys.readouterr().err
    found = re.search(r"teacher.code_sha256: the store has '(\w+)', this run wants '(\w+)'", error)
    assert found[1] == before
    assert re.fullmatch("[0-9a-f]{64}", found[2])
    assert found[2] != before
    assert "use the store's settings, or name another store" in error
    (package / "teachers.py").write_text(text)
    forget()
    assert run(cache_main, arguments(teacher, "store", 2)) == 0
    assert open_store("store").num_views == 2


@pytest.fixture(params=KINDS)
def teacher(request, tmp_path, package):
    """The options that name a teacher, and how a store calls it."""
    torch.manual_seed(0)
    if request.param == "python":
        return ["--teacher", "python:mine.teachers:build"], "python:mine.teachers:build"
    if request.param == "torchvision":
        torch.save(torchvision.models.squeezenet1_1(num_classes=len(NAMES)).state_dict(), tmp_path / "w.pth")
        return ["--teacher", "torchvision:squeezenet1_1", "--weights", "w.pth"], "torchvision:squeezenet1_1"
    save(tmp_path / "vit", labels=NAMES)
    return ["--teacher", "transformers:vit"], "transformers:ViTForImageClassification"


def test_each_kind_from_the_command_to_a_student(tmp_path, teacher, capsys):
    options, name = teacher
    colour_folder(tmp_path / "data")
    colour_folder(tmp_path / "val", each=2, first=100)
    argv = ["--data", "data", "--store", "store", "--views", "2", "-k", "8", "--threads", "1", "--allow_wrong_labels"]
    assert run(cache_main, [*options, *argv]) == 0
    store = open_store("store")
    assert store.manifest.identity.dataset.class_names == NAMES
    assert store.manifest.identity.teacher.full_name == name
    assert (store.manifest.identity.teacher.code_sha256 is None) == name.startswith("torchvision:")
    assert (store.stats.accuracy == 1) == name.startswith("python:")
    capsys.readouterr()
    assert run(pld_main, ["inspect", "store"]) == 0
    printed = capsys.readouterr().out
    assert f"{name}, fp32" in printed
    assert ("code's sha256" in printed) == (not name.startswith("torchvision:"))
    assert run(pld_main, ["verify", "store", *options, "--data", "data"]) == 0
    mean = re.search("the teacher's probabilities differ by (.*?) on average", capsys.readouterr().out)[1]
    assert float(mean) < 0.01
    student = ["--data", "data", "--val_data", "val", "--val_split", "val", "--model", "test_resnet"]
    student += ["--image_size", str(SIDE), "--epochs", "1", "--batch_size", "16", "--workers", "0", "--streams", "1"]
    student += ["--tracker", "none"]
    assert run(train_main, [*student, "--online-teacher", *options, "--output", "live"]) == 0
    assert facts(tmp_path / "live")["store_fingerprint"] is None
    capsys.readouterr()
    assert run(train_main, [*student, "--store", "store", *options[:2], "--output", "cached"]) == 0
    assert "names the teacher" not in capsys.readouterr().out
    assert run(train_main, [*student, "--store", "store", "--teacher", "squeezenet", "--output", "other"]) == 0
    assert f"the recipe names the teacher squeezenet, but the store was made by {name};" in capsys.readouterr().out
