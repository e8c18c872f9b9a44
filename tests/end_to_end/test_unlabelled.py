"""Images without labels: teacher, store, students, validation on labelled images, and what all of them say of it."""

import json
import re
import shutil

import numpy as np
import pytest
import timm
import torch

from pld.cli.main import _main as pld_main
from pld.config import run
from pld.images import open_source
from pld.images.sources.glyphs import write_glyphs
from pld.store import open_store
from pld.store.format.identity import dataset_digest
from pld.views.preprocessing import Preprocessing
from tests.end_to_end.colours import NAMES, colour_folder, square
from tests.end_to_end.commands import LEARNING, cached, caching, facts, metrics, training
from tests.making import SIDE, write_tar
from tests.store.world import tree
from train_student.model.student import export

KD = ("--loss", "kd", "--alpha", 0, "--temperature", 1)


def flat_folder(root, names=NAMES, each=6):
    """Squares of the classes in one folder, under names that say nothing of them."""
    root.mkdir(parents=True)
    for label, name in enumerate(names):
        for i in range(each):
            (root / f"{(label + i * len(names)) * 7919 % 1009:04d}.png").write_bytes(square(NAMES.index(name), i))
    return root


@pytest.fixture(scope="module")
def world(tmp_path_factory, teacher):
    """Unlabelled images `flat` with a store `s` of all classes, and labelled ones to validate on."""
    root = tmp_path_factory.mktemp("unlabelled")
    flat_folder(root / "flat")
    cached(root / "flat", teacher, root / "s", "--unlabelled", "-k", 8)
    colour_folder(root / "labelled" / "val", NAMES[2:6], each=4, first=100)
    cached(root / "labelled", teacher, root / "v", "--unlabelled", "--split", "val", "--policy", "fixed")
    return root


def test_the_store_has_the_teachers_classes_and_no_labels(world, teacher, tmp_path, capsys):
    store = open_store(world / "s")
    identity = store.manifest.identity
    assert (identity.dataset.labelled, identity.dataset.class_names) == (False, NAMES)
    assert identity.dataset.digest == dataset_digest(open_source(str(world / "flat"), unlabelled=True).keys, None)
    assert caching(world / "flat", teacher, tmp_path / "x") == 2
    assert "go without labels: --unlabelled" in capsys.readouterr().err
    assert caching(world / "flat", teacher, world / "s", "--unlabelled", "-k", 8) == 0  # nothing is missing
    told = capsys.readouterr()
    assert "images without labels: nothing checks" in told.err
    assert re.search("labels +none, the images are unlabelled", told.out)


@pytest.mark.parametrize("loss", [(), KD], ids=["pld", "kd"])
def test_a_student_learns_the_classes_from_the_teacher_alone(world, tmp_path, capsys, loss):
    """Validation images of four classes in folders are matched with the teacher's eight by name."""
    val = ("--val_data", world / "labelled", "--val_store", world / "v")
    output = tmp_path / "r"
    assert training(world / "flat", output, "--store", world / "s", *val, *LEARNING, *loss) == 0
    assert re.search("48 images, 8 classes, 1 process; .*no labels: the teacher's ranking", capsys.readouterr().out)
    figures = metrics(output)[-1]
    assert figures["top1"] == figures["agreement"] == 100.0
    assert figures["kl"] < 1
    assert (facts(output)["labelled"], facts(output)["num_classes"]) == (False, 8)
    assert json.loads((output / "model" / "config.json").read_text())["label_names"] == list(NAMES)
    page = tmp_path / "page.html"
    assert run(pld_main, ["report", str(output), "--store", str(world / "s"), "--out", str(page)]) == 0
    assert "from the store, without labels" in capsys.readouterr().out
    text = page.read_text()
    assert "from the store, without labels" in text
    assert "the images are unlabelled" in text
    assert "the true class" not in text


