"""--longest_side and --quality: images that are too large become JPEGs of that size, and dataset.json says so."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from pld.cli.main import _main
from pld.config import run
from pld.errors import ConfigError
from pld.images import open_source
from pld.images.dataset import read_image
from pld.images.shards.encoding import Encoding
from tests.making import encoded, jpeg, with_pillow


def size_of(data):
    image = Image.open(io.BytesIO(data))
    return image.format, image.size


def photo(height, width):
    return Image.open(io.BytesIO(jpeg(3, (height, width)))).convert("RGB")


def test_only_what_is_too_large_or_no_jpeg_is_changed():
    encoding = Encoding(longest_side=50, quality=95)
    small, cmyk = jpeg(1, (50, 30)), encoded(photo(40, 50).convert("CMYK"))
    assert encoding.apply(small) == small
    assert encoding.apply(cmyk) == cmyk
    assert size_of(encoding.apply(jpeg(1, (200, 100)))) == ("JPEG", (25, 50))
    assert size_of(encoding.apply(jpeg(1, (3, 700)))) == ("JPEG", (50, 1))
    assert size_of(encoding.apply(encoded(photo(20, 30), "PNG"))) == ("JPEG", (30, 20))
    assert size_of(encoding.apply(encoded(photo(90, 30).convert("L"), "PNG"))) == ("JPEG", (17, 50))


def test_pixels_are_those_of_an_antialiased_resize():
    data = jpeg(1, (400, 300))
    wanted = Image.fromarray(with_pillow(data)).resize((75, 100), Image.Resampling.LANCZOS)
    found = with_pillow(Encoding(longest_side=100, quality=100).apply(data))
    assert np.abs(found.astype(int) - np.asarray(wanted)).mean() < 2


def test_orientation_tags_are_ignored_as_they_are_by_the_decoder():
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    data = encoded(photo(40, 100), exif=exif)
    again = Encoding(longest_side=50).apply(data)
    assert size_of(again) == ("JPEG", (50, 20))
    assert 0x0112 not in Image.open(io.BytesIO(again)).getexif()


@pytest.mark.parametrize("settings", [{"longest_side": 0}, {"longest_side": 10, "quality": 101}])
def test_ranges(settings):
    with pytest.raises(ConfigError, match="wanted"):
        Encoding(**settings)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PLD_CACHE", str(tmp_path / "cache"))
    for split in ("train", "val"):
        for i in range(8):
            path = tmp_path / "photos" / split / "ab"[i % 2] / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(i, (30 + 10 * i, 40)))
    return tmp_path / "photos"


def test_the_command_records_it_and_says_so(folder, tmp_path, capsys):
    broken = folder / "train" / "a" / "0.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    out = str(tmp_path / "out")
    command = ["data", str(folder), "--shards", out, "--longest_side", "60"]
    assert run(_main, command) == 0
    assert f"{broken}: sample a/0: cannot be decoded" in capsys.readouterr().out
    described = json.loads((tmp_path / "out" / "dataset.json").read_text())["encoding"]
    assert (described["longest_side"], described["quality"]) == (60, 90)
    assert set(described["libraries"]) == {"pillow", "libjpeg", "simplejpeg"}
    source = open_source(out)
    rows = [row for row in range(8) if source.key(row) != "a/0"]
    assert max(max(read_image(source, row).shape) for row in rows) == 60
    assert run(_main, ["data", out]) == 0
    assert "images were re-encoded, longest side 60, JPEG quality 90" in capsys.readouterr().out
    # The same again is checked and kept; the other split in another way is refused.
    assert run(_main, command) == 0
    for other in ([], ["--longest_side", "50"]):
        assert run(_main, ["data", str(folder), "--split", "val", "--shards", out, *other]) == 2
        assert "re-encoded by --longest_side 60 --quality 90" in capsys.readouterr().err
    assert run(_main, ["data", str(folder), "--split", "val", "--shards", out, "--longest_side", "60"]) == 0


def test_the_record_goes_with_the_images(folder, tmp_path):
    def described(name):
        return json.loads((tmp_path / name / "dataset.json").read_text())

    def shards(source, name, *options):
        assert run(_main, ["data", str(source), "--shards", str(tmp_path / name), *options]) == 0

    shards(folder, "small", "--longest_side", "60")
    shards(tmp_path / "small", "copy")
    shards(tmp_path / "small", "unlabelled", "--unlabelled")
    assert described("copy") == described("small")
    assert described("unlabelled") == {"encoding": described("small")["encoding"]}
    shards(tmp_path / "copy", "smaller", "--longest_side", "40")
    assert described("smaller")["encoding"]["longest_side"] == 40
    assert described("smaller")["encoding"]["before"] == described("small")["encoding"]


@pytest.mark.long
def test_a_datasets_own_views_go_with_its_images_without_labels(tmp_path, monkeypatch):
    monkeypatch.setenv("PLD_CACHE", str(tmp_path / "cache"))
    assert run(_main, ["data", "glyphs", "--split", "val", "--unlabelled", "--shards", str(tmp_path / "out")]) == 0
    glyphs = open_source("glyphs", "val")
    assert not glyphs.policy.flip
    assert open_source(str(tmp_path / "out"), "val", unlabelled=True).policy == glyphs.policy


def test_shards_without_class_names_record_it_too(folder, tmp_path, capsys):
    plain, out = str(tmp_path / "plain"), str(tmp_path / "out")
    assert run(_main, ["data", str(folder), "--shards", plain]) == 0
    (tmp_path / "plain" / "dataset.json").unlink()
    assert run(_main, ["data", plain, "--shards", out, "--longest_side", "50"]) == 0
    assert open_source(out).class_names is None
    assert open_source(out, class_names=["a", "b"]).class_names == ("a", "b")
    capsys.readouterr()
    assert run(_main, ["data", plain, "--split", "train", "--shards", plain, "--longest_side", "50"]) == 2
    assert "Name another folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--quality", "80"], "add --longest_side"),
        (["--longest_side", "80"], "add --shards"),
        (["--shards", "o", "--longest_side", "80", "--quality", "101"], "quality = 101"),
    ],
)
def test_options_that_miss_another(folder, options, words, capsys):
    assert run(_main, ["data", str(folder), *options]) == 2
    assert words in capsys.readouterr().err
