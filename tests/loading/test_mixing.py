"""Mixed views are what mixing makes of both images' own views, whoever decodes them and wherever the partner is."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pld.errors import ConfigError, UndecodableImageError
from pld.images import open_source
from pld.join.mixing import plan_mixing
from pld.loading import ViewRequest, decode_views, loading, view_decoder
from pld.loading.mix_views import mix_within
from pld.views import CutMix, Mixing, Mixup, RandomResizedCrop
from pld.views.batch_mix import mix_views
from pld.views.mixing import BLENDED, OWN_IN_BOX, PARTNER_IN_BOX, UNMIXED
from pld.views.preprocessing import Preprocessing
from tests.loading.mixed import mixed, own_view
from tests.making import jpeg, make_dataset, shard_members, write_tar

POLICY = RandomResizedCrop(seed=3, steps=(Mixup(alpha=0.8), CutMix(alpha=1.0)))
OUTPUTS = [Preprocessing(input_size=(32, 32)), Preprocessing(input_size=(24, 40))]
WORKERS = pytest.mark.parametrize("workers", [{"threads": 1}, {"threads": 3}, {"processes": 2}])
DECODERS = pytest.mark.parametrize("gpu", [None, torch.device("cpu")], ids=["cpu", "nvjpeg"])


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two shards, one of an odd number of images."""
    return open_source(str(make_dataset(tmp_path_factory.mktemp("mixing") / "data", shard_sizes=(10, 7))))


def request_of(source, rows, view_indexes) -> ViewRequest:
    plan, rows = plan_mixing(source, POLICY), np.asarray(rows, dtype=np.int64)
    return ViewRequest(rows, view_indexes, mixing=Mixing.stack([plan.mixing(v, rows) for v in view_indexes]))


def twin(source, request, output):
    of_row = {}

    def view(row, index):
        if (row, index) not in of_row:
            of_row[row, index] = own_view(source, row, index, POLICY, output)
        return of_row[row, index]

    partners = {place: int(partner) for place, partner in np.ndenumerate(request.mixing.partners)}
    return torch.stack([
        torch.stack([
            mixed(view(row, index), view(partners[place, at], index), request.mixing[place, at, ...])
            for at, index in enumerate(request.view_indexes)
        ])
        for place, row in enumerate(request.rows.tolist())
    ])  # fmt: skip


def requests_of(source):
    """All rows; some whose partners are beside them; several views; a row that comes twice."""
    return [
        request_of(source, range(17), (0, 1, 5)),
        request_of(source, [16, 2, 9, 4], (2,)),
        request_of(source, [3, 11, 3, 15], (4, 7)),
        request_of(source, [12], range(9)),
    ]


@WORKERS
def test_each_view_is_a_mix_of_both_images_views(source, workers):
    requests = requests_of(source)
    kinds = np.concatenate([each.mixing.kinds.ravel() for each in requests])
    assert set(kinds.tolist()) == {BLENDED, PARTNER_IN_BOX, OWN_IN_BOX}
    with loading(view_decoder(source, POLICY, OUTPUTS), requests, **workers) as views:
        for each in views:
            assert all(each.good)
            for field in ("partners", "shares", "kinds", "boxes"):
                assert np.array_equal(getattr(each.mixing, field), getattr(each.request.mixing, field))
            for images, output in zip(each.images, OUTPUTS, strict=True):
                assert torch.equal(images, twin(source, each.request, output))


def test_each_image_is_decoded_once(source, monkeypatch):
    """Of all rows' three views nothing is read twice; of a few rows' their partners are read besides."""
    read, original = [], type(source).read
    monkeypatch.setattr(type(source), "read", lambda self, row: read.append(row) or original(self, row))
    for request in requests_of(source):
        read.clear()
        decode(view_decoder(source, POLICY, OUTPUTS), request)
        needed = {*request.rows.tolist(), *request.mixing.partners.ravel().tolist()}
        repeats = len(request.rows) - len(set(request.rows.tolist()))
        assert set(read) == needed
        assert len(read) == len(needed) + repeats


