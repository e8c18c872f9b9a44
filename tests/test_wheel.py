"""The built wheel, installed without this repository, does the main job from an empty folder."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pld.images.decode.jpeg_box import HAS_BOXES
from pld.store import open_store
from pld.views.steps.pixels.compiled_ops import HAS_PIXELS
from tests.making import make_dataset, make_teacher, student_settings
from tests.processes import ROOT, environment


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


def run(installed: Path, folder: Path, *argv: str) -> str:
    """Run one of the wheel's commands, or a module with -m, in a folder."""
    path = environment(PYTHONPATH=str(installed), PLD_CACHE=str(folder / "cache"))
    command = [sys.executable, *(argv if argv[0].startswith("-") else [str(installed / "bin" / argv[0]), *argv[1:]])]
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
