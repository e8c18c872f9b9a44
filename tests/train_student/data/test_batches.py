"""Batches in training: what stands in for images that cannot be decoded."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pld.errors import DataError, UndecodableImageError
from pld.images import open_source
from pld.loading import ViewRequest, view_decoder
from pld.views.preprocessing import Preprocessing
from tests.train_student.broken import BAD_ROWS, by_hand
from train_student.data.batches import load_batches, stand_ins

CPU = torch.device("cpu")
OUTPUTS = [Preprocessing(input_size=(32, 32)), Preprocessing(input_size=(24, 40))]


def batches_of(source, rows_of_each, *, gpu=None, skip=True, **settings):
    decoder = view_decoder(source, source.policy, OUTPUTS, gpu=gpu, skip_bad_images=skip)
    requests = [ViewRequest(np.array(rows), (view,)) for view, rows in enumerate(rows_of_each)]
    with load_batches(source, decoder, requests, **{"workers": 0, **settings}) as batches:
        return list(batches)


@given(st.lists(st.booleans(), max_size=9))
def test_the_next_good_image_stands_in(good):
    rows = list(range(len(good)))
    bad = {row for row in rows if not good[row]}
    assert stand_ins(good) == (by_hand(rows, bad) if any(good) else [])


@pytest.mark.parametrize("gpu", [None, CPU], ids=["cpu", "nvjpeg"])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_keep_their_size(world, damaged, workers, gpu):
    """Pixels, labels and rows are those of a batch that asked for the stand-ins; also around the batch's end."""
    rows = [[10, 11, 12, 13], [130, 61, 5, 200], [7, 8, 9, 10], [9, 12, 9, 11], [200, 61, 130, 1]]
    bad = [(11, 12), (130, 61, 200), (), (12, 11), (200, 61, 130)]
    whole = open_source(str(world / "data"))
    wanted = batches_of(whole, [by_hand(each, BAD_ROWS) for each in rows], gpu=gpu)
    for batch, twin, bad_rows in zip(batches_of(damaged, rows, gpu=gpu, workers=workers), wanted, bad, strict=True):
        assert batch.bad_rows == bad_rows
        assert batch.request.view_indexes == twin.request.view_indexes
        assert batch.request.rows.tolist() == twin.request.rows.tolist()
        assert batch.labels.tolist() == whole.labels[batch.request.rows].tolist()
        for images, others in zip(batch.images, twin.images, strict=True):
            assert images.is_contiguous(memory_format=torch.channels_last)
            # Filled up to other images' sizes, nvJPEG's sums may round differently.
            assert (images.int() - others.int()).abs().max() <= (1 if gpu else 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_an_error_that_names_the_option(damaged, workers):
    with pytest.raises(UndecodableImageError, match=r"sample train-0011: .*--on_bad_image skip"):
        batches_of(damaged, [[10, 11]], skip=False, workers=workers)


def test_a_batch_without_one_good_image(damaged):
    with pytest.raises(DataError, match=r"none of the 2 images of its micro-batch can.*replace them"):
        batches_of(damaged, [[61, 130]])
