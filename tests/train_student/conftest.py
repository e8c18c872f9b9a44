import pytest

from tests.making import NUM_CLASSES, make_dataset, make_store, make_teacher


@pytest.fixture(scope="package")
def world(tmp_path_factory):
    """A folder with a dataset `data`, a teacher `teacher` and its stores `full` (k = C) and `top5`, 3 views each."""
    folder = tmp_path_factory.mktemp("world")
    make_dataset(folder / "data", shard_sizes=(60, 45, 70, 52, 33), num_val=37)
    make_teacher(folder / "teacher")
    for name, k in (("full", NUM_CLASSES), ("top5", 5)):
        make_store(folder, name, views=3, k=k)
    return folder
