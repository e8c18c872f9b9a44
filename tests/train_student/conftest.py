import shutil

import pytest

from pld.images import open_source
from tests.making import NUM_CLASSES, make_dataset, make_store, make_teacher
from tests.train_student.broken import BAD_ROWS, damage


@pytest.fixture(scope="package")
def world(tmp_path_factory):
    """A folder with a dataset `data`, a teacher `teacher` and its stores `full` (k = C) and `top5`, 3 views each."""
    folder = tmp_path_factory.mktemp("world")
    make_dataset(folder / "data", shard_sizes=(60, 45, 70, 52, 33), num_val=37)
    make_teacher(folder / "teacher")
    for name, k in (("full", NUM_CLASSES), ("top5", 5)):
        make_store(folder, name, views=3, k=k)
    return folder


@pytest.fixture(scope="package")
def mixed(world):
    """A store like `full` whose images are mixed, of 4 views."""
    return make_store(world, "mixed", views=4, k=NUM_CLASSES, policy="mixup-0.8,cutmix-1.0")


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
