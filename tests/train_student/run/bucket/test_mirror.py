"""What is pushed to a bucket and pulled from it, where what is there is damaged or something else."""

import shutil

import pytest

from tests.train_student.run.bucket.conftest import StopError
from train_student.run.bucket.mirror import working_folder


def stop():
    raise StopError("stopped")


@pytest.fixture
def stopped(settings, before_step, training):
    """A run that was stopped after checkpoints at steps 16 and 20; its machine is gone."""
    before_step({21: stop})
    assert training(settings)[0] == 2
    before_step({})
    shutil.rmtree(working_folder(settings["output"]))
    return settings


def truncate(storage, name):
    storage.put(name, storage.read(name, 2**24)[:-1])


@pytest.mark.parametrize("ending", ["safetensors", "json"])
def test_a_damaged_checkpoint_is_passed_over(stopped, url, storage, ending, assert_finished, training):
    truncate(storage, f"checkpoints/step-000000020.{ending}")
    status, printed = training(stopped)
    assert status == 0
    assert f"warning: {url}/checkpoints/step-000000020.{ending}: " in printed
    assert f"{url}: goes on from step-000000016.safetensors" in printed
    assert_finished()


def test_a_checkpoint_without_its_commit_is_not_there(stopped, url, storage, assert_finished, training):
    storage.delete("checkpoints/step-000000020.json")
    status, printed = training(stopped)
    assert (status, f"{url}: goes on from step-000000016.safetensors" in printed) == (0, True)
    assert_finished()


def test_checkpoints_that_are_all_damaged_are_an_error(stopped, url, storage, training):
    for step in (16, 20):
        truncate(storage, f"checkpoints/step-0000000{step}.safetensors")
    status, printed = training(stopped)
    assert status == 2
    assert f"Remove {url}/checkpoints to start from the beginning" in printed
    for name in storage.list("checkpoints"):
        storage.delete(name)
    assert training(stopped)[0] == 0


def test_a_folder_of_something_else_is_left_alone(settings, url, storage, training):
    storage.put("model/config.json", b"{}")
    status, printed = training(settings)
    assert (status, f"{url}: is there and is not a run's folder" in printed) == (2, True)
    assert storage.read("model/config.json", 10) == b"{}"


def test_a_run_that_was_removed_from_the_bucket_begins_anew(settings, url, storage, before_step, training):
    """What its working folder held is not taken for the new one's."""
    before_step({9: stop})
    training(settings)
    for name in storage.list(""):
        storage.delete(name)
    before_step({1: stop})
    _, printed = training({**settings, "lr": 2e-3})
    (aside,) = working_folder(url).parent.glob(f"{working_folder(url).name}.before-*")
    assert f"{url}: has not the run that was in {working_folder(url)}, which is kept as {aside}" in printed
    assert list(aside.glob("checkpoints/*.safetensors"))  # they may be the only ones
    assert "goes on from" not in printed
    assert not storage.list("checkpoints")


def test_a_begun_run_is_refused_without_resume(stopped, url, training):
    status, printed = training({**stopped, "resume": "never"})
    assert (status, f"{url}: holds a run already. Continue it with --resume auto" in printed) == (2, True)
