import gc
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import webdataset
from PIL import Image

from pld.errors import DataError
from pld.images.sources import glyph_rendering
from pld.images.sources.glyph_rendering import CHARACTERS, FONTS, load_glyphs, render_glyph
from pld.images.sources.glyphs import SHARD_SAMPLES, glyphs_folder, write_glyphs

SMALL = {"num_train": 188, "num_val": 94}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("glyphs") / "small"
    write_glyphs(folder, **SMALL)
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def samples(folder, split):
    """(key, label, image) of every sample, in the tars' order."""
    found = []
    for path in sorted(folder.glob(f"{split}-*.tar")):
        with tarfile.open(path) as tar:
            members = [(member.name, tar.extractfile(member).read()) for member in tar]
        for (image_name, image), (label_name, label) in zip(members[::2], members[1::2], strict=True):
            key = image_name.removesuffix(".jpg")
            assert label_name == f"{key}.cls"
            found.append((key, int(label), np.asarray(Image.open(io.BytesIO(image)))))
    return found


def test_the_description_names_the_classes_and_the_views(small):
    described = json.loads((small / "dataset.json").read_text())
    assert (described["name"], described["version"]) == ("glyphs", 1)
    assert described["class_names"] == [chr(code) for code in range(33, 127)]
    assert len(described["class_names"]) == 94
    assert described["view_policy"]["name"] == "random_resized_crop"
    assert described["view_policy"]["flip"] is False
    assert set(described["view_policy"]) == {"name", "scale", "ratio", "flip"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves the shard open
def test_plain_webdataset_reads_the_shards(small):
    shard = str(small / "train-0000.tar")
    found = [
        (sample["__key__"], sample["cls"], np.asarray(sample["jpg"]))
        for sample in webdataset.WebDataset(shard, shardshuffle=False).decode("pil")
    ]
    gc.collect()  # of the file that is still open, here rather than in another test
    wanted = [sample for sample in samples(small, "train") if sample[0] in {key for key, _, _ in found}]
    assert len(found) == len(wanted) > 0
    for ours, theirs in zip(wanted, found, strict=True):
        assert ours[:2] == theirs[:2]
        assert np.array_equal(ours[2], theirs[2])


def test_counts_keys_labels_and_pixels(small):
    train, val = samples(small, "train"), samples(small, "val")
    assert (len(train), len(val)) == (188, 94)
    keys = [key for key, _, _ in train + val]
    assert len(set(keys)) == len(keys)
    assert Counter(label for _, label, _ in train) == dict.fromkeys(range(94), 2)
    assert Counter(label for _, label, _ in val) == dict.fromkeys(range(94), 1)
    assert [label for _, label, _ in train] != sorted(label for _, label, _ in train)
    for _, _, image in train + val:
        assert (image.shape, image.dtype) == ((32, 32, 3), np.uint8)
    assert len({image.tobytes() for _, _, image in train + val}) == 282


def test_shards_are_cut_at_a_fixed_size(tmp_path):
    write_glyphs(tmp_path / "glyphs", num_train=SHARD_SAMPLES + 3, num_val=1, size=8)
    assert sorted(contents(tmp_path / "glyphs")) == ["dataset.json", "train-0000.tar", "train-0001.tar", "val-0000.tar"]
    assert len(samples(tmp_path / "glyphs", "train")) == SHARD_SAMPLES + 3


def test_the_same_arguments_give_the_same_bytes(small, tmp_path):
    write_glyphs(tmp_path / "again", **SMALL)
    assert contents(tmp_path / "again") == contents(small)


def test_tars_hold_nothing_of_the_machine_or_the_moment(small):
    with tarfile.open(small / "train-0000.tar") as tar:
        kept = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in tar}
    assert kept == {(0, 0, 0, "", "", 0o644)}


def test_another_seed_gives_other_images_and_another_order(small, tmp_path):
    write_glyphs(tmp_path / "other", **SMALL, seed=1)
    ours, others = samples(small, "train"), samples(tmp_path / "other", "train")
    assert [label for _, label, _ in ours] != [label for _, label, _ in others]
    assert not {image.tobytes() for *_, image in ours} & {image.tobytes() for *_, image in others}


