"""docs/imagenet.md leads from a folder of photos in ImageNet's layout to a student, as it stands."""

import json
import re
import shlex
import tarfile

import pytest
import timm

from pld.cli.main import _main
from pld.config import parse_config, run
from pld.errors import ConfigError
from pld.images import open_source
from pld.options import as_flat
from pld.store import open_store
from tests.images.sources.forms import making
from tests.making import NUM_CLASSES, SIDE, make_teacher, shard_members, write_tar
from tests.pages import bash_blocks, repository, run_bash
from tests.processes import ROOT
from train_student.config import RECIPES, TrainConfig

PAGE = ROOT / "docs" / "imagenet.md"
FIRST, *BLOCKS = bash_blocks(PAGE)
RECIPE = re.search(r'^RECIPE="(.+)"', FIRST, re.MULTILINE)[1]
# Behind the page's own recipe: all that it sets stays, but for the size of a run.
SMALLER = (
    f"--model test_resnet --num_classes {NUM_CLASSES} --image_size {SIDE} --epochs 1 --batch_size 16 --workers 0 "
    "--streams 4"
)
# In place of the page's first block.
SMALL = f"""
IMAGENET=photos
DATA=shards
TEACHER=local-dir:teacher
STORES=stores
RUNS=runs
RECIPE="{RECIPE} {SMALLER}"
VIEWS=2
K=5
LAUNCH=""
"""
PAPER = sorted(path.stem for path in (RECIPES / "paper").glob("*.yaml"))
NUM_TRAIN, NUM_VAL = 160, 40
ROOMS = ("pld", "cache_teacher", "train_student")


