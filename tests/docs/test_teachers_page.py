"""docs/teachers.md: each command makes a store, with small models in place of the published ones."""

import re
import shlex
import sys

import pytest
import timm
import torch
import torchvision
from PIL import Image

from cache_teacher.cache import main as cache_main
from pld.classes.names import imagenet_names
from pld.config import run
from pld.store import open_store
from pld.views.preprocessing import Preprocessing
from tests.making import SIDE, encoded, jpeg
from tests.pages import bash_blocks
from tests.processes import ROOT
from tests.teachers.classifiers import save
from train_student.model.student import export

PAGE = ROOT / "docs" / "teachers.md"
COMMANDS = [line for block in bash_blocks(PAGE) for line in block.splitlines()]
NAMES = imagenet_names("imagenet-1k")[:5]
# What stands for published models, which tests cannot load.
SMALL = {
    "vit_large": "local-dir:runs/teacher/model",
    "resnet152.gluon_in1k": "local-dir:runs/teacher/model",
    "hf-hub:timm/resnet50.a1_in1k": "local-dir:runs/teacher/model",
    "torchvision:resnet50": "torchvision:squeezenet1_1",
    "torchvision:resnet50.IMAGENET1K_V1": "torchvision:squeezenet1_1.IMAGENET1K_V1",
    "transformers:google/vit-base-patch16-224": "transformers:models/vit",
    "resnet50": "test_resnet",
}


def squeezenet():
    torch.manual_seed(0)
    return torchvision.models.squeezenet1_1(num_classes=1000).state_dict()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with what the page's commands name."""
    folder = tmp_path_factory.mktemp("teachers")
    for name in NAMES:
        (folder / "imagenet" / name).mkdir(parents=True)
        for i in range(2):
            (folder / "imagenet" / name / f"{name}_{i}.JPEG").write_bytes(jpeg(i))
    for colour in ("red", "green", "blue"):
        (folder / "colours" / colour).mkdir(parents=True)
        (folder / "colours" / colour / "0.png").write_bytes(encoded(Image.new("RGB", (40, 40), colour), "PNG"))
    (folder / "my_teachers.py").write_text(re.search(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)[1])
    export_small(folder / "runs" / "teacher" / "model")
    save(folder / "models" / "vit", labels=NAMES)
    published = torchvision.models.SqueezeNet1_1_Weights.DEFAULT.url.rpartition("/")[2]
    (folder / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(squeezenet(), folder / "hub" / "checkpoints" / published)
    return folder


def export_small(folder):
    torch.manual_seed(0)
    folder.mkdir(parents=True)
    export(timm.create_model("test_resnet", num_classes=5), Preprocessing(input_size=(SIDE, SIDE)), NAMES, folder)


def test_the_page_has_each_kind():
    kinds = ("hf-hub:", "local-dir:", "torchvision:", "transformers:", "python:", "--weights")
    assert all(any(kind in command for command in COMMANDS) for kind in kinds)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_makes_a_store(folder, tmp_path, monkeypatch, command):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(torch.hub, "_hub_dir", str(folder / "hub"))
    program, *argv = shlex.split(command)
    assert program == "cache-teacher"
    argv = [SMALL.get(word, word) for word in argv]
    if "--weights" in argv:
        model = timm.create_model("test_resnet", num_classes=1000).state_dict()
        weights = model if "test_resnet" in argv else {"epoch": 1, "state_dict": squeezenet()}
        torch.save(weights, "checkpoint.pth")
    # Random models are as sure as they happen to be.
    size = ["--views", "1", "-k", "3", "--threads", "1", "--allow_wrong_labels", "--store", str(tmp_path / "store")]
    assert run(cache_main, [*argv, *size]) == 0
    store = open_store(str(tmp_path / "store"))
    assert store.num_samples == (3 if "colours" in command else 10)
    if "colours" in command:
        assert store.stats.accuracy == 1
    else:
        assert store.manifest.identity.dataset.class_names == NAMES
