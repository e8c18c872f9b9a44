"""Who is mixed with whom where there is a store: what pld/store/FORMAT.md says of the store's keys and shards."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from pld.errors import DataError, StoreError
from pld.images import open_source
from pld.join.match import join_source, stored_policy
from pld.join.mixing import ask_policy, choose_partners, plan_mixing
from pld.signals import TopK
from pld.store import open_store
from pld.views import CutMix, Mixup, RandomResizedCrop
from tests.making import jpeg, write_tar
from tests.store.test_steps import MIXED
from tests.store.world import World
from tests.views.test_mixing_twin import slow_mixing

SKIPPED = {"n00003_é", "n00008_é", "n00011_é"}
STEPS = (("mixup", 0.8), ("cutmix", 1.0))
WORLD = World(policy=MIXED)
KEYS = [key.decode() for key in WORLD.keys.tolist()]


def write_store(root, world, skipped=SKIPPED):
    """A store of one view that had to skip some samples."""
    writer = world.open_writer(root)
    for part in writer.missing_parts(1):
        rows = world.rows(part.shard)
        keys = [key.decode() for key in world.keys[rows].tolist()]
        kept = np.array([key not in skipped for key in keys])
        labels, logits = world.labels[rows][kept], world.logits(part.shard, 0)[torch.from_numpy(kept)]
        signal = TopK.from_logits(logits, torch.from_numpy(labels), world.k, world.identity.codec.temperatures)
        left_out = [key for key in keys if key in skipped]
        writer.write_part(part, np.array(keys)[kept].tolist(), labels, [signal], skipped=left_out)
    writer.seal()
    return open_store(str(root))


def images(folder, rows, shard_size):
    """Tars of some of the world's samples, in this order."""
    labels = dict(zip(KEYS, WORLD.labels.tolist(), strict=True))
    for first in range(0, len(rows), shard_size):
        members = {}
        for row in rows[first : first + shard_size]:
            members |= {f"{KEYS[row]}.jpg": jpeg(row), f"{KEYS[row]}.cls": str(labels[KEYS[row]]).encode()}
        write_tar(folder / f"train-{first:04d}.tar", members)
    return open_source(str(folder))


def mixed_keys(plan, source, view):
    """{key: (the partner's key, share, kind, box)} of a source's rows."""
    found = plan.mixing(view, np.arange(len(source)))
    partners = [source.key(int(row)) for row in found.partners]
    rest = zip(partners, found.shares.tolist(), found.kinds.tolist(), map(tuple, found.boxes.tolist()), strict=True)
    return dict(zip(map(source.key, range(len(source))), rest, strict=True))


def wanted_of(pools, view):
    wanted = slow_mixing(pools, SKIPPED, STEPS, 7, view)
    return {key: value for key, value in wanted.items() if key not in SKIPPED}


@pytest.mark.parametrize("partners", ["shard", "dataset"])
@pytest.mark.parametrize("order", ["as cached", "resharded"])
def test_the_pools_are_those_of_the_stores_shards_with_what_it_skipped(tmp_path, partners, order):
    store = write_store(tmp_path / "store", dataclasses.replace(WORLD, policy=MIXED | {"partners": partners}))
    rows = list(range(17)) if order == "as cached" else np.random.default_rng(0).permutation(17).tolist()
    source = join_source(store, images(tmp_path / "data", rows, 4))
    pools = [KEYS] if partners == "dataset" else [KEYS[WORLD.rows(shard.name)] for shard in WORLD.shards]
    plan = plan_mixing(source, stored_policy(store), [store])
    for view in range(4):
        assert mixed_keys(plan, source, view) == wanted_of(pools, view)


def test_whole_shards_are_enough_and_a_part_of_one_is_not(tmp_path):
    store = write_store(tmp_path / "store", WORLD)
    source = join_source(store, images(tmp_path / "two", list(range(14)), 5))
    pools = [KEYS[:5], KEYS[5:14]]
    plan = plan_mixing(source, stored_policy(store), [store])
    assert mixed_keys(plan, source, 0) == wanted_of(pools, 0)
    source = join_source(store, images(tmp_path / "part", list(range(13)), 5))
    with pytest.raises(DataError, match=r"lacks 1 images that its own are mixed with in .*, the first: n00013_é; give"):
        plan_mixing(source, stored_policy(store), [store])


