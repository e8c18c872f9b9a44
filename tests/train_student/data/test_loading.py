"""Batches come through memory that is used again, and nobody sees another batch in theirs."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from pld.images import open_source
from pld.views.preprocessing import Preprocessing
from tests.processes import ROOT
from train_student.data.batches import ViewDataset, WorkItem
from train_student.data.loading import load


@pytest.fixture
def dataset(world):
    source = open_source(str(world / "data"))
    return ViewDataset(source, source.policy, [Preprocessing(input_size=(32, 32)), Preprocessing(input_size=(24, 40))])


def items(dataset, num: int) -> list[WorkItem]:
    rng = np.random.default_rng(0)
    return [WorkItem(view, rng.integers(0, len(dataset.source), 8 if view + 1 < num else 3)) for view in range(num)]


def places(batch) -> set[int]:
    return {images.untyped_storage().data_ptr() for images in batch.images}


@pytest.mark.parametrize("held", [1, 4])
def test_blocks_are_used_again_and_never_too_early(dataset, held):
    """A caller that keeps `held` batches: all stay what they were, and few places are used in turn."""
    wanted = list(load(dataset, items(dataset, 40), workers=0))
    kept, seen = [], set()
    for number, batch in enumerate(load(dataset, items(dataset, 40), workers=2, held=held)):
        kept = [*kept, (number, batch)][-held:]
        seen |= places(batch)
        for earlier, images in kept:
            for mine, twin in zip(images.images, wanted[earlier].images, strict=True):
                assert torch.equal(mine, twin)
    assert number == 39
    assert len(seen) <= 2 * 2 + 2 * held


def test_a_view_of_an_image_keeps_its_block(dataset):
    corners = [batch.images[1][0, :, :2, :2] for batch in load(dataset, items(dataset, 30), workers=1)]
    wanted = [batch.images[1][0, :, :2, :2] for batch in load(dataset, items(dataset, 30), workers=0)]
    assert all(map(torch.equal, corners, wanted))


def test_a_larger_batch_than_the_first_takes_memory_of_its_own(dataset):
    work = [WorkItem(0, np.arange(2)), WorkItem(0, np.arange(9)), WorkItem(0, np.arange(2))]
    batches = list(load(dataset, work, workers=1))
    assert [len(batch.labels) for batch in batches] == [2, 9, 2]
    assert torch.equal(batches[1].images[0][:2], batches[0].images[0])


def test_no_items_no_batches(dataset):
    assert list(load(dataset, [], workers=2)) == []


LEFT_OPEN = """
import numpy as np
from pld.images import open_source
from pld.views.preprocessing import Preprocessing
from train_student.data.batches import ViewDataset, WorkItem
from train_student.data.loading import load

source = open_source({data!r})
dataset = ViewDataset(source, source.policy, [Preprocessing(input_size=(32, 32))])
batches = load(dataset, (WorkItem(0, np.arange(8)) for _ in range(100)), workers=2)
next(batches)
"""


def test_an_interpreter_ends_though_a_loader_is_open(world):
    """Multiprocessing ends workers with SIGTERM, which they leave alone, and then waits for them."""
    script = LEFT_OPEN.format(data=str(world / "data"))
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
