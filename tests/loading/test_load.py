"""Views come in order, the same from threads and processes, through memory that is reused; what goes wrong is named."""

import gc
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pld.errors import UndecodableImageError
from pld.images import open_source
from pld.loading import ViewRequest, decode_views, in_flight, loading, view_decoder
from pld.loading.load import LoadedViews
from pld.loading.view_decoder import CpuViewDecoder
from pld.views.preprocessing import Preprocessing
from tests.making import jpeg, make_dataset, write_tar
from tests.processes import ROOT

OUTPUTS = [Preprocessing(input_size=(32, 32)), Preprocessing(input_size=(24, 40))]
BOTH = pytest.mark.parametrize("workers", [{"threads": 1}, {"threads": 2}, {"processes": 2}])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("loading") / "data", shard_sizes=(40, 31))


@pytest.fixture
def decoder(data):
    source = open_source(str(data))
    return view_decoder(source, source.policy, OUTPUTS)


def damaged(folder: Path, *, skip: bool):
    """Rows 2 and 5 of nine cannot be decoded."""
    members = {f"{i}.cls": b"1" for i in range(9)}
    members |= {f"{i}.jpg": jpeg(i)[:200] if i in (2, 5) else jpeg(i) for i in range(9)}
    source = open_source(str(write_tar(folder / "train-0000.tar", members)))
    return view_decoder(source, source.policy, OUTPUTS[:1], skip_bad_images=skip)


def request(rows, view_indexes=(0,)) -> ViewRequest:
    return ViewRequest(np.asarray(rows), tuple(view_indexes))


def random_requests(num: int) -> list[ViewRequest]:
    rng = np.random.default_rng(0)
    return [request(rng.integers(0, 71, 8 if view + 1 < num else 3), (view,)) for view in range(num)]


def load(decoder, requests, **workers) -> list[LoadedViews]:
    with loading(decoder, requests, **workers) as views:
        return list(views)


def shared_mappings() -> int:
    gc.collect()
    return Path("/proc/self/maps").read_text().count("/memfd:pld-views")


@BOTH
def test_each_row_is_what_it_is_alone(decoder, workers):
    """Requests of several views, one that is smaller, one with more views of fewer rows, one that needs more memory."""
    requests = [request(range(24), range(3)), request(range(24, 41), range(3, 5)), request([70], range(50))]
    requests.append(request(range(60), range(2)))
    loaded = load(decoder, requests, **workers)
    assert [each.request for each in loaded] == requests
    for each in loaded:
        assert all(each.good)
        for place, row in enumerate(each.request.rows.tolist()):
            for images, alone in zip(each.images, decode_views(decoder, [row], each.request.view_indexes), strict=True):
                assert images.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
                assert torch.equal(images[place], alone[0])


@BOTH
def test_a_request_is_drawn_when_earlier_ones_are_given(decoder, workers):
    """What remote shards are held by."""
    given, ahead = 0, in_flight(workers.get("processes", 0))

    def requests():
        for number in range(20):
            assert number - given <= ahead, "these are decoded and not given yet"
            yield request([number], range(2))

    with loading(decoder, requests(), **workers) as views:
        for given, each in enumerate(views, start=1):
            assert each.request.rows.tolist() == [given - 1]
    assert given == 20


@BOTH
def test_bad_images_are_not_good(tmp_path, workers):
    (loaded,) = load(damaged(tmp_path, skip=True), [request(range(9), range(2))], **workers)
    assert [row for row in range(9) if not loaded.good[row]] == [2, 5]


@BOTH
def test_the_first_bad_image_is_an_error_and_nothing_stays(tmp_path, workers):
    before, bad = shared_mappings(), damaged(tmp_path, skip=False)
    with pytest.raises(UndecodableImageError, match="sample 2: cannot be decoded") as caught:
        load(bad, [request(range(9), range(2))], **workers)
    assert multiprocessing.active_children() == []
    del caught
    assert shared_mappings() == before


def test_nothing_stays_of_what_was_not_drawn(decoder):
    before = shared_mappings()
    with loading(decoder, random_requests(40), processes=2) as views:
        next(views)
        assert len(multiprocessing.active_children()) == 2
        assert shared_mappings() > before
    assert multiprocessing.active_children() == []
    del views
    assert shared_mappings() == before


