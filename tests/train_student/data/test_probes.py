"""Pixel probes: another decoder is told from another crop, by students, by the cache and by verify."""

import contextlib
import dataclasses
import io
import re
import shutil
import tarfile

import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image

from pld.cli.main import _main
from pld.config import run
from pld.errors import CorruptStoreError, DifferentPixelsError
from pld.images import open_source
from pld.images.dataset import read_image
from pld.join.match import stored_policy
from pld.join.pixel_probes import compare_probes, make_probes
from pld.store import Probe, open_store
from pld.store.documents.probes import write_probes
from pld.store.format.canonical import dump_document, load_document
from pld.store.maintain.convert import convert_store
from pld.store.objects.local_storage import LocalStorage
from pld.views import Fixed, RandomResizedCrop, apply_view, draw_view
from tests.making import encoded, jpeg, make_store, shard_members, student_settings, write_tar
from train_student.config import TrainConfig
from train_student.run.train import train


@pytest.fixture
def store(world):
    return open_store(str(world / "top5"))


@pytest.fixture
def source(world):
    return open_source(str(world / "data"))


@pytest.fixture
def other_decoder(monkeypatch):
    """libjpeg-turbo's fast, less exact transform: what another build or library may do."""

    def decode(data, size, box):
        whole = simplejpeg.decode_jpeg(data, fastdct=True, fastupsample=True)
        top, left, height, width = box
        return torch.from_numpy(whole[top : top + height, left : left + width]).permute(2, 0, 1)

    monkeypatch.setattr("pld.images.dataset.decode_image", decode)


@pytest.fixture
def other_images(world, tmp_path):
    """A dataset with the same keys and labels whose images are others."""
    shutil.copytree(world / "data", tmp_path / "data")
    for path in sorted((world / "data").glob("train-*.tar")):
        first = int(path.stem[-1]) and sum((60, 45, 70, 52, 33)[: int(path.stem[-1])])
        members = shard_members(first, (60, 45, 70, 52, 33)[int(path.stem[-1])])
        changed = {n: jpeg(9999, (39, 41)) if n.endswith("jpg") else data for n, data in members.items()}
        write_tar(tmp_path / "data" / path.name, changed)
    return tmp_path / "data"


def test_the_same_machine_sees_the_same_pixels(store, source):
    assert [probe.view for probe in store.probes] == [0] * 4
    assert len({probe.key for probe in store.probes}) == 4
    assert store.probes[0].pixels.shape == (3, 32, 32)
    rows = [source.keys.tolist().index(probe.key.encode()) for probe in store.probes]
    assert [probe.image_size for probe in store.probes] == [tuple(read_image(source, row).shape[1:]) for row in rows]
    assert compare_probes(store.probes, source, stored_policy(store), "s") is None


def test_another_decoder_warns_with_the_difference(store, source, other_decoder):
    warning = compare_probes(store.probes, source, stored_policy(store), "s")
    assert "decodes or resizes images a little differently" in warning
    assert 0 < float(warning.split(": by at most ")[1].split(" of 255")[0]) < 9


@pytest.mark.parametrize(
    "policy", [RandomResizedCrop(seed=1), RandomResizedCrop(flip=False, scale=(0.3, 1.0)), Fixed()]
)
def test_another_crop_is_refused(store, source, policy):
    with pytest.raises(DifferentPixelsError, match="is not what the teacher saw: it differs by"):
        compare_probes(store.probes, source, policy, "s")


def test_a_student_warns_or_refuses_before_it_trains(world, tmp_path, other_images, other_decoder, console):
    settings = student_settings(world, tmp_path / "run", epochs=1, store=str(world / "top5"), approximate_teacher=True)
    train(TrainConfig.from_flat(**settings))
    assert "warning: " in (told := console.readouterr().err)
    assert "a little differently than the teacher's" in told
    with pytest.raises(DifferentPixelsError):
        train(TrainConfig.from_flat(**settings | {"data": str(other_images), "output": str(tmp_path / "no")}))
    assert not (tmp_path / "no").exists()


def test_caching_goes_on_with_the_same_pixels_or_not_at_all(world, tmp_path, other_images, console):
    shutil.copytree(world / "top5", tmp_path / "s")
    wanted = {"name": str(tmp_path / "s"), "views": 4, "k": 5}
    with pytest.raises(DifferentPixelsError):
        make_store(world, **wanted, data=str(other_images))
    assert open_store(str(tmp_path / "s")).num_views == 3
    make_store(world, **wanted)
    assert open_store(str(tmp_path / "s")).num_views == 4
    assert "warning" not in console.readouterr().err