@pytest.mark.long
def test_from_a_folder_of_200_photos_to_a_student(tmp_path):
    assert [line.split("=")[0] for line in FIRST.splitlines()] == [
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
    make_teacher(folder / "teacher", spread=0.1)
    printed = run_bash(SMALL + "\n".join(BLOCKS), folder)

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


def make_unpacked(folder):
    making.make_val_tar(folder / "ILSVRC2012_img_val.tar")
    making.make_devkit(folder / "ILSVRC2012_devkit_t12.tar.gz")
    with tarfile.open(making.make_train_tar(folder / "ILSVRC2012_img_train.tar")) as tar:
        tar.extractall(folder / "train", filter="data")
    (folder / "ILSVRC2012_img_train.tar").unlink()


# A maker for each row of the page's table, and for the commands below it.
FORMS = {
    "class folders": lambda folder: making.make_folder(folder, val=True),
    "ImageNet's archives": lambda folder: (
        making.make_train_tar(folder / "ILSVRC2012_img_train.tar"),
        making.make_val_tar(folder / "ILSVRC2012_img_val.tar"),
        making.make_devkit(folder / "ILSVRC2012_devkit_t12.tar.gz"),
    ),
    "the same, with": make_unpacked,
    "Kaggle's copy": making.make_kaggle,
    "Parquet files": lambda folder: making.make_parquet(folder, val=making.val_table()),
    "a folder of datasets'": lambda folder: making.make_arrow_splits(folder, making.val_table()),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_first_commands_write_shards_of_each_form(form, tmp_path, monkeypatch):
    """Nothing but the place differs, and the shards hold the same."""
    table = PAGE.read_text().partition("| what you have |")[2].partition("\n\n")[0]
    rows = [line.removeprefix("| ") for line in table.splitlines()[2:]]
    assert [row for row in rows if row.startswith(form)]
    assert len(rows) == len(FORMS)
    monkeypatch.setenv("PLD_CACHE", str(tmp_path / "cache"))
    FORMS[form](tmp_path / "data")
    commands = [shlex.split(line) for line in BLOCKS[0].splitlines() if line.startswith("pld data")]
    for _, *argv in commands:
        places = {"$IMAGENET": str(tmp_path / "data"), "$DATA": str(tmp_path / "out")}
        assert run(_main, [places.get(word, word) for word in argv]) == 0
    for split, wanted in (("train", making.photos()), ("val", making.val_photos())):
        source = open_source(str(tmp_path / "out"), split)
        assert source.class_names == making.WNIDS
        assert len(source) == len(wanted)
        for row in range(len(source)):
            wnid, content = wanted[source.key(row).rpartition("/")[2]]
            assert (source.class_names[source.label(row)], source.read(row)) == (wnid, content)


def test_the_other_commands_write_shards(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLD_CACHE", str(tmp_path / "cache"))
    making.make_csv(tmp_path / "train.csv")
    making.make_csv(tmp_path / "val.csv")
    for key, (wnid, data) in making.val_photos().items():
        making.write(tmp_path / "photos" / f"{key}.JPEG", data)
        with (tmp_path / "labels.csv").open("a") as file:
            file.write(f"{key},{wnid}\n")
    for name, num, label in (("train", 16, 4), ("validation", 8, 2)):
        digits = 4 if name == "train" else 2
        for number in range(num):
            write_tar(
                tmp_path / "hub" / f"imagenet1k-{name}-{number:0{digits}d}.tar",
                {f"{number}.cls": str(number % label).encode(), f"{number}.jpg": b"\xff\xd8", f"{number}.json": b"{}"},
            )
    text = " ".join(PAGE.read_text().split())
    commands = re.findall(r"`(pld data [^`]*--shards data/imagenet)`", text)
    assert len(commands) == 5
    for number, command in enumerate(commands):
        fewer = command.replace("0000..1023", "0000..0015").replace("00..63", "00..07")
        _, *argv = shlex.split(fewer.replace("data/imagenet", f"out{number}"))
        assert run(_main, argv) == 0
    counts = [len(open_source(f"out{i}", "val" if i in (1, 3) else "train")) for i in range(5)]
    assert counts == [16, 8, 60, 60, 30]


def student_commands() -> list[list[str]]:
    """What the page gives train_student.py, with the recipe that it names and the folders as they stand."""
    program = "\n".join(BLOCKS).replace("\\\n", " ").replace("$RECIPE", RECIPE)
    return [shlex.split(line.partition("train_student.py ")[2]) for line in program.splitlines() if "train_st" in line]


def parsed(argv: list[str]) -> TrainConfig:
    return parse_config(TrainConfig, argv, prog="train_student.py", description="", named_files=RECIPES)


def test_every_run_on_the_page_is_one_that_its_recipe_allows():
    dry, student, baseline = map(parsed, student_commands())
    assert dry.run.dry_run
    assert (student.loss.name, student.loss.temperature) == ("pld", 1.0)
    assert (baseline.loss.name, baseline.teacher.stores, baseline.loss.build().required_signal.needs_teacher) == (
        "ce",
        [],
        False,
    )
    kept = ("model", "epochs", "batch_size", "opt", "lr", "weight_decay", "precision", "crop_fraction")
    ours, theirs = as_flat(baseline), as_flat(student)
    assert [ours[name] for name in kept] == [theirs[name] for name in kept]


@pytest.mark.parametrize("loss", ["ce", "pld"])
@pytest.mark.parametrize("recipe", PAPER)
def test_what_a_message_says_to_add_makes_another_loss_of_any_recipe(recipe, loss):
    argv = ["--config", f"paper/{recipe}", "--store", "stores/any", "--loss", loss]
    for _ in range(3):  # settings, then standardised logits
        try:
            assert parsed(argv).loss.name == loss
            return
        except ConfigError as error:
            argv += re.search(r"take back from a recipe by ([^;]+)", str(error))[1].split()
    pytest.fail(f"{argv} is refused still")


def test_sizes_and_hours_are_the_models():
    quoted = PAGE.read_text().partition("<!-- from results/scaling.md -->\n")[2].partition("<!-- end -->")[0]
    made = (ROOT / "docs" / "results" / "scaling.md").read_text().partition("# Sizes and hours\n")[2]
    assert quoted.strip()
    assert quoted.strip() == made.strip()


def test_it_quotes_messages_that_there_are():
    table = PAGE.read_text().partition("| it says |")[2]
    first_cells = [line.split("|")[1] for line in table.splitlines()[2:] if line.startswith("|")]
    quoted = [message for cell in first_cells for message in re.findall(r"`([^`]+)`", cell) if message != "make cache"]
    assert len(quoted) >= 8
    sources = "".join(path.read_text() for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))
    for message in quoted:
        for piece in message.removesuffix("nan").split(" ..."):
            assert piece.strip(" ,") in sources, message