def test_stores_that_mix_others_are_not_read_together(tmp_path):
    ours, again = (write_store(tmp_path / name, WORLD) for name in ("a", "c"))
    resharded = write_store(tmp_path / "b", dataclasses.replace(WORLD, sizes=(9, 5, 3)))
    skipped_none = write_store(tmp_path / "d", WORLD, ())
    source = join_source(ours, images(tmp_path / "data", list(range(17)), 5))
    plan_mixing(source, stored_policy(ours), [ours, again])
    for theirs, why in ((resharded, "its shards are others"), (skipped_none, "3 were skipped in one of them alone")):
        for stores in ([ours, theirs], [theirs, ours]):
            with pytest.raises(StoreError, match=rf"mixes other images with each other than .*: {why}"):
                plan_mixing(source, stored_policy(ours), stores)


def test_without_a_store_the_sources_shards_are_the_pools(tmp_path):
    source = images(tmp_path / "data", list(range(17)), 5)
    policy = RandomResizedCrop(seed=7, steps=(Mixup(alpha=0.8), CutMix(alpha=1.0)))
    names = [source.key(row) for row in range(17)]
    found = mixed_keys(plan_mixing(source, policy), source, 3)
    assert found == slow_mixing([names[i : i + 5] for i in range(0, 17, 5)], (), STEPS, 7, 3)
    whole = dataclasses.replace(policy, partners="dataset")
    assert mixed_keys(plan_mixing(source, whole), source, 3) == slow_mixing([names], (), STEPS, 7, 3)
    assert plan_mixing(source, RandomResizedCrop(seed=7)) is None


def test_one_image_cannot_be_mixed(tmp_path):
    with pytest.raises(DataError, match="mixing wants two images or more, found 1; leave mixing out"):
        plan_mixing(images(tmp_path / "data", [0], 5), RandomResizedCrop(steps=(Mixup(),)))


def test_shards_of_one_class_each_are_mixed_across_the_dataset(tmp_path):
    """Within a shard each image would be mixed with its like."""
    policy = RandomResizedCrop(steps=(Mixup(),))
    by_class = {f"n{row:02d}.{end}": data for row in range(12) for end, data in
                (("jpg", jpeg(row)), ("cls", str(row // 4).encode()))}  # fmt: skip
    names = list(by_class)
    for shard in range(3):
        sorted_names, dealt = names[8 * shard : 8 * shard + 8], [n for n in names if int(n[1:3]) % 3 == shard]
        write_tar(tmp_path / "sorted" / f"train-{shard:04d}.tar", {name: by_class[name] for name in sorted_names})
        write_tar(tmp_path / "dealt" / f"train-{shard:04d}.tar", {name: by_class[name] for name in dealt})
    assert choose_partners(policy, open_source(str(tmp_path / "sorted"))).partners == "dataset"
    assert choose_partners(policy, open_source(str(tmp_path / "dealt"))).partners == "shard"
    unmixed = RandomResizedCrop()
    assert choose_partners(unmixed, open_source(str(tmp_path / "sorted"))) == unmixed


@pytest.mark.parametrize("shard_size", [1, 2, 3])
def test_tiny_shards_mix_across_the_dataset(tmp_path, shard_size):
    """An image alone in its shard has no partner there, and two always have each other."""
    source = images(tmp_path, range(len(KEYS)), shard_size)
    policy = choose_partners(RandomResizedCrop(steps=(Mixup(),)), source)
    assert policy.partners == "dataset"
    assert (plan_mixing(source, policy).partners(0) != np.arange(len(source))).all()


def test_text_that_states_partners_is_followed(tmp_path):
    source = images(tmp_path, range(len(KEYS)), 1)
    for partners in ("shard", "dataset"):
        text = json.dumps({"name": "fixed", "steps": [{"name": "mixup", "alpha": 0.8}], "partners": partners})
        assert ask_policy(text, source.policy, source).partners == partners
    assert ask_policy("mixup-0.8", source.policy, source).partners == "dataset"