def decode(decoder, request):
    memory = torch.full((decoder.num_bytes(request),), 77, dtype=torch.uint8)
    return decoder.views(request, memory, decoder.fill(request, memory, lambda row: None))


def test_nvjpeg_mixes_its_own_views(source):
    """Mixed are its own views; without a GPU these are the CPU's up to the rounding of the resize."""
    gpu = view_decoder(source, POLICY, OUTPUTS, gpu=torch.device("cpu"))
    plain = view_decoder(source, RandomResizedCrop(seed=3), OUTPUTS, gpu=torch.device("cpu"))
    for request in requests_of(source):
        images, good, mixing = decode(gpu, request)
        assert all(good)
        assert np.array_equal(mixing.kinds, request.mixing.kinds)
        for number, found in enumerate(images):
            unmixed = decode_views(plain, range(len(source)), request.view_indexes)[number]
            for place, row in enumerate(request.rows.tolist()):
                for at in range(len(request.view_indexes)):
                    other = unmixed[int(request.mixing.partners[place, at]), at]
                    wanted = mixed(unmixed[row, at], other, request.mixing[place, at, ...])
                    assert torch.equal(found[place, at], wanted)


@DECODERS
@WORKERS
def test_what_stays_unmixed_is_what_it_is_without_mixing(source, gpu, workers):
    rows = np.array([4, 0, 11])
    alone = Mixing(
        partners=np.repeat(rows[:, None], 2, axis=1),
        shares=np.ones((3, 2)),
        kinds=np.full((3, 2), UNMIXED, np.int8),
        boxes=np.zeros((3, 2, 4)),
    )
    decoder = view_decoder(source, POLICY, OUTPUTS, gpu=gpu)
    with loading(decoder, [ViewRequest(rows, (0, 3), mixing=alone)], **workers) as views:
        (loaded,) = views
    wanted = decode_views(view_decoder(source, RandomResizedCrop(seed=3), OUTPUTS, gpu=gpu), rows.tolist(), (0, 3))
    assert all(torch.equal(found, each) for found, each in zip(loaded.images, wanted, strict=True))


def damaged(folder, *, cut: int, number: int = 4):
    members = shard_members(0, 9)
    name = f"train-{number:04d}.jpg"
    members[name] = members[name][:cut]
    return open_source(str(write_tar(folder / "train-0000.tar", members)))


@DECODERS
@WORKERS
@pytest.mark.parametrize("rows", [range(9), [0, 1, 2, 3, 5, 6, 7, 8]], ids=["within", "beside"])
def test_a_partner_that_cannot_be_decoded(tmp_path, rows, workers, gpu):
    """Skipped, what it would be mixed with stays unmixed and says so; else the error names the partner."""
    source = damaged(tmp_path, cut=200)
    request = request_of(source, rows, range(4))
    bad = request.rows == 4
    lonely = (request.mixing.partners == 4) & ~bad[:, None]
    assert lonely.any(axis=0).all()
    decoder = view_decoder(source, POLICY, OUTPUTS[:1], skip_bad_images=True, gpu=gpu)
    with loading(decoder, [request], **workers) as views:
        (loaded,) = views
    assert loaded.good == (~bad).tolist()
    gone = lonely | bad[:, None]
    assert (loaded.mixing.kinds[gone] == UNMIXED).all()
    assert (loaded.mixing.shares[gone] == 1).all()
    assert (loaded.mixing.partners == np.where(gone, request.rows[:, None], request.mixing.partners)).all()
    assert np.array_equal(loaded.mixing.kinds[~gone], request.mixing.kinds[~gone])
    good = np.flatnonzero(~bad)
    again = ViewRequest(request.rows[good], range(4), mixing=loaded.mixing[good])
    assert torch.equal(loaded.images[0][good], decode(view_decoder(source, POLICY, OUTPUTS[:1], gpu=gpu), again)[0][0])
    strict = view_decoder(source, POLICY, OUTPUTS[:1], gpu=gpu)
    with (
        pytest.raises(UndecodableImageError, match=r"sample train-0004: cannot be decoded.*--on_bad_image skip"),
        loading(strict, [request], **workers) as views,
    ):
        list(views)


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """The end gone, with a new end marker or without; bytes changed, a marker written into the scan, zeros."""
    at = int(rng.integers(620, len(data) - 100))
    return [
        data[:at],
        data[:at] + b"\xff\xd9",
        data[:at] + rng.bytes(5) + data[at + 5 :],
        data[:at] + bytes([0xFF, int(rng.integers(1, 256))]) + data[at + 2 :],
        data[:at] + bytes(80) + data[at + 80 :],
    ][rng.integers(5)]


