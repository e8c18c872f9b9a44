"""The built wheel, installed without this repository, does the main job from an empty folder."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pld.images.decode.jpeg_box import HAS_BOXES
from pld.store import open_store
from pld.views.steps.pixels.compiled_ops import HAS_PIXELS
from tests.making import make_dataset, make_store, make_teacher, student_settings
from tests.processes import ROOT, environment

EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that the wheel alone is installed to; what it depends on is this interpreter's."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # without what earlier builds left
    for name in ("pld", "cache_teacher", "train_student"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder / "dist", source], check=True, timeout=300)
    (wheel,) = (folder / "dist").glob("pld_distill-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True, timeout=300)
    return folder / "site"


@pytest.fixture(scope="module")
def with_plugin(installed, tmp_path_factory):
    """PYTHONPATH of the wheel and of the example of a plug-in, which pip installs."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(EXAMPLES / "plugin", folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps"]
    subprocess.run([*pip, "--target", folder / "site", folder / "source"], check=True, timeout=300)
    return os.pathsep.join([str(folder / "site"), str(installed)])


def run(installed: Path, folder: Path, *argv: str, path: str | None = None) -> str:
    """Run one of the wheel's commands, or a module with -m, in a folder."""
    path = environment(PYTHONPATH=path or str(installed), PLD_CACHE=str(folder / "cache"))
    command = [
        sys.executable,
        *(argv if argv[0].startswith(("-", "/")) else [str(installed / "bin" / argv[0]), *argv[1:]]),
    ]
    done = subprocess.run(command, cwd=folder, env=path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_is_what_runs(installed, tmp_path):
    names = ("pld", "cache_teacher", "train_student")
    where = run(
        installed, tmp_path, "-c", f"import {', '.join(names)}; print(*(m.__file__ for m in ({', '.join(names)})))"
    )
    assert where.split() == [str(installed / name / "__init__.py") for name in names]
    assert not (installed / "tests").exists()
    recipes = (f"train_student/recipes/{folder}" for folder in ("paper", "methods"))
    for data in ("pld/py.typed", "pld/store/FORMAT.md", "pld/report/templates", *recipes):
        assert (installed / data).exists(), data
    for folder, module, is_of_use in (
        ("images/decode", "_box", HAS_BOXES),
        ("views/steps/pixels", "_pixels", HAS_PIXELS),
    ):
        assert not (installed / "pld" / folder / "native").exists()
        assert len(list((installed / "pld" / folder).glob(f"{module}.*.so"))) >= is_of_use  # built, and of use here


@pytest.mark.long
def test_cache_train_and_report_from_an_empty_folder(installed, tmp_path):
    make_dataset(tmp_path / "data", shard_sizes=(24, 17), num_val=13)
    make_teacher(tmp_path / "teacher")
    settings = ["--teacher", "local-dir:teacher", "--data", "data", "--views", "1", "-k", "5", "--store", "store"]
    settings += ["--allow_wrong_labels"]  # of a teacher that was never trained
    run(installed, tmp_path, "cache-teacher", *settings)
    assert open_store(str(tmp_path / "store")).num_samples == 41
    settings = student_settings(tmp_path, tmp_path / "run", store="store", epochs=1)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(settings))
    run(installed, tmp_path, "-m", "accelerate.commands.launch", "-m", "train_student", "--config", "small.yaml")
    assert "pld" in run(installed, tmp_path, "pld", "report", "run", "--store", "store", "--out", "page.html")
    assert "</html>" in (tmp_path / "page.html").read_text()
    recipe = run(installed, tmp_path, "train-student", "--config", "paper/resnet50_resnet152_pld", "--print_config")
    assert yaml.safe_load(recipe)["loss"]["name"] == "pld"


@pytest.mark.long
def test_the_plugins_of_the_example_cache_and_train(installed, with_plugin, tmp_path):
    """Its teacher over its images with its view step, then a student with its loss, from the store and live."""
    cached = ["--teacher", "mean_colour:10", "--data", "colours:24", "--policy", "rrc,mosaic-8", "--store", "store"]
    run(installed, tmp_path, "cache-teacher", *cached, "--views", "2", "-k", "2", path=with_plugin)
    identity = open_store(str(tmp_path / "store")).manifest.identity
    assert identity.views.policy["steps"] == [{"name": "mosaic", "largest": 8}]
    assert (identity.teacher.name, bool(identity.teacher.code_sha256)) == ("mean_colour:10", True)
    student = ["--data", "colours:24", "--val_data", "colours:6", "--model", "test_resnet", "--image_size", "32"]
    student += ["--epochs", "1", "--batch_size", "8", "--opt", "adamw", "--warmup_epochs", "0", "--streams", "1"]
    student += ["--loss", "hinge", "--margin", "0.5", "--tracker", "none"]
    live = ["--online-teacher", "--teacher", "mean_colour:10", "--policy", "rrc,mosaic-8"]
    for name, teacher in (("cached", ["--store", "store"]), ("live", live)):
        run(installed, tmp_path, "train-student", *student, *teacher, "--output", name, path=with_plugin)
        config = yaml.safe_load((tmp_path / name / "config.yaml").read_text())
        assert (config["loss"]["name"], config["loss"]["margin"]) == ("hinge", 0.5)
    assert "hinge" in run(installed, tmp_path, "pld", "ls", ".", path=with_plugin)
    # Without the plug-in what it left can still be looked at, and the errors say what is missing.
    assert "mean_colour:10" in run(installed, tmp_path, "pld", "inspect", "store")
    assert "hinge" in run(installed, tmp_path, "pld", "ls", ".")
    assert "hinge" in run(installed, tmp_path, "pld", "report", "cached")


@pytest.mark.long
@pytest.mark.parametrize("name", ["timm_task", "webdataset_join", "hf_trainer"])
def test_the_examples_distil_from_a_store(installed, tmp_path, name):
    make_dataset(tmp_path / "data")
    make_teacher(tmp_path / "teacher")
    make_store(tmp_path, views=3, k=5)
    shutil.copy(EXAMPLES / f"{name}.py", tmp_path)
    data = "data/train-{0000..0002}.tar" if name == "webdataset_join" else "data"
    printed = run(installed, tmp_path, str(tmp_path / f"{name}.py"), data, "store")
    losses = [float(loss) for loss in re.findall(r"^epoch .*?loss (\d+\.\d+)", printed, re.MULTILINE)]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    assert "view 2" in printed  # the third epoch's