def resized(data, factor, quality=90):
    """The same photo at another size, as a script that shrinks a dataset makes it."""
    with Image.open(io.BytesIO(data)) as image:
        size = tuple(round(side * factor) for side in image.size)
        return encoded(image.resize(size, Image.Resampling.BICUBIC), quality=quality)


def with_images(world, folder, change):
    """A dataset of the same keys and labels, each image's bytes changed."""
    shutil.copytree(world / "data", folder)
    for path in sorted(folder.glob("train-*.tar")):
        with tarfile.open(path) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}
        write_tar(path, {n: change(data) if n.endswith("jpg") else data for n, data in members.items()})
    return folder


@pytest.mark.parametrize("factor", [0.5, 0.682, 0.95, 2.0])
@pytest.mark.parametrize("policy", ["stored", "fixed"])
def test_images_at_another_size_are_refused(world, tmp_path, store, source, factor, policy):
    """Proportions stay, so crops do: their pixels alone could be another decoder's."""
    policy = stored_policy(store) if policy == "stored" else Fixed()
    probes = make_probes(source, policy)
    smaller = open_source(str(with_images(world, tmp_path / "data", lambda data: resized(data, factor))))
    row = source.keys.tolist().index(probes[0].key.encode())
    was, now = (" x ".join(map(str, read_image(some, row).shape[1:])) for some in (source, smaller))
    message = (
        rf"^s: the image of sample {probes[0].key} was {was} pixels and is now {now} \(height x width\): re-encoded or "
        "resized since it was cached; use the images that the store was made with, or cache these again$"
    )
    with pytest.raises(DifferentPixelsError, match=message):
        compare_probes(probes, smaller, policy, "s")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "CMYK", "grey"])
def test_a_size_is_that_of_the_decoded_image(tmp_path, form):
    """From the header where it is an ordinary JPEG, whatever its orientation tag says; else from its pixels."""
    photo = Image.open(io.BytesIO(jpeg(3, (40, 70))))
    turned = photo.getexif()
    turned[0x0112] = 6
    data = {
        "JPEG": encoded(photo, exif=turned),
        "PNG": encoded(photo, "PNG"),
        "CMYK": encoded(photo.convert("CMYK")),
        "grey": encoded(photo.convert("L")),
    }[form]
    name = "a.png" if form == "PNG" else "a.jpg"
    source = open_source(
        str(write_tar(tmp_path / "x.tar", {name: data, "a.cls": b"0", "b.jpg": jpeg(1), "b.cls": b"1"}))
    )
    probes = make_probes(source, RandomResizedCrop())
    assert {probe.key: probe.image_size for probe in probes} == {"a": (40, 70), "b": (40, 48)}
    assert compare_probes(probes, source, RandomResizedCrop(), "s") is None


def test_images_that_were_re_encoded_at_their_size_only_warn(world, tmp_path, store):
    again = open_source(str(with_images(world, tmp_path / "data", lambda data: resized(data, 1, quality=80))))
    warning = compare_probes(store.probes, again, stored_policy(store), "s")
    assert "a little differently than the teacher's: by " in warning


def test_a_store_without_sizes_is_read_and_warns_as_ever(world, tmp_path, store):
    old = [dataclasses.replace(probe, image_size=None) for probe in store.probes]
    shutil.copytree(world / "top5", tmp_path / "s")
    (tmp_path / "s/probes.json").unlink()
    write_probes(LocalStorage(tmp_path / "s"), store.manifest, old)
    assert b"image_size" not in (tmp_path / "s/probes.json").read_bytes()
    read = open_store(str(tmp_path / "s")).probes
    assert [probe.image_size for probe in read] == [None] * 4
    smaller = open_source(str(with_images(world, tmp_path / "data", lambda data: resized(data, 0.95, quality=95))))
    warning = compare_probes(read, smaller, stored_policy(store), "s")
    assert "than the teacher's, or the images were resized since they were cached: by " in warning


@pytest.mark.parametrize("size", [[0, 5], [5], [5, 5.0], "5x5", None, [2**31, 5]])
def test_a_size_that_is_none_is_corrupt(world, tmp_path, store, size):
    shutil.copytree(world / "top5", tmp_path / "s")
    document = load_document((tmp_path / "s/probes.json").read_bytes(), "probes.json")
    document["probes"][0]["image_size"] = size
    (tmp_path / "s/probes.json").write_bytes(dump_document(document))
    with pytest.raises(CorruptStoreError, match=r"probes\.json: field 'probes\[0\]\.image_size"):
        _ = open_store(str(tmp_path / "s")).probes


