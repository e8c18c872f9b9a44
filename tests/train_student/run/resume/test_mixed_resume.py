"""Runs on mixed images, and on several views of each: killed, gone on with, and on any number of processes."""

import itertools

import pytest

from pld.images import epoch_order, global_batches, open_source
from pld.join.match import stored_policy
from pld.join.mixing import plan_mixing
from pld.store import open_store
from tests.making import NUM_CLASSES, STUDENT, make_store, student_settings
from tests.processes import python, torchrun
from tests.train_student.run.resume.test_resume import StopError, command, consumed, kill_after, started
from tests.train_student.runs import assert_same_weights, metrics
from train_student.config import TrainConfig
from train_student.loop.learner import Learner
from train_student.run.train import train

EPOCHS, IMAGES = 2, 8  # in a batch
KINDS = {"mixed": ("mixed", 1), "four": ("mixed", 4), "unmixed-four": ("light", 4)}


@pytest.fixture(params=["four", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("mixed", "unmixed-four"))])
def kind(request):
    return request.param


def settings_of(world, stores, folder, kind, **more):
    name, views = KINDS[kind]
    base = {"store": str(stores[name]), "views_per_image": views, "batch_size": IMAGES * views, "epochs": EPOCHS}
    base |= {"data": str(world / "data" / "train-{0000..0001}.tar"), "val_data": "none", "tracker": "none"}
    base |= {"checkpoint_steps": 4, "ema_decay": 0.9, "model_kwargs": {**STUDENT, "drop_rate": 0.1}}
    return student_settings(world, folder, **base, **more)


@pytest.fixture(scope="module")
def stores(world, mixed):
    return {"mixed": mixed, "light": make_store(world, "four", views=4, k=NUM_CLASSES)}


def wanted_batches(world, stores, kind):
    """The batches by hand, from the functions of order and mixing alone."""
    name, views = KINDS[kind]
    store, source = open_store(str(stores[name])), open_source(str(world / "data" / "train-{0000..0001}.tar"))
    plan = plan_mixing(source, stored_policy(store), [store])
    for epoch in range(EPOCHS):
        indexes = tuple((epoch * views + number) % 4 for number in range(views))
        partners = plan.partners(indexes[0])[: len(source)] if plan else None
        order = epoch_order(0, epoch, source.shard_sizes, 4, source.shuffle_window, partners)
        for rows in global_batches(order, IMAGES):
            yield indexes, [source.key(row) for row in rows.tolist()]


def together(kind):
    return 1 if kind == "unmixed-four" else 2


def test_a_run_that_was_stopped_goes_on_bit_for_bit(world, stores, kind, tmp_path, monkeypatch):
    """In the second epoch, between two checkpoints, and with worker processes after that."""
    train(TrainConfig.from_flat(**settings_of(world, stores, tmp_path / "whole", kind)))
    step, steps_an_epoch = Learner.step, 105 // IMAGES

    def stop(self, batches, steps_done):
        if steps_done == steps_an_epoch + 5:
            raise StopError
        return step(self, batches, steps_done)

    settings = settings_of(world, stores, tmp_path / "run", kind)
    with monkeypatch.context() as patch:
        patch.setattr("train_student.loop.learner.Learner.step", stop)
        with pytest.raises(StopError):
            train(TrainConfig.from_flat(**settings))
    train(TrainConfig.from_flat(**{**settings, "resume": "auto", "workers": 2}))
    assert_same_weights(tmp_path / "run", tmp_path / "whole")
    for mine, other in zip(metrics(tmp_path / "run"), metrics(tmp_path / "whole"), strict=True):
        assert (mine["epoch"], mine["loss"], mine["lr"]) == (other["epoch"], other["loss"], other["lr"])


@pytest.mark.parametrize(
    ("kind", "processes", "workers"),
    [
        pytest.param(kind, processes, workers, marks=[] if (kind, processes) == ("four", 2) else pytest.mark.long)
        for kind, (processes, workers) in itertools.product(KINDS, ((1, 0), (2, 1), (4, 0)))
    ],
    indirect=["kind"],
)
def test_batches_are_the_same_on_any_number_of_processes(world, stores, kind, tmp_path, processes, workers):
    settings = settings_of(world, stores, tmp_path / "run", kind, workers=workers)
    argv = command(tmp_path / "log", settings)
    torchrun(processes, argv, cwd=tmp_path) if processes > 1 else python(*argv, cwd=tmp_path)
    found = consumed(tmp_path / "log", together=together(kind))
    assert [found[step] for step in sorted(found)] == list(wanted_batches(world, stores, kind))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["mixed", "four"], indirect=True)
def test_killed_it_goes_on_with_the_batches_and_weights(world, stores, kind, tmp_path):
    """Killed with one process, then, in the long test, with two; to the end with one."""
    settings = settings_of(world, stores, tmp_path / "run", kind, resume="auto", workers=1)
    logs = [tmp_path / "log-0", tmp_path / "log-1"]
    kill_after(started(1, logs[0], settings), logs[0], 6)
    python(*command(logs[1], settings), cwd=tmp_path)
    assert min(consumed(logs[1], together=together(kind))) > 1  # from a checkpoint
    found = consumed(*logs, together=together(kind))
    assert [found[step] for step in sorted(found)] == list(wanted_batches(world, stores, kind))
    train(TrainConfig.from_flat(**settings_of(world, stores, tmp_path / "whole", kind)))
    assert_same_weights(tmp_path / "run", tmp_path / "whole")
