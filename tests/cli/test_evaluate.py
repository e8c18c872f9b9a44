"""`pld evaluate`: the figures of training's validation and of the model's own library, and what it refuses."""

import json
import re
import shutil

import numpy as np
import pytest
import timm
import torch

from pld.cli.main import main
from pld.images import open_source
from pld.images.dataset import read_image
from pld.views import Fixed, apply_view, draw_view
from pld.views.preprocessing import Preprocessing
from tests.end_to_end.colours import NAMES, colour_folder, sure_teacher
from tests.end_to_end.commands import LEARNING, cached, metrics, training
from train_student.model.student import export


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Images `data` of three colours, a teacher that states all eight, and a run of a student that learned from it."""
    folder = tmp_path_factory.mktemp("evaluate")
    colour_folder(folder / "data" / "train", NAMES[:3], each=8)
    colour_folder(folder / "data" / "val", NAMES[:3], each=7, first=100)
    sure_teacher(folder / "teacher")
    cached(folder / "data", folder / "teacher", folder / "val-store", "--split", "val", "--policy", "fixed")
    learning = (*LEARNING, "--epochs", 3, "--eval_every", 3, "--loss", "ce", "--crop_fraction", 0.8)
    assert training(folder / "data", folder / "run", *learning, "--val_store", folder / "val-store") == 0
    return folder


@pytest.fixture
def evaluating(place, monkeypatch, capsys):
    """Runs `pld evaluate` on the images; returns the exit status and the table by its first column, or the error."""

    def run(model, *more, data=None):
        argv = ["evaluate", model, "--data", data or place / "data", "--workers", 0, *more]
        monkeypatch.setattr("sys.argv", ["pld", *map(str, argv)])
        status = main()
        printed, error = capsys.readouterr()
        table = dict(re.split(r"  +", line, maxsplit=1) for line in printed.splitlines())
        return (status, table, error) if status == 0 else (status, error)

    return run


def test_a_run_has_the_figures_of_its_last_validation(place, evaluating):
    store = ("--store", place / "val-store")
    _, table, _ = evaluating(f"local-dir:{place / 'run' / 'model'}", *store)
    last = metrics(place / "run")[-1]
    assert 30 < last["top1"] <= 100
    for label, name in (("top-1, %", "top1"), ("top-5, %", "top5"), ("calibration error, %", "ece")):
        assert table[label] == f"{last[name]:.2f}"
    assert table["agrees with the store, %"] == f"{last['agreement']:.2f}"
    assert float(table["NLL, nats"]) == pytest.approx(last["nll"], abs=2e-4)
    assert float(table["KL from the store, nats"]) == pytest.approx(last["kl"], abs=2e-4)
    assert table["input"] == "32 x 32 px, bicubic, the centre 80 %, fp32"


def test_classes_are_matched_by_name(place, evaluating, tmp_path):
    """The teacher has eight classes in another order than the data's three, of which it chooses one."""
    teacher = f"local-dir:{sure_teacher(tmp_path / 't', NAMES[::-1])}"
    _, table, _ = evaluating(teacher)
    assert table["top-1, %"] == "100.00"
    assert table["classes"].startswith("3 of the model's 8,")
    renamed = shutil.copytree(place / "data", tmp_path / "data")
    (renamed / "val" / NAMES[0]).rename(renamed / "val" / "formica")
    (renamed / "train" / NAMES[0]).rename(renamed / "train" / "formica")
    status, error = evaluating(teacher, data=renamed)
    assert status == 2
    assert "'formica'" in error
    assert "--class_map FILE" in error
    (tmp_path / "map.tsv").write_text(f"formica\t{NAMES[0]}\n")
    assert evaluating(teacher, "--class_map", tmp_path / "map.tsv", data=renamed)[1]["top-1, %"] == "100.00"


VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}


