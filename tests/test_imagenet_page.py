"""docs/imagenet.md leads from a folder of photos in ImageNet's layout to a student, as it stands."""

import json
import re

import pytest
import timm
import yaml

from pld.images import open_source
from pld.store import open_store
from tests.making import NUM_CLASSES, make_teacher, shard_members, student_settings
from tests.pages import bash_blocks, repository, run_bash
from tests.processes import ROOT

# In place of the page's first block.
SMALL = """
IMAGENET=photos
DATA=shards
TEACHER=local-dir:teacher
STORES=stores
RUNS=runs
RECIPE="--config small.yaml"
VIEWS=2
K=5
LAUNCH=""
"""
NUM_TRAIN, NUM_VAL = 160, 40
ROOMS = ("pld", "cache_teacher", "train_student")


@pytest.mark.long
def test_from_a_folder_of_200_photos_to_a_student(tmp_path):
    first, *blocks = bash_blocks(ROOT / "docs" / "imagenet.md")
    assert [line.split("=")[0] for line in first.splitlines()] == [
        line.split("=")[0] for line in SMALL.split("\n")[1:-1]
    ]
    folder = repository(tmp_path)
    for split, num in (("train", NUM_TRAIN), ("val", NUM_VAL)):
        members = shard_members(0, num, split)
        for name in members:
            if name.endswith(".jpg"):
                path = folder / "photos" / split / f"n{int(members[name[:-4] + '.cls']):08d}" / f"{name[:-4]}.JPEG"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(members[name])
    make_teacher(folder / "teacher")
    settings = student_settings(folder, folder / "runs" / "student", epochs=1)
    (folder / "small.yaml").write_text(yaml.safe_dump({**settings, "num_classes": NUM_CLASSES}))
    printed = run_bash(SMALL + "\n".join(blocks), folder)

    shards = open_source(str(folder / "shards"))
    assert len(shards) == NUM_TRAIN
    train, copy = open_store(str(folder / "stores" / "train")), open_store(str(folder / "runs" / "copy"))
    assert (train.num_samples, train.num_views, copy.num_samples) == (NUM_TRAIN, 2, NUM_TRAIN)
    assert copy.manifest.identity == train.manifest.identity
    assert open_store(str(folder / "stores" / "val")).num_samples == NUM_VAL
    for name in ("student", "ce"):
        (metrics,) = [json.loads(line) for line in (folder / "runs" / name / "metrics.jsonl").read_text().splitlines()]
        assert 0 <= metrics["top1"] <= 100
    assert (
        timm.create_model(f"local-dir:{folder / 'runs' / 'student' / 'model'}", pretrained=True).num_classes
        == NUM_CLASSES
    )
    for page in ("store.html", "report.html"):
        assert "</html>" in (folder / "runs" / page).read_text()
    assert printed.count("no problem found") == 2  # the store, and the copy of some of its views


def test_sizes_and_hours_are_the_models():
    page = (ROOT / "docs" / "imagenet.md").read_text()
    quoted = page.partition("<!-- from results/scaling.md -->\n")[2].partition("<!-- end -->")[0]
    made = (ROOT / "docs" / "results" / "scaling.md").read_text().partition("# Sizes and hours\n")[2]
    assert quoted.strip()
    assert quoted.strip() == made.strip()


def test_it_quotes_messages_that_there_are():
    table = (ROOT / "docs" / "imagenet.md").read_text().partition("| it says |")[2]
    first_cells = [line.split("|")[1] for line in table.splitlines()[2:] if line.startswith("|")]
    quoted = [message for cell in first_cells for message in re.findall(r"`([^`]+)`", cell) if message != "make cache"]
    assert len(quoted) >= 8
    sources = "".join(path.read_text() for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))
    for message in quoted:
        for piece in message.removesuffix("nan").split(" ..."):
            assert piece.strip(" ,") in sources, message
