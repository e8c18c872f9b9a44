"""Stage one and stage two see the same pixels, whoever decodes them."""

import numpy as np
import pytest
import torch

from cache_teacher.cutting import cut_views
from pld.images import open_source
from pld.views.preprocessing import Preprocessing
from train_student.data.batches import ViewDataset, WorkItem
from train_student.data.loading import load

PREPROCESSING = Preprocessing(input_size=(32, 32))


def stage_one(source, row, view_indexes, preprocessing=PREPROCESSING) -> torch.Tensor:
    out = torch.empty((len(view_indexes), *preprocessing.input_size, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    cut_views(source, row, view_indexes, source.policy, preprocessing, out)
    return out


@pytest.fixture(scope="module")
def pairs(world):
    """200 random (row, view), and stage one's pixels of each."""
    source = open_source(str(world / "data"))
    rng = np.random.default_rng(0)
    rows, views = rng.integers(0, len(source), 200), rng.integers(0, 300, 200)
    pixels = [stage_one(source, row, [view])[0] for row, view in zip(rows.tolist(), views.tolist(), strict=True)]
    return source, rows, views, pixels


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # three workers on two cores
@pytest.mark.parametrize(("workers", "context"), [(0, None), (1, "fork"), (3, "fork"), (1, "spawn"), (3, "spawn")])
def test_both_stages_see_the_same_pixels(pairs, workers, context):
    source, rows, views, wanted = pairs
    items = [WorkItem(view, np.array([row])) for row, view in zip(rows.tolist(), views.tolist(), strict=True)]
    batches = list(load(ViewDataset(source, source.policy, [PREPROCESSING]), items, workers=workers, context=context))
    assert len(batches) == 200
    for item, batch, pixels in zip(items, batches, wanted, strict=True):
        assert batch.item.view_index == item.view_index
        assert batch.labels.tolist() == source.labels[item.rows].tolist()
        assert torch.equal(batch.images[0][0], pixels)


def test_views_do_not_depend_on_the_company_they_are_cut_in(pairs):
    """All views of an image together, as stage one cuts them; many images in one view, as stage two does."""
    source, rows, _, _ = pairs
    together = stage_one(source, int(rows[0]), range(6))
    for view in range(6):
        batch = next(iter(load(ViewDataset(source, source.policy, [PREPROCESSING]), [WorkItem(view, rows)], workers=0)))
        assert torch.equal(batch.images[0][0], together[view])


def test_two_models_get_the_same_crop_at_their_own_sizes(pairs):
    source, rows, _, _ = pairs
    small, large = PREPROCESSING, Preprocessing(input_size=(48, 40), interpolation="bilinear")
    batch = next(iter(load(ViewDataset(source, source.policy, [small, large]), [WorkItem(0, rows[:5])], workers=0)))
    assert [tuple(images.shape) for images in batch.images] == [(5, 3, 32, 32), (5, 3, 48, 40)]
    assert torch.equal(batch.images[1][0], stage_one(source, int(rows[0]), [0], large)[0])