def test_whether_an_image_is_bad_does_not_depend_on_the_view(tmp_path):
    """Else it would be mixed into others in some views and not in others, and a store could not say which."""
    rng, photo = np.random.default_rng(0), jpeg(4, (400, 300))
    members = {f"{i}.jpg": damage(photo, rng) for i in range(60)} | {f"{i}.cls": b"0" for i in range(60)}
    source = open_source(str(write_tar(tmp_path / "train-0000.tar", members)))
    decoder = view_decoder(source, RandomResizedCrop(scale=(0.05, 0.2)), OUTPUTS[:1], skip_bad_images=True)
    good = np.array([decode(decoder, ViewRequest(np.arange(60), (view,)))[1] for view in range(12)])
    assert (good == good[0]).all()
    assert 10 < good[0].sum() < 50


@DECODERS
def test_nothing_is_left_unmixed_in_silence(source, gpu):
    decoder = view_decoder(source, POLICY, OUTPUTS, gpu=gpu)
    with pytest.raises(ConfigError, match=r"has mixup, cutmix, and nothing says which .*plan_mixing"):
        decode_views(decoder, [0, 1], [0])
    plain = view_decoder(source, RandomResizedCrop(), OUTPUTS, gpu=gpu)
    with pytest.raises(ConfigError, match="mixes nothing"):
        decode_views(plain, [0, 1], [0], plan_mixing(source, POLICY))
    plan = plan_mixing(source, POLICY)
    assert torch.equal(decode_views(decoder, [6, 1], [2], plan)[0][1], decode_views(decoder, [1], [2], plan)[0][0])


def some_mixing(draw, num: int) -> Mixing:
    kinds = draw(st.lists(st.sampled_from([UNMIXED, BLENDED, PARTNER_IN_BOX, OWN_IN_BOX]), min_size=num, max_size=num))
    sides = st.floats(0, 1)
    corners = [sorted((draw(sides), draw(sides))) + sorted((draw(sides), draw(sides))) for _ in range(num)]
    return Mixing(
        partners=np.array([draw(st.integers(0, num - 1)) for _ in range(num)]),
        shares=np.array([draw(st.floats(0.5, 1)) for _ in range(num)]),
        kinds=np.array(kinds, np.int8),
        boxes=np.array(corners)[:, [0, 2, 1, 3]],
    )


@given(st.data(), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_in_place_is_as_from_copies(data, num, seed):
    """Whoever is mixed with whom, in rings, chains or all with one; by one batch and one by one."""
    mixing = some_mixing(data.draw, num)
    pixels = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (num, 1, 5, 7, 3), dtype=np.uint8))
    images = pixels.permute(0, 1, 4, 2, 3)
    before = images.clone()
    wanted = torch.stack([mixed(before[i, 0], before[p, 0], mixing[i, ...]) for i, p in enumerate(mixing.partners)])
    own, others = before[:, 0], before[mixing.partners, 0]
    assert torch.equal(mix_views(own, others, mixing), wanted)
    mixable = (mixing.kinds != UNMIXED)[:, None]
    mix_within(images, mixing.partners[:, None], mixable, mixing[:, None])
    assert torch.equal(images[:, 0], wanted)