def test_labels_that_there_are_change_nothing(world, teacher, tmp_path, capsys):
    members = {path.name: path.read_bytes() for path in (world / "flat").iterdir()}
    wrong = {name.replace(".png", ".cls"): str(i % 3).encode() for i, name in enumerate(sorted(members))}
    for name, more in (("none", {}), ("wrong", wrong)):
        write_tar(tmp_path / name / "train-0.tar", dict(sorted({**members, **more}.items())))
        cached(tmp_path / name / "train-0.tar", teacher, tmp_path / f"s-{name}", "--unlabelled")
    assert "the labels of 48 images are not used" in capsys.readouterr().err
    parts = [tree(tmp_path / f"s-{name}" / "parts") for name in ("none", "wrong")]
    assert parts[0] == parts[1]
    for name in ("none", "wrong"):
        store = ("--store", tmp_path / "s-none", "--val_data", "none")
        assert training(tmp_path / name / "train-0.tar", tmp_path / f"r-{name}", *store) == 0
    assert "the labels of 48 images are not used" in capsys.readouterr().out
    weights = [(tmp_path / f"r-{name}" / "model" / "model.safetensors").read_bytes() for name in ("none", "wrong")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--loss", "ce"), "/s: the training images have no labels, and --loss ce needs them: it is defined by the"),
        (("--loss", "dkd", "--temperature", 1), "Losses that need none: kd with --alpha 0, dist with --alpha 0, list"),
        (("--loss", "kd", "--temperature", 1), r"--loss kd needs them: alpha = 0\.1 is the weight of the label's term"),
        (("--loss", "ce", "--dry-run"), "--loss ce needs them"),
        (("--val_share", 0.2), "validation needs them: leave --val_share out; name labelled images with --val_data"),
        ((), "validation: .*flat: 48 images without labels.*go without: --val_data none$"),
        (
            ("--val_data", "FLAT"),
            "validation: .*/flat: .*Validation needs labels: name labelled images with --val_data",
        ),
    ],
)
def test_what_needs_labels_is_refused(world, tmp_path, capsys, more, message):
    more = [world / "flat" if word == "FLAT" else word for word in more]
    assert training(world / "flat", tmp_path / "r", "--store", world / "s", *more) == 2
    error = capsys.readouterr().err.strip()
    assert re.search(message, error)
    assert "go without labels: --unlabelled" not in error
    assert not (tmp_path / "r").exists()


def test_a_labelled_store_wants_labelled_images(world, teacher, tmp_path, capsys):
    cached(world / "labelled", teacher, tmp_path / "s", "--split", "val", "-k", 3)
    store = ("--store", tmp_path / "s", "--val_data", "none")
    assert training(world / "flat", tmp_path / "r", *store) == 2
    error = capsys.readouterr().err
    assert "holds labelled images: give those" in error
    assert "--unlabelled" not in error
    assert training(world / "labelled", tmp_path / "r", *store, "--split", "val", "--unlabelled") == 2
    assert "holds labelled images, and PLD ranks the label first; leave --unlabelled out" in capsys.readouterr().err
    assert run(pld_main, ["verify", str(tmp_path / "s"), "--replay", "1", "--data", str(world / "flat")]) == 2
    assert "--unlabelled" not in capsys.readouterr().err  # which it has not


def test_a_live_teacher(world, teacher, tmp_path, capsys):
    live = ("--unlabelled", "--online-teacher", "--teacher", f"local-dir:{teacher}", "--num_classes", 8)
    assert training(world / "flat", tmp_path / "r", *live, "--val_data", "none", *KD) == 0
    assert training(world / "flat", tmp_path / "r2", *live, "--val_data", "none", "--loss", "dist") == 2
    assert "--unlabelled: the training images have no labels, and --loss dist needs them" in capsys.readouterr().err
    assert run(pld_main, ["report", str(tmp_path / "r")]) == 0
    assert "live, without labels" in capsys.readouterr().out


def test_a_run_is_resumed_and_a_dry_run_says_it(world, tmp_path, capsys):
    more = ("--store", world / "s", "--val_data", "none", "--epochs", 2)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert training(world / "flat", whole, *more) == 0
    shutil.copytree(whole, cut)
    lines = (cut / "metrics.jsonl").read_text().splitlines()
    (cut / "metrics.jsonl").write_text(lines[0] + "\n")
    assert training(world / "flat", cut, *more, "--resume", "auto") == 0
    assert len(metrics(cut)) == 2
    assert training(world / "flat", tmp_path / "dry", *more, "--dry-run") == 0
    assert re.search("labels +none: the teacher's ranking is the only signal", capsys.readouterr().out)


