"""Stage one to S3: killed, resumed, inspected; and from images on S3."""

import json
import signal
import subprocess
import sys
import time

import fsspec
import pytest

from cache_teacher.cache import cache
from pld.cli.main import main as pld_main
from pld.store import open_store
from pld.store.objects.open import open_storage
from tests.cache_teacher.test_cache import config
from tests.making import make_dataset
from tests.object_store import FaultyProxy
from tests.processes import environment, python, tree_bytes

COMMAND = ("-m", "cache_teacher", "--allow_wrong_labels", "--views", "4", "-k", "5", "--threads", "1")


@pytest.mark.parametrize("faulty", [False, pytest.param(True, marks=pytest.mark.long)])
def test_killed_on_s3_and_run_again_is_the_folder_an_undisturbed_run_writes(
    world, bucket, object_store, tmp_path, faulty, monkeypatch, capsys
):
    make_dataset(tmp_path / "data", shard_sizes=(20,) * 12)
    told = ("--teacher", f"local-dir:{world / 'teacher'}", "--data", str(tmp_path / "data"))
    cache(config(world, tmp_path / "local", data=str(tmp_path / "data"), views=4))
    with FaultyProxy(object_store.port, failing=0.1 * faulty, cutting=0.05 * faulty) as proxy:
        env = object_store.environment(proxy.port)
        argv = [sys.executable, *COMMAND, *told, "--store", f"{bucket}/store"]
        for objects in range(4, 24) if faulty else (7,):
            process = subprocess.Popen(argv, cwd=tmp_path, env=environment(**env), stderr=subprocess.DEVNULL)
            while process.poll() is None and len(open_storage(f"{bucket}/store").list("")) < objects:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert not open_storage(f"{bucket}/store").list("seals")
        if faulty:
            python(*argv[1:], cwd=tmp_path, env=env)
    cache(config(world, f"{bucket}/store", data=str(tmp_path / "data"), views=4))
    storage = open_storage(f"{bucket}/store")
    written, wanted = {name: storage.read(name, 2**24) for name in storage.list("")}, tree_bytes(tmp_path / "local")
    written.pop("store.json"), wanted.pop("store.json")  # the command's --store is in it
    assert written == wanted
    assert open_store(f"{bucket}/store").num_views == 4
    monkeypatch.setattr("sys.argv", ["pld", "inspect", f"{bucket}/store"])
    assert pld_main() == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"store {bucket}/store" in printed
    assert "samples 240 views 4, top 5 of 12 classes" in printed


MIXED = {"name": "random_resized_crop", "steps": [{"name": "mixup", "alpha": 0.8}], "partners": "dataset"}


@pytest.mark.parametrize("policy", [None, json.dumps(MIXED)], ids=["plain", "mixed"])
def test_images_on_s3_give_the_same_store(world, bucket, tmp_path, monkeypatch, policy):
    """With room for the shards in flight, and of another dataset that was cached before; for partners, for all."""
    data = make_dataset(tmp_path / "data", shard_sizes=(20, 31, 7))
    tars = sorted(data.glob("*.tar"))
    for path in tars:
        with fsspec.open(f"{bucket}/data/{path.name}", "wb") as file:
            file.write(path.read_bytes())
    room = sum(sorted(path.stat().st_size for path in tars)[0 if policy else 1 :])
    monkeypatch.setenv("PLD_IMAGE_CACHE_BYTES", str(room))
    for url, store in ((str(data), tmp_path / "local"), (f"{bucket}/data", tmp_path / "remote")):
        cache(config(world, store, data=url, views=10, policy=policy))  # two blocks
    written, wanted = tree_bytes(tmp_path / "remote"), tree_bytes(tmp_path / "local")
    written.pop("store.json"), wanted.pop("store.json")  # the command's --data is in it
    assert written == wanted
