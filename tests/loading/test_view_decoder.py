"""Views are cut from as much of an image as they need; any dataset with the protocol's methods will do."""

import dataclasses

import pytest
import torch

from pld.images import open_source
from pld.images.dataset import ImageDataset, read_image
from pld.images.decode import jpeg_box
from pld.loading import decode_views, view_decoder
from pld.loading.view_decoder import decode_for_views
from pld.views import Fixed, apply_view, draw_view
from pld.views.preprocessing import Preprocessing
from tests.making import jpeg, write_tar


@pytest.mark.parametrize("compiled", [True, False])
def test_views_are_cut_from_as_much_of_the_image_as_they_need(tmp_path, monkeypatch, compiled):
    monkeypatch.setattr(jpeg_box, "HAS_BOXES", compiled and jpeg_box.HAS_BOXES)
    sizes = [(300, 200), (120, 160), (90, 90)]
    members = {f"{i}.jpg": jpeg(i, size) for i, size in enumerate(sizes)} | {f"{i}.cls": b"0" for i in range(3)}
    source = open_source(str(write_tar(tmp_path / "a.tar", members)))
    saved = 0
    for row in range(3):
        whole = read_image(source, row)
        for first in range(0, 40, 2):
            image, views = decode_for_views(source, row, [first, first + 1], source.policy)
            size = (whole.shape[1], whole.shape[2])
            drawn = [draw_view(source.key(row), i, size, source.policy) for i in (first, first + 1)]
            for view, wanted in zip(views, drawn, strict=True):
                assert torch.equal(apply_view(image, view, 32), apply_view(whole, wanted, 32))
            saved += image.numel() < whole.numel()
    assert saved > 10


@dataclasses.dataclass(frozen=True)
class InMemory:
    """The least that a dataset must be."""

    images: list[bytes]
    location: str = "memory"

    def __len__(self):
        return len(self.images)

    def key(self, row):
        return f"image-{row}"

    def label(self, row):
        return row % 2

    def read(self, row):
        return self.images[row]

    def num_bytes(self, row):
        return len(self.images[row])

    def where(self, row):
        return f"memory: sample {self.key(row)}"


def test_a_dataset_of_ones_own():
    dataset = InMemory([jpeg(0), jpeg(1)])
    assert isinstance(dataset, ImageDataset)
    (views,) = decode_views(view_decoder(dataset, Fixed(), [Preprocessing(input_size=(16, 16))]), [1], [0])
    image = read_image(dataset, 1)
    view = draw_view("image-1", 0, (image.shape[1], image.shape[2]), Fixed())
    assert torch.equal(views[0, 0], apply_view(image, view, 16))
