"""The same pixels in both stages: for every step and for all together, whoever decodes, from whatever files."""

import numpy as np
import pytest
import torch

from cache_teacher.pieces import split_part
from pld.images import open_source
from pld.images.shards.write import write_shards
from pld.join.match import join_source
from pld.join.mixing import plan_mixing
from pld.loading import ViewRequest, loading, view_decoder
from pld.store import open_store
from pld.views import Mixing
from pld.views.policy_text import parse_policy
from pld.views.preprocessing import Preprocessing
from tests.loading.mixed import planned_view
from tests.making import jpeg, make_store, make_teacher

ALL = "rand-m9-n2-mstd0.5-inc1,jitter-0.4-0.4-0.4-0.1,three,erase-0.25,mixup-0.8,cutmix-1.0"
# A step more is a line more.
POLICIES = [
    "rrc",
    "rrc,flip",
    "fixed-0.9",
    "rand-m9-n2-mstd0.5-inc1",
    "jitter-0.4",
    "jitter-0.4-0.4-0.4-0.1",
    "three",
    "erase-0.5",
    "erase-0.5-const",
    "mixup-0.8",
    "cutmix-1.0",
    ALL,
]
OUTPUTS = [Preprocessing(input_size=(32, 32)), Preprocessing(input_size=(24, 20), interpolation="bilinear")]
NUM_IMAGES, VIEWS = 40, range(5)
GPUS = {"cpu": None, "nvjpeg": torch.device("cpu")}  # a CPU stands in for the GPU: torchvision knows both
WORKERS = [(0, None), (1, "fork"), (3, "fork"), (1, "spawn"), (3, "spawn")]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder of images, the same in other shards, and a store of the folder's, which says what is mixed with what."""
    folder = tmp_path_factory.mktemp("same")
    for number in range(NUM_IMAGES):
        path = folder / "data" / f"class-{number % 4}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number, (36 + number % 7, 40 + number % 11)))
    write_shards(open_source(str(folder / "data")), folder / "tars", "train", 9, lambda num: None)
    make_teacher(folder / "teacher", num_classes=4)
    make_store(folder, views=1, k=2)
    return folder


def source_of(world, kind):
    return open_source(str(world / kind))


def pixels_of(decoder, source, requests, **workers) -> dict[tuple[str, int], list[np.ndarray]]:
    """Of each key and view, for each output."""
    found = {}
    with loading(decoder, requests, **workers) as views:
        for each in views:
            assert all(each.good)
            for place, row in enumerate(each.request.rows.tolist()):
                for number, view in enumerate(each.request.view_indexes):
                    images = [output[place, number].cpu().numpy().copy() for output in each.images]
                    found[source.key(row), view] = images
    return found


def stage_one(world, policy, gpu, **workers):
    """As cache-teacher walks the folder: shard by shard, all views of an image at once where nothing is mixed."""
    source = source_of(world, "data")
    plan, ends = plan_mixing(source, policy), np.cumsum(source.shard_sizes)
    pieces = [
        piece
        for end, size in zip(ends.tolist(), source.shard_sizes, strict=True)
        for piece in split_part(np.arange(end - size, end), VIEWS, batch_size=20, piece_size=10, plan=plan)
    ]
    return pixels_of(view_decoder(source, policy, OUTPUTS, gpu=gpu), source, pieces, **workers)


def stage_two(world, kind, policy, gpu, **workers):
    """As train-student does: random images, of one view or two, paired as the store says."""
    store = open_store(str(world / "store"))
    source = join_source(store, source_of(world, kind))
    plan, rng = plan_mixing(source, policy, [store]), np.random.default_rng(0)
    requests = []
    for views in ((0,), (1,), (2,), (3, 4)):
        for rows in np.split(rng.permutation(NUM_IMAGES), 5):
            mixing = Mixing.stack([plan.mixing(view, rows) for view in views]) if plan else None
            requests.append(ViewRequest(rows, views, mixing=mixing))
    return pixels_of(view_decoder(source, policy, OUTPUTS, gpu=gpu), source, requests, **workers)


def policy_of(world, text):
    return parse_policy(text, source_of(world, "data").policy)


def assert_same(found, wanted):
    assert len(found) == len(wanted) == 200
    for pair, images in wanted.items():
        assert all(np.array_equal(*both) for both in zip(found[pair], images, strict=True)), pair


@pytest.mark.parametrize("decoder", GPUS)
@pytest.mark.parametrize("text", POLICIES)
def test_every_step(world, text, decoder):
    """Without worker processes; by the CPU's decoder also what the steps give one after another."""
    policy, gpu = policy_of(world, text), GPUS[decoder]
    wanted = stage_one(world, policy, gpu)
    assert_same(stage_two(world, "tars", policy, gpu), wanted)
    if decoder == "cpu":
        source = source_of(world, "data")
        for row, view in ((0, 0), (17, 3), (39, 4)):
            alone = [planned_view(source, row, view, policy, plan_mixing(source, policy), size) for size in OUTPUTS]
            found = wanted[source.key(row), view]
            assert all(np.array_equal(*both) for both in zip(found, alone, strict=True))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # three workers on two cores
@pytest.mark.parametrize("decoder", GPUS)
def test_all_steps_in_processes(world, decoder):
    policy, gpu = policy_of(world, ALL), GPUS[decoder]
    wanted = stage_one(world, policy, gpu, processes=1)
    assert_same(stage_two(world, "tars", policy, gpu, processes=3, context="fork"), wanted)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("decoder", GPUS)
@pytest.mark.parametrize("text", POLICIES)
def test_whoever_decodes(world, text, decoder):
    """Both stages, from the folder and from the tars: every step in forked workers, all in spawned ones."""
    policy, gpu = policy_of(world, text), GPUS[decoder]
    wanted = stage_one(world, policy, gpu)
    assert_same(stage_one(world, policy, gpu, processes=3), wanted)
    for processes, context in WORKERS:
        if context != "spawn" or text == ALL:
            for kind in ("data", "tars"):
                assert_same(stage_two(world, kind, policy, gpu, processes=processes, context=context), wanted)