class Stuck(CpuViewDecoder):
    """As if row 1 waited for a lock that a killed process held."""

    def fill(self, request, *rest, **named):
        while 1 in request.rows:
            time.sleep(1)
        return super().fill(request, *rest, **named)


def test_a_stuck_worker_ends_with_its_loader(decoder):
    """PyTorch waits some seconds and then sends SIGTERM, which workers defer only while their loader is open."""
    stuck = Stuck(dataset=decoder.dataset, policy=decoder.policy, outputs=decoder.outputs)
    with loading(stuck, [request([row]) for row in range(20)], processes=2) as views:
        next(views)
    for process in multiprocessing.active_children():
        process.join(5)
    assert multiprocessing.active_children() == []


def test_other_errors_are_not_taken_for_a_dead_process(decoder):
    with pytest.raises(RuntimeError, match="out of memory"), loading(decoder, [], processes=1):
        raise RuntimeError("CUDA out of memory")


@pytest.mark.parametrize("held", [1, 4])
def test_blocks_are_reused_and_never_too_early(decoder, held):
    """A caller that keeps `held` results: all stay what they were, in few places."""
    wanted = load(decoder, random_requests(40))
    kept, places = [], set()
    with loading(decoder, random_requests(40), processes=2, held=held) as views:
        for number, each in enumerate(views):
            kept = [*kept, (number, each)][-held:]
            places |= {images.untyped_storage().data_ptr() for images in each.images}
            for earlier, loaded in kept:
                for mine, twin in zip(loaded.images, wanted[earlier].images, strict=True):
                    assert torch.equal(mine, twin)
    assert number == 39
    assert len(places) <= 2 * 2 + 2 * held


@pytest.mark.parametrize("workers", [{}, {"processes": 1}])
def test_a_view_of_an_image_keeps_its_block(decoder, workers):
    requests = random_requests(30)
    with loading(decoder, requests, **workers) as views:
        corners = [each.images[1][0, 0, :, :2, :2] for each in views]
    alone = [decode_views(decoder, each.rows[:1].tolist(), each.view_indexes)[1][0, 0] for each in requests]
    assert all(torch.equal(corner, image[:, :2, :2]) for corner, image in zip(corners, alone, strict=True))


@BOTH
def test_no_requests_no_views(decoder, workers):
    assert load(decoder, [], **workers) == []


def test_a_worker_that_is_not_forked_sees_the_same_memory(decoder):
    requests = [request(range(8), (view,)) for view in range(6)]
    loaded = load(decoder, requests, processes=1, context="spawn")
    for mine, twin in zip(loaded, load(decoder, requests), strict=True):
        assert all(map(torch.equal, mine.images, twin.images))


SMALL_SHM = """
import numpy as np
from pld.images import open_source
from pld.loading import ViewRequest, loading, view_decoder
from pld.views.preprocessing import Preprocessing

source = open_source({data!r})
decoder = view_decoder(source, source.policy, [Preprocessing(input_size=(224, 224))])
requests = [ViewRequest(np.arange(2), (0,)), ViewRequest(np.arange(50), (0,))]  # the first sizes the memory
with loading(decoder, requests, processes=1) as views:
    assert [len(each.good) for each in views] == [2, 50]
"""


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="/dev/shm is mounted small, as only root may")
def test_requests_larger_than_the_first_need_no_shm(data):
    """7.5 MB in a /dev/shm of 1 MB; through it, the tensor would be lost and the loader wait for ever."""
    mount = 'mount -t tmpfs -o size=1M tmpfs /dev/shm && exec "$@"'
    argv = ["unshare", "-m", "sh", "-c", mount, "sh", sys.executable, "-c", SMALL_SHM.format(data=str(data))]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


LEFT_OPEN = """
import numpy as np
from pld.images import open_source
from pld.loading import ViewRequest, loading, view_decoder
from pld.views.preprocessing import Preprocessing

source = open_source({data!r})
decoder = view_decoder(source, source.policy, [Preprocessing(input_size=(32, 32))])
context = loading(decoder, (ViewRequest(np.arange(8), (0,)) for _ in range(100)), processes=2)
next(context.__enter__())
"""


def test_an_interpreter_ends_though_a_loader_is_open(data):
    """Multiprocessing ends workers with SIGTERM, which they leave alone, and then waits for them."""
    script = LEFT_OPEN.format(data=str(data))
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
