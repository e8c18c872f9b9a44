"""Images behind URLs, for tests: putting them there, counting what is fetched, comparing with a folder."""

import functools

import fsspec
import numpy as np

from pld.remote.cache_folder import files_in
from pld.remote.image_shards import RemotePlace
from train_student.data.batches import epoch_items

SIZES = (24, 17, 30, 20, 22, 25)


def put(folder, url):
    for path in folder.iterdir():
        with fsspec.open(f"{url}/{path.name}", "wb") as file:
            file.write(path.read_bytes())


def kept(folder):
    """Bytes of the files there; one may get its final name while they are listed."""
    return sum(status.st_size for status, _ in files_in(folder)) if folder.is_dir() else 0


def limit(monkeypatch, num_bytes):
    monkeypatch.setenv("PLD_IMAGE_CACHE_BYTES", str(num_bytes))


def assert_same(source, wanted):
    assert source.keys.tolist() == wanted.keys.tolist()
    assert np.array_equal(source.labels, wanted.labels)
    assert source.shards == wanted.shards
    assert source.class_names == wanted.class_names
    for row in range(len(wanted)):
        assert source.read(row) == wanted.read(row)


def items_of(source, *, rank, world, streams, epochs, batch_size=8):
    return [
        functools.partial(epoch_items, source, seed=1, epoch=epoch, view_indexes=(0,), batch_size=batch_size,
                          streams=streams, rank=rank, world=world)
        for epoch in range(epochs)
    ]  # fmt: skip


class Counting:
    """Counts fetches by shard, and notes what the folder holds then."""

    def __init__(self, monkeypatch, folder):
        self.fetches, self.most = [], 0
        place = "pld.remote.image_shards.RemotePlace._copy"
        copy = RemotePlace._copy

        def counted(place, shard, file, stop):
            self.fetches.append(shard.url.rpartition("/")[2])
            self.most = max(self.most, kept(folder))
            return copy(place, shard, file, stop)

        monkeypatch.setattr(place, counted)
