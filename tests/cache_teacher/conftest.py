import pytest

from tests.making import make_dataset, make_teacher


@pytest.fixture(scope="package")
def world(tmp_path_factory):
    """A folder with a dataset `data` and a teacher `teacher`."""
    folder = tmp_path_factory.mktemp("world")
    make_dataset(folder / "data")
    make_teacher(folder / "teacher")
    return folder


@pytest.fixture(autouse=True)
def date(monkeypatch):
    """One date, so that stores come out the same byte by byte."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
