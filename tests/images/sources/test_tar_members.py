"""Members of tars that are written."""

import pytest

from pld.errors import DataError
from pld.images import open_source
from pld.images.decode.image import IMAGE_EXTENSIONS
from pld.images.sources.tar_members import check_keys, image_extension
from tests.images.sources.test_folders import fill


@pytest.mark.parametrize(
    ("start", "extension"),
    [
        (b"\xff\xd8\xff\xe0", "jpg"),
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"II*\0\x08\0\0\0", "tif"),
        (b"MM\0*\0\0\0\x08", "tif"),
        (b"GIF87a", "gif"),
        (b"GIF89a", "gif"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "webp"),
        (b"RIFF\x24\0\0\0AVI LIST", "jpg"),
        (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", "avif"),
        (b"\0\0\0\x2cftypavis\0\0\0\0avismsf1", "avif"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "avif"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "jpg"),
        (b"BM6\0", "bmp"),
        (b"P6\n4 4\n255\n", "ppm"),
        (b"PK\x03\x04", "jpg"),
        (b"", "jpg"),
        (b"<html>", "jpg"),
    ],
)
def test_an_images_extension_is_told_by_how_it_begins(start, extension):
    # What this Pillow cannot read would be no image in the tar: it stays one that is told to be broken.
    assert image_extension(start + bytes(100)) == (extension if extension in IMAGE_EXTENSIONS else "jpg")


@pytest.mark.parametrize("name", ["a\nb.jpg", "a\tb.jpg", "a\x7f.jpg"])
def test_keys_with_control_characters_go_into_no_tar(name, tmp_path):
    fill(tmp_path / "in" / "ant", name)
    with pytest.raises(DataError, match="has a control character"):
        check_keys(open_source(str(tmp_path / "in")))