def test_a_sample_does_not_depend_on_what_was_drawn_before_it():
    glyphs = load_glyphs()["g"]
    first = render_glyph(glyphs, "a", 32)
    render_glyph(glyphs, "b", 32)
    assert np.array_equal(render_glyph(glyphs, "a", 32), first)
    assert not np.array_equal(render_glyph(glyphs, "b", 32), first)


def test_every_character_has_fonts_and_ink():
    glyphs = load_glyphs()
    assert "".join(glyphs) == CHARACTERS
    # Knuth's four text fonts have other signs in the places of some characters.
    assert {len(of_one) for of_one in glyphs.values()} == {len(FONTS), len(FONTS) - 4}
    assert len(glyphs["A"]) == 21
    assert len(glyphs["{"]) == 17
    assert all(glyph.mask.getextrema()[1] > 200 for of_one in glyphs.values() for glyph in of_one)


def test_classes_differ_in_their_pixels():
    """Means over many draws: a wrong table of characters or a transformation that loses them would make these alike."""
    glyphs = load_glyphs()
    means = {c: np.mean([render_glyph(glyphs[c], f"{c}{i}", 32) for i in range(600)], axis=(0, 3)) for c in "O.|-"}
    centre, edge = np.s_[13:19, 13:19], np.s_[:3, :]
    assert means["."][centre].mean() > means["O"][centre].mean()
    assert means["|"][5:9, 13:19].mean() > means["-"][5:9, 13:19].mean()
    assert all(mean[centre].mean() > mean[edge].mean() for c, mean in means.items() if c != "O")


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(DataError, match="not empty"):
        write_glyphs(tmp_path, **SMALL)
    assert contents(tmp_path) == {"mine": b"mine"}


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="could not be written"):
        write_glyphs(tmp_path / "file" / "glyphs", **SMALL)


def test_without_matplotlib_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(DataError, match=r"; run pip install '\.\[report\]' in a clone of pld-distill$"):
        write_glyphs(tmp_path / "glyphs", **SMALL)
    assert contents(tmp_path) == {}


def test_a_missing_font_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(glyph_rendering, "FONTS", ("NoSuchFont",))
    with pytest.raises(DataError, match=r"NoSuchFont\.ttf is missing"):
        load_glyphs()


def test_two_writers_at_once_leave_one_finished_copy(small, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: write_glyphs(tmp_path / "both", **SMALL), range(2)))
    assert contents(tmp_path / "both") == contents(small)
    assert [path.name for path in tmp_path.iterdir()] == ["both"]


def test_a_failed_generation_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pld.images.sources.glyphs.add_member", fail)
    with pytest.raises(DataError, match="No space left on device"):
        write_glyphs(tmp_path / "glyphs", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_generation_is_not_visible_and_is_made_anew(small, tmp_path):
    target = tmp_path / "glyphs"
    made_by = "from pld.images.sources.glyphs import write_glyphs"
    program = f"import sys, pathlib; {made_by}; write_glyphs(pathlib.Path(sys.argv[1]))"
    process = subprocess.Popen([sys.executable, "-c", program, str(target)], stderr=subprocess.DEVNULL)
    while not any(tmp_path.glob(".glyphs*/*.tar")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    write_glyphs(target, **SMALL)
    assert contents(target) == contents(small)


def test_the_folder_is_made_once_in_the_cache(tmp_path, monkeypatch):
    made = []

    def make(folder):
        made.append(folder)
        folder.mkdir(parents=True)
        (folder / "dataset.json").write_text("{}")

    monkeypatch.setenv("PLD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("pld.images.sources.glyphs.write_glyphs", make)
    folder = glyphs_folder()
    assert glyphs_folder() == folder
    assert made == [folder]
    assert folder.parent == tmp_path / "cache"
    assert folder.name.startswith("glyphs-v1-")
    monkeypatch.setenv("PLD_CACHE", "")
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    assert glyphs_folder().parent == tmp_path / ".cache" / "pld"