@pytest.mark.parametrize(
    ("name", "settings", "more", "preprocessing"),
    [
        ("test_resnet", {}, (), Preprocessing(input_size=(32, 32), interpolation="bilinear", mean=(0.5,) * 3)),
        ("test_resnet", {}, ("--image_size", 48, "--crop_fraction", 1.0), Preprocessing(input_size=(32, 32))),
        ("vit_tiny_patch16_224", VIT, (), Preprocessing(input_size=(32, 32), std=(0.5,) * 3)),
        ("vit_tiny_patch16_224", VIT, ("--image_size", 48), Preprocessing(input_size=(32, 32), crop_fraction=0.7)),
    ],
)
def test_the_figures_are_those_of_timms_own_model(place, evaluating, tmp_path, name, settings, more, preprocessing):
    """Image by image: timm loads the folder at the size, and normalises the centre crop as the folder says."""
    torch.manual_seed(1)
    export(timm.create_model(name, num_classes=3, **settings), preprocessing, NAMES[:3], tmp_path / "m")
    _, table, _ = evaluating(f"local-dir:{tmp_path / 'm'}", *more)
    asked = dict(zip(more[::2], more[1::2], strict=True))
    size, crop = asked.get("--image_size", 32), asked.get("--crop_fraction", preprocessing.crop_fraction)
    resized = {"img_size": size} if settings else {}
    model = timm.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True, **resized).eval()
    wants = timm.data.resolve_model_data_config(model)
    mean, std = (torch.tensor(wants[key])[:, None, None] for key in ("mean", "std"))
    source, hits, nll = open_source(str(place / "data"), "val"), 0, 0.0
    for row in range(len(source)):
        image = read_image(source, row)
        view = draw_view("", 0, tuple(image.shape[1:]), Fixed(crop_fraction=crop))
        pixels = apply_view(image, view, size, wants["interpolation"])
        with torch.no_grad():
            logits = model((pixels[None] / 255 - mean) / std)[0].double()
        hits += int(logits.argmax()) == int(source.labels[row])
        nll -= float(logits.log_softmax(0)[int(source.labels[row])]) / len(source)
    assert table["top-1, %"] == f"{100 * hits / len(source):.2f}"
    assert float(table["NLL, nats"]) == pytest.approx(nll, abs=2e-4)


def test_a_broken_image(place, evaluating, tmp_path):
    data = shutil.copytree(place / "data", tmp_path / "data")
    (data / "val" / NAMES[0] / "003.png").write_bytes(b"no image")
    teacher = f"local-dir:{place / 'teacher'}"
    status, error = evaluating(teacher, data=data)
    assert status == 2
    assert re.search(r"003: cannot be decoded.*--on_bad_image skip", error)
    _, table, _ = evaluating(teacher, "--on_bad_image", "skip", data=data)
    assert (table["images left out"], table["top-1, %"]) == ("1", "100.00")


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        ("RUN", (), r"run: is a folder; name the model in it: local-dir:.*run/model"),
        ("local-dir:TEACHER", ("--split", "test"), "no split 'test'"),
        ("local-dir:TEACHER", ("--store", "TRAIN"), "random crops, and validation crops the centre.*leave --store out"),
        ("mixer_b16_224", ("--weights", "MIXER", "--image_size", 48), r"--image_size 48: mixer_b16_224: it does not"),
    ],
)
def test_what_it_refuses(place, evaluating, tmp_path, model, more, message):
    if "MIXER" in more:
        torch.save(timm.create_model("mixer_b16_224", num_classes=3).state_dict(), tmp_path / "mixer.pth")
    if "TRAIN" in more:
        cached(place / "data", place / "teacher", tmp_path / "train-store")
    places = {"RUN": place / "run", "TEACHER": place / "teacher", "MIXER": tmp_path / "mixer.pth"}
    places |= {"TRAIN": tmp_path / "train-store"}
    for word, path in places.items():
        model = model.replace(word, str(path))
    more = [places.get(word, word) for word in more]
    status, error = evaluating(model, *more)
    assert status == 2
    assert re.search(message, error), error


def test_the_store_may_number_the_classes_otherwise(place, evaluating, tmp_path):
    data = shutil.copytree(place / "data", tmp_path / "data")
    (data / "dataset.json").write_text(json.dumps({"class_names": list(NAMES[:3][::-1])}))
    labels = open_source(str(data), "val").labels
    assert not np.array_equal(labels, open_source(str(place / "data"), "val").labels)
    teacher = f"local-dir:{place / 'teacher'}"
    _, table, _ = evaluating(teacher, "--store", place / "val-store", data=data)
    assert (table["top-1, %"], table["agrees with the store, %"]) == ("100.00", "100.00")


def test_a_store_of_more_classes_changes_the_choice_and_says_so(place, evaluating, tmp_path):
    """Without labels a store has all of its teacher's classes, of which the images have three."""
    options = ("--split", "val", "--policy", "fixed", "--unlabelled")
    cached(place / "data", place / "teacher", tmp_path / "store", *options)
    status, table, error = evaluating(f"local-dir:{place / 'teacher'}", "--store", tmp_path / "store")
    assert status == 0
    assert f"store: has {len(NAMES)} classes and these images 3: the model chooses among the store's here" in error
    assert table["classes"] == f"{len(NAMES)}"
    assert "the model chooses" not in evaluating(f"local-dir:{place / 'teacher'}")[2]
