"""Recipes with strong views: what they name, and that each runs end to end on glyphs."""

import re

import pytest

from cache_teacher.config import CacheConfig
from pld.classes.matching import Classes
from pld.config import run
from pld.images.sources.glyphs import write_glyphs
from pld.store import open_store
from pld.views.policy_text import PRESETS
from tests.making import STUDENT, make_store, make_teacher
from tests.train_student.runs import metrics, parse
from train_student.config import RECIPES
from train_student.model.optimizer import build_optimizer
from train_student.model.student import build_student
from train_student.option_groups import ModelOptions
from train_student.run.train import main as train_main

NAMES = ("a1", "deit", "tinyvit")
WANTED = {
    "a1": ("resnet50", "lamb", 5e-3, 0.02, 2048, 100),
    "deit": ("deit_small_patch16_224", "adamw", 5e-4 * 1024 / 512, 0.05, 1024, 300),
    "tinyvit": ("tiny_vit_5m_224", "adamw", 2.5e-4 * 4096 / 512, 0.01, 4096, 90),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_names_its_policy_store_and_origins(name):
    config, text = parse("--config", name), (RECIPES / f"{name}.yaml").read_text()
    optimizer = config.optimizer
    found = (config.model.name, optimizer.opt, optimizer.lr, optimizer.weight_decay, optimizer.batch_size)
    assert (*found, optimizer.epochs) == WANTED[name]
    assert (config.data.policy, config.loss.name) == (name, "pld")
    assert name in PRESETS
    made = dict(word.split("=") for word in re.search(r"make cache (.*)", text)[1].split())
    assert made["POLICY"] == name
    assert made["TEACHER"] == config.teacher.name
    cache = CacheConfig(teacher=made["TEACHER"], data=made["DATA"], store=made["STORE"])
    assert cache.store_path == config.teacher.store
    assert config.data.images == made["DATA"]
    assert optimizer.epochs % int(made["VIEWS"]) == 0
    assert f"--config {name}\n" in text
    # Each setting of the paper's says so; what is not, says that too.
    settings = text.split("\noptimizer:\n")[1].split("\nrun:\n")[0].splitlines()
    assert all("  # " in line for line in settings)


@pytest.mark.parametrize("name", NAMES)
def test_model_and_optimizer_can_be_built(name):
    config = parse("--config", name)
    options = ModelOptions(name=config.model.name, model_kwargs=config.model.model_kwargs)
    student = build_student(options, Classes(names=None, count=1000, owner="ImageNet-1k")).model
    assert type(build_optimizer(config.optimizer, student)).__name__.lower() == config.optimizer.opt


@pytest.fixture(scope="module")
def glyphs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("glyphs")
    write_glyphs(folder / "data", num_train=188, num_val=94)
    make_teacher(folder / "teacher", num_classes=94)
    return folder


@pytest.mark.parametrize("name", ["deit", *(pytest.param(name, marks=pytest.mark.long) for name in ("a1", "tinyvit"))])
def test_a_recipe_runs_on_glyphs(glyphs, tmp_path, capsys, name):
    """From caching to the exported student; with a store of other views it is refused."""
    store = make_store(glyphs, f"store-{name}", views=2, k=10, policy=name)
    policy = open_store(str(store)).manifest.identity.views.policy
    assert policy["flip"] is False
    small = {"data": glyphs / "data", "num_classes": 94, "model": "resnet18", "model_kwargs": STUDENT | {},
             "image_size": 32, "epochs": 2, "batch_size": 32, "warmup_epochs": 0, "workers": 0, "streams": 4,
             "precision": "fp32", "tracker": "none", "teacher": "null"}  # fmt: skip
    words = ["--config", name, "--output", str(tmp_path / "run"), "--store", str(store)]
    for option, value in small.items():
        words += [f"--{option}", str(value).replace("'", '"')]
    assert run(train_main, words) == 0
    assert [line["epoch"] for line in metrics(tmp_path / "run")] == [1, 2]
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
    other = make_store(glyphs, "store-light", views=1, k=10)
    words = [str(other) if word == str(store) else word.replace("/run", "/other") for word in words]
    capsys.readouterr()
    assert run(train_main, words) == 2
    assert f"--policy {name}: {other} holds logits of other views" in capsys.readouterr().err
