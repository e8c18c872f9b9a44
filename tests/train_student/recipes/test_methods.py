"""Recipes of the methods that the paper has not: the loss and store of each, and that it says whose numbers it has."""

import re

import pytest
import torch

from cache_teacher.config import CacheConfig
from pld.signals import TopK
from tests.train_student.runs import parse
from train_student.config import RECIPES

# The loss's settings, its paper, and the k of its store.
METHODS = {
    "wttm": ({"temperature": 2.0, "alpha": 1.0, "beta": 1.0}, "2402.11148", 1000),
    "ea_kd": ({"temperature": 1.0, "entropy_temperature": 2.0, "alpha": 1.0, "beta": 0.5}, "2311.13621", 50),
    "rld": ({"temperature": 1.0, "alpha": 1.0, "beta": 0.5}, "2408.07703", 50),
    "soft_ce": ({"temperature": 1.0}, "2112.01528", 50),
}


def test_there_is_a_recipe_for_each_method_and_no_other():
    assert {path.stem for path in (RECIPES / "methods").iterdir()} == {f"resnet50_resnet152_{name}" for name in METHODS}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_its_settings_and_a_store_that_supports_it(name):
    settings, paper, k = METHODS[name]
    config = parse("--config", f"methods/resnet50_resnet152_{name}")
    text = (RECIPES / "methods" / f"resnet50_resnet152_{name}.yaml").read_text()
    loss = config.loss.build()
    assert loss.name == name
    assert {key: value for key, value in loss.settings.items() if key != "approximate"} == settings
    first, rest = text.split("\n", 1)
    assert re.fullmatch(rf"# ResNet-50 <- ResNet-152: {name}\. No row of the paper .*, arXiv:{paper}, .*", first)
    assert f"--config methods/resnet50_resnet152_{name}\n" in rest
    made = dict(word.split("=") for word in re.search(r"make cache (.*)", text)[1].split())
    assert (made["TEACHER"], int(made["K"])) == ("resnet152", k)
    cache = CacheConfig(teacher="resnet152", data=made["DATA"], store=made.get("STORE"))
    assert cache.store_path == config.teacher.store
    # It runs from what that store holds.
    labels, logits = torch.arange(8), torch.randn(8, 1000, requires_grad=True)
    teacher = TopK.from_logits(4 * torch.randn(8, 1000), labels, k, cache.temperatures)
    loss(logits, teacher, labels).backward()
    assert bool(torch.isfinite(logits.grad).all())
    assert float(logits.grad.abs().sum()) > 0
