"""Megabytes a second of `pld data --shards`: from a tar of tars beside tar, from Parquet files beside pyarrow.

    make bench-data [PHOTOS='photos-{0000..0003}.tar']

The archive is like ImageNet's: a tar of CLASSES tars of photos. tar unpacks the outer one and then each inner one, as
people do, two at a time, and deletes the inner tars; ours reads the archive where it lies and writes shuffled shards.
Parquet files are like the hub's; pyarrow reads their row groups in order and tarfile writes the samples to shards, in
that order. Everything lies in one temporary folder (TMPDIR) and in the page cache as far as it fits; what was written
is synced to the disk within the time. Ours starts without a cached index; making it is timed. In turn, one
process each. Without PHOTOS, images are generated. Ends with one line of JSON: x_ is ours over theirs, more is faster;
peak_ is our process's memory. Not measured: cold and network disks, re-encoding.
"""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from experiments.benchmarks.input.photos import read_or_generate
from experiments.benchmarks.timing import CPU, Spread, in_turn, machine, print_figures, ratio, timed

ROUNDS = 5
CLASSES, PER_CLASS = 100, 50
ROW_GROUP, SHARD_SAMPLES = 100, 1250

# In a process of its own, whose memory is looked at; its start, mostly the import of torch, is not timed.
OURS = """
import re, sys, time
from pathlib import Path
import pyarrow.parquet
from pld.images.open_reader import open_reader
from pld.images.shards.write import write_shards

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
before = peak()
start = time.perf_counter()
write_shards(open_reader(sys.argv[1]), Path(sys.argv[2]), "train", int(sys.argv[3]), lambda num: None)
seconds = time.perf_counter() - start
print(seconds, peak() - before)
"""


def main() -> None:
    images, described = read_or_generate("PHOTOS", CLASSES * PER_CLASS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["PLD_CACHE"] = str(folder / "cache")
        archive, parquet = folder / "train.tar", folder / "parquet"
        megabytes = _write_archive(archive, images) / 1e6
        _write_parquet(parquet, images)
        del images
        print(f"{machine(CPU)}; n = {ROUNDS} rounds in turn, median (quartiles)")
        print(f"{described}; {CLASSES} classes, {megabytes:,.0f} MB\n")
        peaks: dict[str, list[float]] = {"archive": [], "parquet": []}
        ways: dict[str, Callable[[], float]] = {
            "tar xf, the outer level": functools.partial(_timed_in, folder, functools.partial(_unpack_outer, archive)),
            "tar xf, both levels": functools.partial(_timed_in, folder, functools.partial(_unpack, archive)),
            "pld data, tar of tars": functools.partial(_ours, archive, folder, peaks["archive"]),
            "pyarrow and tarfile": functools.partial(_timed_in, folder, functools.partial(_repack, parquet)),
            "pld data, Parquet": functools.partial(_ours, parquet, folder, peaks["parquet"]),
        }
        for way in ways.values():
            way()  # the page cache is warm from here on
        seconds = in_turn(ways, ROUNDS)
    for way, taken in seconds.items():
        print(f"  {way:24}{Spread.of([megabytes / each for each in taken])} MB/s")
    figures = {
        "x_tar_outer": ratio(seconds["tar xf, the outer level"], seconds["pld data, tar of tars"]),
        "x_tar": ratio(seconds["tar xf, both levels"], seconds["pld data, tar of tars"]),
        "x_pyarrow": ratio(seconds["pyarrow and tarfile"], seconds["pld data, Parquet"]),
    }
    for name, each in figures.items():
        print(f"  {name:24}{each}")
    for name, each in peaks.items():
        print(f"  memory over the start's, {name}: {max(each) / 1e6:,.0f} MB at most")
    print_figures(
        {name: each.median for name, each in figures.items()}
        | {f"peak_mb_{name}": max(each) / 1e6 for name, each in peaks.items()}
    )


def _write_archive(path: Path, images: list[tuple[bytes, int]]) -> int:
    """Write a tar of tars; returns its size."""
    with tarfile.open(path, "w") as outer:
        for label in range(CLASSES):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as tar:
                for number in range(PER_CLASS):
                    content, _ = images[(label * PER_CLASS + number) % len(images)]
                    _add(tar, f"n{label:08d}_{number}.JPEG", content)
            _add(outer, f"n{label:08d}.tar", inner.getvalue())
    return path.stat().st_size


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _write_parquet(folder: Path, images: list[tuple[bytes, int]]) -> None:
    features = {
        "image": {"_type": "Image"},
        "label": {"names": [f"n{label:08d}" for label in range(CLASSES)], "_type": "ClassLabel"},
    }
    schema = pa.schema(
        [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    folder.mkdir()
    files = 4
    for file in range(files):
        with pq.ParquetWriter(folder / f"train-{file:05d}-of-{files:05d}.parquet", schema) as writer:
            for first in range(file, CLASSES * PER_CLASS // ROW_GROUP, files):
                rows = range(first * ROW_GROUP, (first + 1) * ROW_GROUP)
                image = [{"bytes": images[r % len(images)][0], "path": f"{r:06d}.JPEG"} for r in rows]
                writer.write_table(pa.table({"image": image, "label": [r // PER_CLASS for r in rows]}, schema=schema))


def _timed_in(folder: Path, work: Callable[[Path], object]) -> float:
    """Seconds that some work takes in an empty folder, and writing it to the disk."""
    with tempfile.TemporaryDirectory(dir=folder) as out:

        def all_of_it() -> None:
            work(Path(out))
            os.sync()

        os.sync()
        return timed(all_of_it)


def _unpack_outer(archive: Path, out: Path) -> None:
    subprocess.run(["tar", "xf", archive, "-C", out], check=True)


def _unpack(archive: Path, out: Path) -> None:
    _unpack_outer(archive, out)
    inner = "mkdir {} && tar xf {}.tar -C {} && rm {}.tar"
    names = "\n".join(path.stem for path in sorted(out.glob("*.tar")))
    subprocess.run(["xargs", "-P", "2", "-I", "{}", "sh", "-c", inner], input=names, text=True, cwd=out, check=True)


def _repack(folder: Path, out: Path) -> None:
    number = 0
    for batch in _batches(folder):
        for image, label in zip(batch["image"].to_pylist(), batch["label"].to_pylist(), strict=True):
            if number % SHARD_SAMPLES == 0:
                if number:
                    tar.close()
                tar = tarfile.open(out / f"train-{number // SHARD_SAMPLES:04d}.tar", "w")  # noqa: SIM115
            key = image["path"].partition(".")[0]
            _add(tar, f"{key}.jpg", image["bytes"])
            _add(tar, f"{key}.cls", str(label).encode())
            number += 1
    tar.close()


def _batches(folder: Path) -> Iterator[pa.Table]:
    for path in sorted(folder.glob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group)


def _ours(location: Path, folder: Path, peaks: list[float]) -> float:
    shutil.rmtree(folder / "cache", ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder) as out:
        os.sync()
        command = [sys.executable, "-c", OURS, str(location), out, str(SHARD_SAMPLES)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        peaks.append(float(printed[1]))
        return float(printed[0]) + timed(os.sync)


if __name__ == "__main__":
    main()
