"""Batches of mixed images, and of several views of an image."""

import dataclasses

import numpy as np
import pytest
import torch

from pld.images import open_source
from pld.join.mixing import plan_mixing
from pld.loading import view_decoder
from pld.loading.decode import decode_views
from pld.signals import MixedLabels
from pld.views.policy_text import parse_policy
from pld.views.preprocessing import Preprocessing
from tests.train_student.broken import BAD_ROWS, by_hand
from train_student.data.batches import epoch_items, load_batches, rows_read

OUTPUTS = [Preprocessing(input_size=(32, 32)), Preprocessing(input_size=(24, 40))]


def batches_of(source, policy, views, *, workers=0, as_cached=True, num=4):
    plan = plan_mixing(source, policy)
    decoder = view_decoder(source, policy, OUTPUTS, skip_bad_images=True)
    size = 16 * len(views)
    items = list(epoch_items(source, seed=0, epoch=0, view_indexes=views, batch_size=size, streams=4, rank=0, world=1,
                             plan=plan))[:num]  # fmt: skip
    with load_batches(source, decoder, items, workers=workers, as_cached=as_cached) as batches:
        return decoder, plan, items, list(batches)


def mixing_policy(source):
    return parse_policy("mixup-0.8,cutmix-1.0", source.policy)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("steps", ["light", "mixup-0.8,cutmix-1.0"])
def test_views_lie_image_by_image_with_their_labels(world, workers, steps):
    source = open_source(str(world / "data"))
    policy = parse_policy(steps, source.policy)
    views = (3, 0, 5)
    decoder, plan, items, batches = batches_of(source, policy, views, workers=workers, num=2)
    for item, batch in zip(items, batches, strict=True):
        assert batch.request.rows is item.rows
        for output, images in enumerate(batch.images):
            for place in (0, 1, 7, 15):
                (own,) = decode_views(
                    dataclasses.replace(decoder, outputs=(OUTPUTS[output],)), [int(item.rows[place])], views, plan
                )
                assert torch.equal(images[3 * place : 3 * place + 3], own[0])
        labels = [int(source.labels[row]) for row in item.rows for _ in views]
        if plan is None:
            assert batch.labels.tolist() == labels
            assert rows_read(item) is item.rows
            continue
        mixing = [plan.mixing(view, item.rows) for view in views]
        assert isinstance(batch.labels, MixedLabels)
        assert batch.labels.labels.tolist() == labels
        others = [int(source.labels[mixing[v].partners[place]]) for place in range(16) for v in range(3)]
        assert batch.labels.others.tolist() == others
        share = [np.float32(mixing[v].shares[place]) for place in range(16) for v in range(3)]
        assert batch.labels.share.numpy().tolist() == share
        assert {*rows_read(item).tolist()} == {*item.rows.tolist()} | {
            int(row) for each in mixing for row in each.partners
        }


@pytest.mark.parametrize("workers", [0, 2])
def test_what_was_mixed_with_a_broken_image_is_replaced_where_the_teacher_saw_it(world, damaged, workers):
    """Pixels, labels and shares are those of the stand-ins."""
    policy, views = mixing_policy(damaged), (1, 2)
    whole = open_source(str(world / "data"))
    decoder, plan, items, batches = batches_of(damaged, policy, views, workers=workers, num=16)
    partners = [plan.partners(view) for view in views]
    bad = {row for row in range(len(damaged)) if {row, *(int(each[row]) for each in partners)} & {*BAD_ROWS}}
    assert len(bad) > len(BAD_ROWS)
    for item, batch in zip(items, batches, strict=True):
        rows = item.rows.tolist()
        assert batch.request.rows.tolist() == by_hand(rows, bad)
        assert batch.bad_rows == tuple(row for row in rows if row in bad)
        stand_ins = batch.request.rows
        assert batch.labels.labels.tolist() == np.repeat(whole.labels[stand_ins], 2).tolist()
        for number, view in enumerate(views):
            mixing = plan.mixing(view, stand_ins)
            assert batch.labels.others[number::2].tolist() == whole.labels[mixing.partners].tolist()
            assert np.array_equal(batch.labels.share[number::2].numpy(), mixing.shares.astype(np.float32))
        if batch.bad_rows:
            (pixels, _) = decode_views(dataclasses.replace(decoder, dataset=whole), stand_ins.tolist(), views, plan)
            assert torch.equal(batch.images[0], pixels.flatten(0, 1))


def test_without_a_store_it_is_trained_unmixed(damaged):
    policy = mixing_policy(damaged)
    _, plan, items, batches = batches_of(damaged, policy, (1,), as_cached=False, num=16)
    partners, num_unmixed = plan.partners(1), 0
    for item, batch in zip(items, batches, strict=True):
        assert batch.request.rows.tolist() == by_hand(item.rows.tolist(), {*BAD_ROWS})
        is_bad = np.isin(partners[batch.request.rows], BAD_ROWS)
        assert (batch.labels.share.numpy()[is_bad] == 1).all()
        num_unmixed += int(is_bad.sum())
    assert num_unmixed >= len(BAD_ROWS) - 1


def test_images_without_labels_have_none_when_mixed(world):
    source = open_source(str(world / "data"), unlabelled=True)
    _, _, _, batches = batches_of(source, mixing_policy(source), (0, 1), num=1)
    assert batches[0].labels is None
    assert batches[0].request.mixing is not None
