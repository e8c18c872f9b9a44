"""Stage two from a store and images on S3: the same training as from folders, also where loader workers are forked."""

import json
import shutil

import fsspec
import pytest
from s3fs import S3FileSystem

from pld.cli.main import _main as pld
from pld.config import run
from pld.images.order import deal_shards
from tests.making import NUM_CLASSES, make_dataset, make_store, student_settings
from tests.object_store import FaultyProxy
from tests.processes import ROOT, python, torchrun
from tests.train_student.runs import as_arguments, train_world
from train_student.config import TrainConfig
from train_student.run.train import train


def losses(run):
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def store(world, bucket):
    """The world's `full` on S3."""
    make_store(world, store=f"{bucket}/full", views=3, k=NUM_CLASSES)
    return f"{bucket}/full"


def test_training_from_s3_is_training_from_a_folder(world, store, tmp_path):
    train_world(world, tmp_path / "local")
    for workers in (0, 2):
        run = tmp_path / f"workers-{workers}"
        train_world(world, run, store=store, workers=workers)
        assert losses(run) == losses(tmp_path / "local")


def test_a_store_cached_to_s3_travels_and_is_trained_from_at_its_ends(world, store, tmp_path, capsys):
    """Pushed to another place, verified and inspected there, pulled to a folder: three places, one training."""
    pushed, pulled = store.replace("/full", "/pushed"), str(tmp_path / "pulled")
    for command, printed in (
        (["push", store, pushed], f"{pushed}: "),
        (["verify", pushed], f"{pushed}: no problem found in 780 sample-views"),
        (["inspect", pushed], "samples 260 views 3, top 12 of 12 classes"),
        (["pull", pushed, pulled], f"{pulled}: "),
        (["verify", pulled], f"{pulled}: no problem found in 780 sample-views"),
    ):
        assert run(pld, command) == 0
        assert printed in " ".join(capsys.readouterr().out.split())
    for number, place in enumerate((store, pushed, pulled)):
        train_world(world, tmp_path / str(number), store=place, epochs=1)
        assert losses(tmp_path / str(number)) == losses(tmp_path / "0")


@pytest.mark.long
@pytest.mark.parametrize("workers", [0, 2])
def test_the_command_trains_from_s3(world, store, tmp_path, workers):
    settings = student_settings(world, tmp_path / "run", store=store, workers=workers)
    (tmp_path / "run.yaml").write_text(json.dumps(settings))
    python(ROOT / "train_student.py", "--config", tmp_path / "run.yaml", cwd=tmp_path)
    assert len(losses(tmp_path / "run")) == 2


def put(folder, url):
    for path in folder.glob("*.tar"):
        with fsspec.open(f"{url}/{path.name}", "wb") as file:
            file.write(path.read_bytes())


def tar_bytes(proxy):
    """Bytes that came of each tar."""
    return {path.rpartition("/")[2]: num for path, num in proxy.sent.items() if path.endswith(".tar")}


@pytest.mark.parametrize(("workers", "faulty"), [(0, False), (2, False), pytest.param(2, True, marks=pytest.mark.long)])
def test_images_on_s3_train_as_local_ones(world, bucket, object_store, tmp_path, workers, faulty, monkeypatch):
    """With room for half of the shards; through a network that fails, too."""
    put(world / "data", f"{bucket}/data")
    size = sum(path.stat().st_size for path in (world / "data").glob("train-*.tar"))
    limit = 2 * size if workers == 0 else int(1.2 * size)  # of which an eighth is for validation
    monkeypatch.setenv("PLD_IMAGE_CACHE_BYTES", str(limit))
    train_world(world, tmp_path / "local")
    with FaultyProxy(object_store.port, failing=0.1 * faulty, cutting=0.05 * faulty) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        S3FileSystem.clear_instance_cache()
        settings = student_settings(world, tmp_path / "run", data=f"{bucket}/data", workers=workers)
        train(TrainConfig.from_flat(**settings))
        if not faulty:
            sizes = {path.name: path.stat().st_size for path in (world / "data").glob("*.tar")}
            assert tar_bytes(proxy) == sizes  # for the index, and they were still there for both epochs
    S3FileSystem.clear_instance_cache()
    assert losses(tmp_path / "run") == losses(tmp_path / "local")
    assert sum(path.stat().st_size for path in (tmp_path / "pld-cache" / "shards").iterdir()) <= limit


@pytest.mark.long
def test_a_machine_fetches_its_own_streams_shards_once_an_epoch(bucket, object_store, tmp_path):
    """Two machines; what lay in their caches is gone after they have their indexes, and there is room for all."""
    data = make_dataset(tmp_path / "data", shard_sizes=(16,) * 8, num_val=4)
    put(data, f"{bucket}/data")
    settings = student_settings(tmp_path, tmp_path / "run", data=f"{bucket}/data", store=None, loss="ce",
                                workers=1, val_data=str(data), tracker="none")  # fmt: skip
    sizes = {path.name: path.stat().st_size for path in data.glob("train-*.tar")}
    with (
        FaultyProxy(object_store.port, failing=0, cutting=0) as one,
        FaultyProxy(object_store.port, failing=0, cutting=0) as two,
    ):
        env = {**object_store.environment(), "PORTS": f"{one.port},{two.port}", "PLD_CACHE": str(tmp_path / "cache")}
        for name in ("first", "second"):
            run = str(tmp_path / name)
            argv = ["-m", "tests.train_student.machine", *as_arguments({**settings, "output": run})]
            torchrun(2, argv, tmp_path, env)
            fetched = [tar_bytes(proxy) for proxy in (one, two)]
            [proxy.sent.clear() for proxy in (one, two)]
            [shutil.rmtree(tmp_path / f"cache-{rank}" / "shards") for rank in range(2)]
            if name == "first":
                assert fetched == [sizes, sizes]  # the indexes
    dealt = deal_shards(0, [16] * 8, settings["streams"])
    for rank in range(2):
        own = {f"train-{shard:04d}.tar" for stream in (rank, rank + 2) for shard in dealt[stream]}
        assert fetched[rank] == {name: size for name, size in sizes.items() if name in own}
    assert losses(tmp_path / "first") == losses(tmp_path / "second")
