"""Training from several teachers' stores: the command, what it learns from, its report, and going on with it."""

import dataclasses
import re

import numpy as np
import pytest
import torch

from pld.config import run
from pld.images import open_source
from pld.loading import ViewRequest
from pld.report.runs.read import read_run
from pld.report.runs.table import run_rows
from pld.signals import TopK
from pld.store import StoreWriter, open_store, open_stores
from pld.store.read.averaging import average
from tests.making import NUM_CLASSES, make_store, make_teacher, student_settings
from tests.train_student.runs import as_arguments, metrics
from train_student.config import TrainConfig
from train_student.data.batches import Batch
from train_student.data.teacher_signal import StoredTeacher
from train_student.data.training_data import open_training_data
from train_student.run.train import main as train_main
from train_student.run.train import train


@pytest.fixture(scope="module")
def second(world, tmp_path_factory):
    """Another teacher's stores beside the world's `full` and `top5`."""
    folder = tmp_path_factory.mktemp("second")
    make_teacher(folder / "teacher", seed=1)
    for name, k, seed in (("full", NUM_CLASSES, 0), ("top5", 5, 0), ("otherwise", 5, 9)):
        make_store(folder, name, data=str(world / "data"), views=2, k=k, view_seed=seed)
    return folder


def both(world, second, name):
    return [str(world / name), str(second / name)]


def batch_of(rows, view):
    return Batch(ViewRequest(np.asarray(rows), (view,)), torch.zeros(len(rows), dtype=torch.int64), ())


def test_a_batch_is_the_average_of_what_each_store_says_of_it(world, second):
    source = open_source(str(world / "data"))
    source = source.subset(np.arange(len(source)) % 3 == 0)
    signal = StoredTeacher(open_stores(both(world, second, "top5")), source)
    rows = [5, 0, 17]
    got = signal(batch_of(rows, 1), torch.device("cpu"))
    stores = [open_store(url) for url in both(world, second, "top5")]
    wanted = average([s.load_view(1)[s.rows(source.keys)[rows]] for s in stores], NUM_CLASSES)
    assert torch.equal(got.classes, wanted.classes)
    assert torch.equal(got.logprobs, wanted.logprobs)


@pytest.mark.parametrize("combine", ["average", "pick"])
def test_the_command_trains_from_both_and_says_so(world, second, tmp_path, combine):
    one, two = both(world, second, "top5")
    settings = student_settings(world, tmp_path / "once", store=None, combine=combine, epochs=3, tracker="none")
    assert run(train_main, [*as_arguments(settings), "--store", one, "--store", two]) == 0
    told = read_run(tmp_path / "once")
    assert told.config["store"] == [one, two]
    assert told.facts["num_views"] == 2
    assert told.facts["store_fingerprint"] == open_stores([one, two], combine).fingerprint
    assert ("average of 2 stores" if combine == "average" else "picked from 2 stores") in run_rows([told])[0]
    losses = [line["loss"] for line in metrics(tmp_path / "once")]
    alone = TrainConfig.from_flat(
        **settings | {"store": one, "output": str(tmp_path / "alone"), "epochs": 1, "views": 2}
    )
    train(alone)
    assert metrics(tmp_path / "alone")[0]["loss"] != losses[0]


def interrupted(config):
    """Train until the end of the first epoch, whose checkpoint is older."""

    def stop(_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train_student.loop.trainer.Trainer._end_epoch", stop)
        train(config)


def test_a_run_goes_on_with_its_own_teachers_alone(world, second, tmp_path, capsys):
    one, two = both(world, second, "full")
    settings = student_settings(world, tmp_path / "run", store=[one, two], checkpoint_steps=5, tracker="none")
    with pytest.raises(KeyboardInterrupt):
        interrupted(TrainConfig.from_flat(**settings))
    for other in ([two, one], one, [one, two, two]):
        assert run(train_main, as_arguments(settings | {"store": other, "resume": "auto"})) == 2
        assert "the teacher's logits (digest" in capsys.readouterr().err
    (tmp_path / "place").symlink_to(second / "top5")
    moved = settings | {"store": [one, str(tmp_path / "place")], "resume": "auto"}
    assert run(train_main, as_arguments(moved)) == 2
    assert "the teacher's logits (digest" in capsys.readouterr().err
    train(TrainConfig.from_flat(**settings | {"resume": "auto"}))
    train(TrainConfig.from_flat(**settings | {"output": str(tmp_path / "once")}))
    assert [line["loss"] for line in metrics(tmp_path / "run")] == [line["loss"] for line in metrics(tmp_path / "once")]


REFUSED = [
    ("top5", "otherwise", {}, "views.seed 0, not 9"),
    ("top5", "top5", {"temperature": 0.5}, r"does not hold temperature 0\.5, only \[1\.0\]"),
    ("full", "top5", {"loss": "kd"}, "holds the top 5 of 12 classes; this loss needs all"),
    ("top5", "top5", {"views": 3}, "holds views 0..1; --views 3 wants 0..2"),
]


@pytest.mark.parametrize(("first", "other", "settings", "message"), REFUSED, ids=[case[3][:20] for case in REFUSED])
def test_what_does_not_go_together_is_refused(world, second, tmp_path, capsys, first, other, settings, message):
    stores = [str(world / first), str(second / other)]
    arguments = as_arguments(student_settings(world, tmp_path / "run", store=stores, **settings))
    assert run(train_main, arguments) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert not (tmp_path / "run").exists()


def test_picks_hold_every_temperature_and_a_dry_run_counts_both(world, second, tmp_path, capsys):
    stores = both(world, second, "top5")
    settings = student_settings(world, tmp_path / "run", store=stores, combine="pick", temperature=0.5)
    assert run(train_main, [*as_arguments(settings), "--dry-run"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"store {stores[0]} + {stores[1]}" in printed
    total = sum(open_store(url).num_bytes for url in stores)
    assert f"holds top 5 of 12, 2 views, {total / 1e3:.3g} kB" in printed


def test_images_that_one_store_had_to_skip_are_left_out(world, second, tmp_path):
    store = open_store(str(second / "top5"))
    manifest = store.manifest
    identity = dataclasses.replace(
        manifest.identity, teacher=dataclasses.replace(manifest.identity.teacher, name="third")
    )
    writer = StoreWriter.open(str(tmp_path / "third"), identity, manifest.shards, {})
    end = 0
    for part in writer.missing_parts(1):
        (size,) = [shard.num_samples for shard in manifest.shards if shard.name == part.shard]
        skipped, kept = store.keys[end : end + 1], np.arange(end + 1, end + size)
        labels = store.labels[kept]
        signal = TopK.from_logits(
            torch.randn(size - 1, NUM_CLASSES), torch.from_numpy(labels), 5, identity.codec.temperatures
        )
        writer.write_part(part, store.keys[kept], labels, [signal], skipped=[key.decode() for key in skipped])
        end += size
    writer.seal()
    stores = [str(world / "top5"), str(tmp_path / "third")]
    config = TrainConfig.from_flat(**student_settings(world, tmp_path / "run", store=stores))
    data = open_training_data(config)
    assert (len(data.train), data.num_skipped) == (255, 5)
    got = StoredTeacher(data.store, data.train)(batch_of(np.arange(255), 0), torch.device("cpu"))
    assert got.labels.tolist() == data.train.labels.tolist()
