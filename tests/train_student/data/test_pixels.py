"""Stage one and stage two see the same pixels, whoever decodes them."""

import numpy as np
import pytest
import torch

from pld.images import open_source
from pld.loading import ViewRequest, decode_views, view_decoder
from pld.views.preprocessing import Preprocessing
from train_student.data.batches import load_batches

PREPROCESSING = Preprocessing(input_size=(32, 32))


def stage_one(source, row, view_indexes, preprocessing=PREPROCESSING) -> torch.Tensor:
    (views,) = decode_views(view_decoder(source, source.policy, [preprocessing]), [row], view_indexes)
    return views[0]


def stage_two(source, requests, preprocessings=(PREPROCESSING,), **settings):
    decoder = view_decoder(source, source.policy, preprocessings)
    with load_batches(source, decoder, requests, **settings) as batches:
        return list(batches)


@pytest.fixture(scope="module")
def pairs(world):
    """200 random (row, view), and stage one's pixels of each."""
    source = open_source(str(world / "data"))
    rng = np.random.default_rng(0)
    rows, views = rng.integers(0, len(source), 200), rng.integers(0, 300, 200)
    pixels = [stage_one(source, row, [view])[0] for row, view in zip(rows.tolist(), views.tolist(), strict=True)]
    return source, rows, views, pixels


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # three workers on two cores
@pytest.mark.parametrize(
    ("workers", "context"),
    [(0, None), (1, "fork"), (3, "fork"), (1, "spawn"), pytest.param(3, "spawn", marks=pytest.mark.long)],
)
def test_both_stages_see_the_same_pixels(pairs, workers, context):
    source, rows, views, wanted = pairs
    requests = [ViewRequest(np.array([row]), (view,)) for row, view in zip(rows.tolist(), views.tolist(), strict=True)]
    batches = stage_two(source, requests, workers=workers, context=context)
    assert len(batches) == 200
    for request, batch, pixels in zip(requests, batches, wanted, strict=True):
        assert batch.request is request
        assert batch.labels.tolist() == source.labels[request.rows].tolist()
        assert torch.equal(batch.images[0][0], pixels)


def test_views_do_not_depend_on_the_company_they_are_cut_in(pairs):
    """All views of an image together, as stage one cuts them; many images in one view, as stage two does."""
    source, rows, _, _ = pairs
    together = stage_one(source, int(rows[0]), range(6))
    for view in range(6):
        (batch,) = stage_two(source, [ViewRequest(rows, (view,))], workers=0)
        assert torch.equal(batch.images[0][0], together[view])


def test_two_models_get_the_same_crop_at_their_own_sizes(pairs):
    source, rows, _, _ = pairs
    small, large = PREPROCESSING, Preprocessing(input_size=(48, 40), interpolation="bilinear")
    (batch,) = stage_two(source, [ViewRequest(rows[:5], (0,))], [small, large], workers=0)
    assert [tuple(images.shape) for images in batch.images] == [(5, 3, 32, 32), (5, 3, 48, 40)]
    assert torch.equal(batch.images[1][0], stage_one(source, int(rows[0]), [0], large)[0])
