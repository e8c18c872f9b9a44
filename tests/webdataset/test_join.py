"""A plain WebDataset pipeline joined with a store has the teacher's pixels and logits, and refuses what is not its."""

import numpy as np
import pytest
import torch
import webdataset
from PIL import Image

from pld.errors import ConfigError, DataError, DifferentPixelsError, NotCachedError, UndecodableImageError
from pld.images import open_source
from pld.join.match import join_source, stored_policy
from pld.loading import decode_views, view_decoder
from pld.losses import pld_loss
from pld.store import open_store
from pld.views import apply_view
from pld.views.preprocessing import Preprocessing
from pld.webdataset import collate, join
from tests.making import encoded, jpeg, make_dataset, make_store, make_teacher, reencoded, shard_members, write_tar

# webdataset leaves shards to be closed by the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("webdataset")
    make_dataset(folder / "data", shard_sizes=(9, 7))
    make_teacher(folder / "teacher")
    make_store(folder, views=2, k=5, policy="rrc,flip,erase-0.5")
    make_store(folder, "mixed", views=1, k=5, policy="mixup-0.8")
    return folder


@pytest.fixture
def store(world):
    return open_store(world / "store")


def pipeline(urls, step):
    return webdataset.WebDataset(urls, shardshuffle=False).compose(step)


@pytest.mark.parametrize("workers", [0, 1])
def test_pixels_and_logits_are_those_of_the_store(world, store, workers):
    source = join_source(store, open_source(str(world / "data")))
    decoder = view_decoder(source, stored_policy(store), [Preprocessing(input_size=(24, 20))])
    rows = {key.decode(): row for row, key in enumerate(source.keys)}
    step = join(store, (24, 20))
    urls = [str(world / "data" / f"train-000{i}.tar") for i in range(2)]
    dataset = pipeline(urls[:1] if workers else urls, step)
    loader = webdataset.WebLoader(
        dataset, batch_size=4, num_workers=workers, collate_fn=collate, persistent_workers=workers > 0
    )
    for epoch in (0, 1, 2):
        step.set_epoch(epoch)
        keys = []
        for batch in loader:
            places = [rows[key] for key in batch["__key__"]]
            (wanted,) = decode_views(decoder, places, [epoch % 2])
            assert torch.equal(batch["pixels"], wanted[:, 0])
            topk = store.load_view(epoch % 2)[store.rows(source.keys[places])]
            assert torch.equal(batch["topk"].classes, topk.classes)
            assert torch.equal(batch["topk"].logprobs, topk.logprobs)
            assert batch["topk"].temperatures == topk.temperatures
            student = torch.zeros(len(places), 12)
            assert torch.equal(
                pld_loss(student, batch["topk"], batch["topk"].labels), pld_loss(student, topk, topk.labels)
            )
            keys += batch["__key__"]
        assert len(set(keys)) == len(keys) == (9 if workers else 16)


def test_without_a_size_the_view_is_yours_to_cut(world, store):
    sample = next(iter(pipeline(str(world / "data" / "train-0000.tar"), join(store))))
    assert "pixels" not in sample
    assert sample["topk"].classes.shape == (1, 5)
    whole = torch.from_numpy(np.array(webdataset.autodecode.ImageHandler("rgb8")("jpg", sample["jpg"]))).permute(
        2, 0, 1
    )
    joined = next(join(store, 16)([sample]))
    assert torch.equal(apply_view(whole, sample["view"], 16), joined["pixels"])
    assert "pixels" not in collate([sample])


IMAGES = shard_members(0, 16)


def sample(key, data=None, **members):
    image = data or IMAGES.get(f"{key.rpartition('/')[2]}.jpg", b"")
    return {"__key__": key, "__url__": "there.tar", "jpg": image, **members}


def test_keys_match_as_the_format_says(store):
    given = [sample("train-0003"), sample("folder/train-0004"), sample("train/train-0005")]
    found = [each["__key__"] for each in join(store)(given)]
    assert found == [each["__key__"] for each in given]
    step = join(store)
    with pytest.raises(DataError, match="'a/train-0003' and 'b/train-0003' both match the store's sample 'train-0003'"):
        list(step([sample("a/train-0003"), sample("b/train-0003")]))
    with pytest.raises(
        NotCachedError, match=r"there.tar: sample other: is not in .*store, whose keys are such as 'train-0"
    ):
        list(join(store)([sample("other")]))
    assert [each["__key__"] for each in join(store, missing="skip")([sample("other"), sample("train-0001")])] == [
        "train-0001"
    ]


def test_a_sample_that_the_store_had_to_skip_is_left_out(world, tmp_path):
    members = {f"s{i}.{ext}": data for i in range(3) for ext, data in (("jpg", jpeg(i)), ("cls", b"11"))}
    members["s1.jpg"] = b"no image"
    write_tar(tmp_path / "data" / "train-0000.tar", members)
    (tmp_path / "teacher").symlink_to(world / "teacher")
    store = open_store(make_store(tmp_path, views=1, k=5, on_bad_image="skip"))
    found = pipeline(str(tmp_path / "data" / "train-0000.tar"), join(store, 16))
    assert [each["__key__"] for each in found] == ["s0", "s2"]


def test_what_does_not_fit_is_refused(world, store):
    def first(*given, **settings):
        return next(join(store, 16, **settings)(given))

    assert first(sample("train-0003", cls=b"3"))["pixels"].shape == (3, 16, 16)
    png = encoded(Image.new("RGB", (30, 40)), "PNG")
    assert first({"__key__": "train-0003", "png": png})["pixels"].shape == (3, 16, 16)
    with pytest.raises(DataError, match=r"there.tar: sample train-0003: its label is 4, .*store has 3"):
        first(sample("train-0003", cls=b"4"))
    with pytest.raises(DataError, match="has 2 images among jpg, png; wanted one"):
        first(sample("train-0003", png=b""))
    with pytest.raises(DataError, match="jpg is a ndarray, wanted the file's bytes; put join in front of decode"):
        first({**sample("train-0003"), "jpg": np.zeros((2, 2))})
    with pytest.raises(UndecodableImageError, match=r"there.tar: sample train-0003: cannot be decoded"):
        first(sample("train-0003", b"no image"))
    with pytest.raises(ConfigError, match="mixed: its views are mixed"):
        join(open_store(world / "mixed"))


def test_images_are_compared_with_what_the_teacher_saw(store, caplog):
    """Those of which the store keeps a view's pixels, whichever view is shown; a small difference is told once."""
    keys = [probe.key for probe in store.probes]
    step = join(store)
    step.set_epoch(1)
    for _ in range(2):
        assert len(list(step(map(sample, keys)))) == len(keys) == 4
    assert not caplog.records
    step = join(store)
    for _ in range(2):
        assert len(list(step(sample(key, reencoded(IMAGES[f"{key}.jpg"])) for key in keys))) == 4
    (record,) = caplog.records
    assert "a little differently than the teacher's: by at most" in record.getMessage()
    with pytest.raises(DifferentPixelsError, match=f"the image of sample {keys[2]} was .* is now 30 x 31"):
        list(join(store)([sample(keys[2], jpeg(5, (30, 31)))]))
    with pytest.raises(DifferentPixelsError, match=f"view 0 of sample {keys[1]} is not what the teacher saw"):
        list(join(store)([sample(keys[1], jpeg(99, store.probes[1].image_size))]))
