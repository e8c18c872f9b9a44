"""The commands of docs/training.md are ones that the program takes and run, and its figures those of the plan."""

import itertools
import re
import shlex

import fsspec
import numpy as np
import pytest
import yaml

from cache_teacher.config import CacheConfig
from pld.config import parse_config
from pld.images import epoch_order, global_batches
from pld.loading.shard_prefetch import peak_bytes, plan_uses
from pld.loading.worker_processes import in_flight
from pld.options import options
from tests.making import jpeg, make_dataset, make_teacher, student_settings
from tests.pages import in_small, indented_blocks, repository, run_bash
from tests.processes import ROOT
from train_student.config import RECIPES, TrainConfig
from train_student.loop.evaluate import VAL_SHARE

PAGE = ROOT / "docs" / "training.md"
# Each command on one line.
PROGRAM = indented_blocks(PAGE).replace("\\\n", "")
COMMANDS = re.findall(r"^(?:accelerate launch )?(train_student\.py|cache-teacher) (.+)$", PROGRAM, re.MULTILINE)
# What stands for ImageNet, a hub that takes models, and a page that is served until somebody ends it.
SMALL = {
    "stores/resnet152-deit": "stores/deit",
    "--views_per_image 4": "--views_per_image 2",
    "--config deit": "--config small.yaml",
    "--config a1": "--config small.yaml",
    "--config tinyvit": "--config small.yaml",
    "--config paper/resnet50_resnet152_pld": "--config small.yaml",
    "--config demo": "--config small.yaml",
    "--config methods/resnet50_resnet152_rld": "--config small.yaml",
    "--k 10 --tail_samples 8": "--tail_samples 4",
    "--k 50 --error": "--views 11 --error",
    "pld rm stores/vit_large --views 40-49": "pld rm stores/kept --views 10 --yes",
    "--push_to_hub ME/MODEL": "",
    "tensorboard --logdir runs": "tensorboard --inspect --logdir runs",
    "--teacher resnet152": "--teacher local-dir:teacher --k 5 --views 2 --precision fp32",
    "train-{0000..1023}.tar": "train-{0000..0002}.tar",
    "--val_data imagenet": "--val_data data",
    "--model resnet50": "--config small.yaml",
    "--data imagenet": "--data data",
    "--store stores/resnet152": "",
    "--pretrained": "--init_from runs/0",
    "--init_from runs/resnet50": "--init_from runs/1",
    "local-dir:runs/resnet50/model": "local-dir:runs/2/model",
}


def test_the_yaml_is_read(tmp_path):
    (tmp_path / "a.yaml").write_text(re.search(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)[1])
    config = parse_config(TrainConfig, ["--config", str(tmp_path / "a.yaml"), "--lr", "0.1"], prog="p", description="")
    assert (config.data.images, config.model.name, config.optimizer.lr) == ("imagenet", "resnet50", 0.1)
    assert config.run.output == "runs/resnet50"


def test_there_are_commands():
    assert len(COMMANDS) >= 5
    assert {program for program, _ in COMMANDS} == {"train_student.py", "cache-teacher"}


@pytest.mark.parametrize(("program", "arguments"), COMMANDS)
def test_a_documented_command_is_understood(program, arguments):
    kind = TrainConfig if program == "train_student.py" else CacheConfig
    named = RECIPES if kind is TrainConfig else None
    assert parse_config(kind, shlex.split(arguments), prog=program, description="", named_files=named).data


@pytest.mark.long
def test_the_commands_run(tmp_path, bucket, object_store):
    folder = repository(tmp_path)
    make_dataset(folder / "data")
    make_teacher(folder / "teacher", spread=0.1)
    (folder / "photos").mkdir()
    for number in range(20):
        (folder / "photos" / f"{number}.jpg").write_bytes(jpeg(number))
    fsspec.filesystem("s3").put(f"{folder / 'data'}/", f"{bucket}/imagenet", recursive=True)
    settings = student_settings(folder, folder / "run", epochs=1)
    (folder / "small.yaml").write_text(yaml.safe_dump({**settings, "store": f"{bucket}/resnet152"}))
    program = in_small(PROGRAM, SMALL | {"s3://BUCKET": bucket})
    # What a command gives goes before the file's; stores come first; each run gets a folder of its own.
    program = re.sub(r"(train_student\.py)(.*) --config small\.yaml", r"\1 --config small.yaml\2", program)
    lines = sorted(program.splitlines(), key=lambda line: not line.startswith("cache-teacher"))
    runs = itertools.count()
    trains = ["train_student.py" in line and "--output" not in line for line in lines]
    lines = [f"{line} --output runs/{next(runs)}" if own else line for line, own in zip(lines, trains, strict=True)]
    printed = run_bash("PATH=.venv/bin:$PATH\n" + "\n".join(lines), folder, timeout=1200)
    assert "Event statistics" in printed
    assert len(list(folder.glob("runs/*/model/model.safetensors"))) == next(runs)
    assert program.count("train_student.py") == sum(name == "train_student.py" for name, _ in COMMANDS)


def test_every_option_that_is_mentioned_exists():
    known = {*options(TrainConfig), *(option.path for option in options(TrainConfig).values())}
    known |= {"config", "print_config", "help", "logdir", "quiet", *CacheConfig.__dataclass_fields__}
    known |= {"shards", "shutdown", "shm", "ipc"}  # options of pld data, torchrun and docker
    mentioned = re.findall(r"--([a-z_]+(?:\.[a-z_]+)?)", PAGE.read_text())
    assert set(mentioned) <= known


@pytest.mark.parametrize(("machines", "words"), [(1, "160 GB on one machine"), (8, "20 GB on each of eight")])
def test_the_disk_that_imagenet_wants(machines, words):
    """1024 shards of 137 MB, the recipe's batch and streams."""
    config = TrainConfig.from_flat(data="x", loss="ce")
    sizes = [1252] * 143 + [1251] * 881  # 1,281,167 images
    order = global_batches(epoch_order(0, 0, sizes, config.data.streams, 8), config.optimizer.batch_size)
    uses, _ = plan_uses(np.repeat(np.arange(1024), sizes), (rows[::machines] for rows in order), 0)
    wanted = peak_bytes(uses, np.full(1024, 137_000_000), in_flight(config.data.workers)) / (1 - VAL_SHARE)
    assert wanted == pytest.approx(float(words.split()[0]) * 1e9, rel=0.02)
    assert words in PAGE.read_text()