class TestClasses:
    def test_a_teacher_that_states_none(self, world, nameless, tmp_path, capsys):
        store = cached(world / "flat", nameless, tmp_path / "s", "--unlabelled")
        assert store.manifest.identity.dataset.class_names is None
        assert "states no class names" in (told := capsys.readouterr().err)
        assert "--class_names FILE" in told
        (tmp_path / "names.txt").write_text("\n".join(NAMES))  # as it says
        named = ("--unlabelled", "--class_names", tmp_path / "names.txt")
        store = cached(world / "flat", nameless, tmp_path / "named", *named)
        assert store.manifest.identity.dataset.class_names == NAMES
        assert store.manifest.identity.teacher.class_map is None

    def test_class_names_restrict_the_teacher(self, world, teacher, tmp_path, capsys):
        (tmp_path / "names.txt").write_text("\n".join(NAMES[5:1:-1]))
        store = cached(
            world / "flat", teacher, tmp_path / "s", "--unlabelled", "--class_names", tmp_path / "names.txt", "-k", 4
        )
        assert store.manifest.identity.dataset.class_names == NAMES[5:1:-1]
        assert store.manifest.identity.teacher.class_map.columns == (5, 4, 3, 2)
        val = ("--val_data", world / "labelled")
        assert training(world / "flat", tmp_path / "r", "--store", tmp_path / "s", *val, *LEARNING) == 0
        assert metrics(tmp_path / "r")[-1]["top1"] == 100.0
        assert caching(world / "flat", teacher, tmp_path / "x", "--unlabelled", "--class_map", "map.tsv") == 2
        assert "no classes of their own to map" in capsys.readouterr().err

    def test_validation_of_a_class_that_the_teacher_has_not(self, world, tmp_path, capsys):
        val = colour_folder(tmp_path / "v" / "val", NAMES[:2], each=2)
        (val / "ant").rename(val / "wasp")
        assert training(world / "flat", tmp_path / "r", "--store", world / "s", "--val_data", tmp_path / "v") == 2
        assert "'wasp'" in capsys.readouterr().err


def test_what_is_done_with_a_store(world, teacher, tmp_path, capsys):
    data, store = ("--data", str(world / "flat")), str(world / "s")
    assert run(pld_main, ["verify", store, "--replay", "2", "--teacher", f"local-dir:{teacher}", *data]) == 0
    assert run(pld_main, ["inspect", store, "--html", str(tmp_path / "p.html"), *data]) == 0
    assert "what the teacher said" in (page := (tmp_path / "p.html").read_text()).lower()
    assert "the true class" not in page
    assert run(pld_main, ["push", store, str(tmp_path / "copy")]) == 0
    card = (tmp_path / "copy" / "README.md").read_text()
    assert "The images have no labels: the teacher alone ranks" in card
    assert "every loss that needs no label can use it" in card
    capsys.readouterr()
    assert run(pld_main, ["export", store, str(tmp_path / "out"), "--webdataset-with-images", *data]) == 0
    assert json.loads((tmp_path / "out" / "export.json").read_text())["labelled"] is False
    source = open_source(str(tmp_path / "out" / "*.tar").replace("*", "flat-000000"), unlabelled=True)
    assert source.left_out == {".json": 48, ".npy": 96}


def test_glyphs_without_labels(tmp_path):
    """An untrained teacher of the embedded dataset's classes, its images in one folder, its labels for validation."""
    write_glyphs(tmp_path / "glyphs", num_train=64, num_val=20, size=SIDE)
    glyphs, flat = open_source(str(tmp_path / "glyphs")), tmp_path / "flat"
    flat.mkdir()
    for row in range(64):
        (flat / f"{glyphs.key(row)}.jpg").write_bytes(glyphs.read(row))
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=len(glyphs.class_names)).eval()
    export(model, Preprocessing(input_size=(SIDE, SIDE)), glyphs.class_names, tmp_path / "t")
    store = cached(flat, tmp_path / "t", tmp_path / "s", "--unlabelled", "-k", 10)
    assert store.manifest.identity.dataset.class_names == glyphs.class_names
    for name, loss in (("pld", ()), ("kd", KD)):
        output = tmp_path / name
        assert training(flat, output, "--store", tmp_path / "s", "--val_data", tmp_path / "glyphs", *loss) == 0
        assert np.isfinite(metrics(output)[-1]["loss"])
        assert facts(output)["num_val"] == 20
        assert facts(output)["labelled"] is False
    assert run(pld_main, ["report", str(tmp_path / "pld"), str(tmp_path / "kd")]) == 0
