import shutil

import pytest
from accelerate.state import AcceleratorState

from cache_teacher.cache import cache
from cache_teacher.config import CacheConfig
from pld.images import open_source
from tests.making import NUM_CLASSES, make_dataset, make_teacher
from tests.train_student.broken import BAD_ROWS, damage


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PLD_CACHE", str(tmp_path_factory.getbasetemp() / "pld-cache"))
    AcceleratorState._reset_state(True)  # it outlives an Accelerator, and refuses another precision


@pytest.fixture(scope="package")
def world(tmp_path_factory):
    """A folder with a dataset `data`, a teacher `teacher` and its stores `full` (k = C) and `top5`, 3 views each."""
    folder = tmp_path_factory.mktemp("world")
    make_dataset(folder / "data", shard_sizes=(60, 45, 70, 52, 33), num_val=37)
    make_teacher(folder / "teacher")
    for name, k in (("full", NUM_CLASSES), ("top5", 5)):
        cache(
            CacheConfig(
                allow_wrong_labels=True,
                teacher=f"local-dir:{folder / 'teacher'}",
                data=str(folder / "data"),
                views=3,
                k=k,
                store=str(folder / name),
                threads=1,
            )
        )
    return folder


@pytest.fixture
def data(world, tmp_path):
    """A copy of the images, to damage."""
    return shutil.copytree(world / "data", tmp_path / "data")


@pytest.fixture
def damaged(data):
    """The training images, some of them damaged, and the same rows undamaged."""
    whole = open_source(str(data))
    damage(data, *map(whole.key, BAD_ROWS))
    return open_source(str(data))
