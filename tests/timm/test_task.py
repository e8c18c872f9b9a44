"""PLDTask gives PLD of a store's views, and the loss's parts; StoreViews gives the pixels that the teacher saw."""

import importlib
import sys

import numpy as np
import pytest
import timm
import torch
from timm.task import TrainingTask
from torch.utils.data import DataLoader

from pld.errors import ConfigError, NotCachedError
from pld.images import open_source
from pld.join.match import stored_policy
from pld.loading import decode_views, view_decoder
from pld.losses import pld_loss
from pld.store import open_store
from pld.timm import PLDTask, StoreViews
from pld.views.preprocessing import Preprocessing
from tests.making import NUM_CLASSES, make_dataset, make_store, make_teacher


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("timm")
    make_dataset(folder / "data", shard_sizes=(9, 7))
    make_teacher(folder / "teacher")
    make_store(folder, views=2, k=5)
    make_store(folder, "mixed", views=1, k=5, policy="mixup-0.8")
    return folder


@pytest.fixture
def views(world):
    return StoreViews(open_store(world / "store"), open_source(str(world / "data")), 32)


def student(num_classes=NUM_CLASSES):
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=num_classes)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_loss_and_its_parts(views, temperature):
    task = PLDTask(student(), views, temperature=temperature, verbose=False)
    assert isinstance(task, TrainingTask)
    rows = torch.tensor([3, 0, 12])
    result = task(torch.rand(3, 3, 32, 32), rows)
    topk = views.store.load_view(0)[views.store.rows(views.source.keys[rows.numpy()])]
    assert torch.equal(result["loss"], pld_loss(result["output"], topk, topk.labels, temperature=temperature))
    # The float64 twin of the label's part.
    logprobs = torch.cat([topk.label_logprob[:, None], topk.logprobs], dim=1).double() / temperature
    logprobs[:, 1:][topk.classes == topk.labels[:, None]] = -torch.inf
    total = torch.logsumexp(torch.cat([logprobs, topk.tail_at(temperature)[:, None].double()], dim=1), dim=1)
    nll = -result["output"].detach().double().log_softmax(1).gather(1, topk.labels[:, None])[:, 0]
    wanted = ((logprobs[:, 0] - total).exp() * nll).mean()
    assert float(result["label_loss"]) == pytest.approx(float(wanted), rel=1e-5)
    assert float(result["label_loss"] + result["teacher_loss"]) == pytest.approx(result["loss"].item(), rel=1e-6)
    result["loss"].backward()
    assert all(parameter.grad is not None for parameter in task.get_trainable_module().parameters())


def test_the_views_are_the_teachers_in_each_epoch_and_process(views):
    policy = stored_policy(views.store)
    decoder = view_decoder(views.source, policy, [Preprocessing(input_size=(32, 32))])
    loader = DataLoader(views, batch_size=5, num_workers=1, persistent_workers=True)
    for epoch in (1, 2):  # the worker lives on
        views.set_epoch(epoch)
        for images, rows in loader:
            (wanted,) = decode_views(decoder, rows.tolist(), [epoch % 2])
            assert torch.equal(images, wanted[:, 0])
            topk = views.topk(rows)
            assert torch.equal(topk.labels, torch.from_numpy(views.source.labels[rows.numpy()]))
            assert torch.equal(topk.logprobs, views.store.load_view(epoch % 2)[views._rows[rows.numpy()]].logprobs)


def test_what_does_not_fit_is_refused(world, views):
    with pytest.raises(ConfigError, match=f"the student has 7 classes, .*store has {NUM_CLASSES}; create it with"):
        PLDTask(student(7), views, verbose=False)(torch.rand(2, 3, 32, 32), torch.arange(2))
    with pytest.raises(ConfigError, match=r"temperature = 0\.0, wanted a number above 0"):
        PLDTask(student(), views, temperature=0.0)
    with pytest.raises(ConfigError, match="mixed: its views are mixed with other images"):
        StoreViews(open_store(world / "mixed"), open_source(str(world / "data")), 32)
    with pytest.raises(NotCachedError, match="13 of 13 samples"):
        StoreViews(open_store(world / "store"), open_source(str(world / "data"), "val"), 32)


def test_an_older_timm_is_named(monkeypatch):
    import pld.timm.task

    monkeypatch.setitem(sys.modules, "timm.task", None)
    monkeypatch.setattr(timm, "__version__", "1.0.20")
    monkeypatch.delitem(sys.modules, "pld.timm.task")
    with pytest.raises(
        ConfigError, match=r"found timm 1\.0\.20, wanted 1\.0\.23 or newer: pip install 'timm>=1\.0\.23'"
    ):
        importlib.import_module("pld.timm.task")
    monkeypatch.undo()
    assert sys.modules["pld.timm.task"] is pld.timm.task


def test_rows_may_be_numpys(views):
    assert torch.equal(views[np.int64(3)][0], views[3][0])
