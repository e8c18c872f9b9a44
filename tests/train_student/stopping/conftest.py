import pytest

from tests.making import STUDENT, student_settings
from tests.processes import python
from tests.train_student.runs import as_arguments

EPOCHS, STEPS = 3, 16  # 260 images in batches of 16
SETTINGS = {"epochs": EPOCHS, "ema_decay": 0.9, "tracker": "none", "workers": 1}
SETTINGS |= {"model_kwargs": {**STUDENT, "drop_rate": 0.1}}


@pytest.fixture(scope="package")
def undisturbed(world, tmp_path_factory):
    """The folder of a run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    settings = student_settings(world, folder / "run", **SETTINGS)
    python("-m", "train_student", *as_arguments(settings), cwd=folder)
    return folder / "run"


@pytest.fixture
def settings(world, tmp_path):
    return student_settings(world, tmp_path / "run", **SETTINGS)