def test_a_student_a_cache_and_verify_refuse_resized_images(world, tmp_path, console):
    smaller = with_images(world, tmp_path / "data", lambda data: resized(data, 0.95, quality=95))
    settings = student_settings(world, tmp_path / "run", data=str(smaller), store=str(world / "top5"))
    with pytest.raises(DifferentPixelsError, match="re-encoded or resized since it was cached"):
        train(TrainConfig.from_flat(**settings, approximate_teacher=True))
    assert not (tmp_path / "run").exists()
    shutil.copytree(world / "top5", tmp_path / "s")
    with pytest.raises(DifferentPixelsError, match="re-encoded or resized since it was cached"):
        make_store(world, str(tmp_path / "s"), data=str(smaller), views=4, k=5)
    with pytest.raises(SystemExit):
        _main(["verify", str(world / "top5"), "--replay", "3", "--data", str(smaller)])
    assert re.search(r"probes\.json: .* was \d+ x \d+ pixels and is now ", console.readouterr().out)


def test_verify_replays_them(world, other_images, console):
    assert run(_main, ["verify", str(world / "top5"), "--replay", "3", "--data", str(world / "data")]) == 0
    assert "3 stored views are what this machine draws, pixel by pixel" in console.readouterr().out
    with pytest.raises(SystemExit) as caught:
        _main(["verify", str(world / "top5"), "--replay", "3", "--data", str(other_images)])
    assert caught.value.code == 1
    assert "probes.json: " in console.readouterr().out


@pytest.mark.parametrize(
    ("split", "replay", "message"),
    [
        ("val", "3", "none of its 37 images has logits in .*top5"),
        ("train", "0", "found 0, wanted a whole number from 1 on"),
        ("train", "-3", "found -3, wanted a whole number from 1 on"),
    ],
)
def test_a_replay_that_compares_nothing_is_no_success(world, console, split, replay, message):
    argv = ["verify", str(world / "top5"), f"--replay={replay}", "--data", str(world / "data"), "--split", split]
    with contextlib.suppress(SystemExit):
        assert run(_main, argv) == 2
    printed = console.readouterr()
    assert re.search(message, printed.err)
    assert "pixel by pixel" not in printed.out


def test_a_replay_says_how_many_views_there_were(world, console):
    assert run(_main, ["verify", str(world / "top5"), "--replay", "1000", "--data", str(world / "data")]) == 0
    printed = console.readouterr().out
    assert "4 stored views are what this machine draws" in printed
    assert "keeps no more views' pixels of these images than that" in printed


@pytest.mark.parametrize("argv", [["--weights", "w.safetensors"], ["--data", "data"]])
def test_arguments_that_nothing_would_read_are_refused(world, console, argv):
    assert run(_main, ["verify", str(world / "top5"), *argv]) == 2
    assert argv[0] in console.readouterr().err


def test_probes_survive_conversion_and_are_checked(world, tmp_path, store):
    convert_store(store.url, str(tmp_path / "s"), "webdataset", lambda _: None)
    converted = open_store(str(tmp_path / "s")).probes
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(store.probes, converted, strict=True))
    assert [probe.image_size for probe in converted] == [probe.image_size for probe in store.probes]
    data = bytearray((tmp_path / "s/probes.json").read_bytes())
    data[700] ^= 1
    (tmp_path / "s/probes.json").write_bytes(data)
    with pytest.raises(CorruptStoreError, match=r"probes\.json"):
        _ = open_store(str(tmp_path / "s")).probes
    with pytest.raises(SystemExit):
        _main(["verify", str(tmp_path / "s"), "--repair", "delete"])
    assert open_store(str(tmp_path / "s")).probes == ()


def test_samples_that_are_not_there_or_cannot_be_decoded_are_left_out(store, source, tmp_path):
    few = source.subset(np.arange(len(source)) < 5)
    assert compare_probes(store.probes, few, stored_policy(store), "s") is None
    assert compare_probes((), source, RandomResizedCrop(), "s") is None
    bad = {"a.jpg": b"no image", "a.cls": b"1", **shard_members(0, 3)}
    probes = make_probes(open_source(str(write_tar(tmp_path / "x.tar", bad))), RandomResizedCrop())
    assert sorted(probe.key for probe in probes) == ["train-0000", "train-0001", "train-0002"]


def test_a_probe_is_compared_at_its_own_size(store, source):
    row = source.keys.tolist().index(store.probes[0].key.encode())
    image = read_image(source, row)
    view = draw_view(source.key(row), 2, tuple(image.shape[1:]), RandomResizedCrop())
    small = Probe(key=source.key(row), view=2, pixels=apply_view(image, view, (9, 16)).contiguous().numpy())
    assert compare_probes([small], source, RandomResizedCrop(), "s") is None
    with pytest.raises(DifferentPixelsError):
        compare_probes([dataclasses.replace(small, view=1)], source, RandomResizedCrop(), "s")
