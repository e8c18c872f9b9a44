import pytest

from pld.config import run
from tests.end_to_end.colours import NAMES, colour_folder, sure_teacher
from tests.train_student.begun import arguments
from train_student.run.train import main as train_main


@pytest.fixture(scope="package")
def place(tmp_path_factory):
    """Images `data` of three colours, and `teacher`, who knows them by name."""
    folder = tmp_path_factory.mktemp("init")
    colour_folder(folder / "data" / "train", NAMES[:3], each=8)
    colour_folder(folder / "data" / "val", NAMES[:3], each=6, first=100)
    sure_teacher(folder / "teacher", NAMES[:3])
    return folder


@pytest.fixture
def training(place, tmp_path, capsys):
    """Runs `train-student` into a folder of the test's; returns the exit status and what was printed."""

    def train(output="run", data=None, **settings):
        status = run(train_main, arguments(data or place / "data", tmp_path / output, **settings))
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return train
