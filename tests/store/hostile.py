"""Stores by an author who knows the format and makes every digest anew; run by test_hostile.py in a process of its own.

python -m tests.store.hostile FOLDER EXAMPLES zarr|webdataset labelled|unlabelled
"""

import copy
import dataclasses
import json
import resource
import struct
import sys
import zlib
from pathlib import Path

import hypothesis
import numcodecs.blosc
import numcodecs.zstd
import numpy as np
import torch
from hypothesis import strategies as st

from pld.errors import PLDError
from pld.store import open_store
from pld.store.format.canonical import canonical_json, dump_document, load_document, sha256_hex
from pld.store.maintain.repair import plan_repair, repair
from pld.store.maintain.verify import verify_store
from pld.store.objects.local_storage import LocalStorage
from pld.store.write.writer import StoreWriter
from tests.store.world import World, paths_of, replaced, tree

MAX_BYTES = 2**30
WORLD = World(sizes=(6, 3), num_classes=9, k=3)
PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)
NUMBERS = [-1, 0, 1, 2, 8, 2**16, 2**20, 2**27, 2**31, 2**40, 2**63, 1e-300, 0.5]
TEXTS = ["", "..", "../../x", "/etc/x", "a" * 300, "0" * 64, "zarr", "webdataset", "train-0000"]
ODD = st.sampled_from([*NUMBERS, *TEXTS, [], {}, [0], [[]]])
VALUES = ODD | st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


def bombs():
    """Chunks that decode to a gigabyte or more, whatever their header says."""
    huge = bytes(2**26)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    deflated = deflate.compress(huge) + deflate.flush()
    blosc = bytearray(numcodecs.blosc.compress(huge, b"zstd", 9, 0, 0, typesize=1))
    blosc[4:8] = struct.pack("<I", 2**31 - 1)
    block = bytearray(blosc)
    block[8:12] = struct.pack("<I", 2**31 - 1)
    return [deflated, deflated * 20, bytes(blosc), bytes(block), numcodecs.zstd.Zstd(19).encode(huge), bytes(3000)]


BOMBS = bombs()


class Author:
    """A genuine store's objects, changed one after another, then signed."""

    def __init__(self, objects):
        self.documents = {
            name: load_document(data, name) for name, data in objects.items() if not name.startswith("parts")
        }
        self.parts = {name: bytearray(data) for name, data in objects.items() if name.startswith("parts")}

    def change_document(self, data):
        name = data.draw(st.sampled_from(sorted(self.documents)))
        path = data.draw(st.sampled_from(list(paths_of(self.documents[name]))))
        self.documents[name] = replaced(self.documents[name], path, copy.deepcopy(data.draw(VALUES)))

    def change_part(self, data):
        """Put a bomb, noise or a lie about sizes into a chunk; where its length changes, what lies behind moves."""
        name = data.draw(st.sampled_from(sorted(self.parts)))
        commit = self._commit_of(name)
        chunks = self._chunks(commit)
        if not chunks:
            return
        index = data.draw(st.integers(0, len(chunks) - 1))
        offset, size = chunks[index][:2]
        old = bytes(self.parts[name][offset:][:size])
        new = data.draw(st.sampled_from(BOMBS) | st.binary(max_size=99) | st.just(old[: size // 2]))
        if data.draw(st.booleans()) and len(old) >= 16 and len(new) >= 16:
            new = new[:4] + old[4:8] + new[8:12] + struct.pack("<I", len(new)) + new[16:]  # blosc's sizes, as wanted
        self.parts[name][offset : offset + size] = new
        for chunk in chunks:
            if chunk[0] > offset:
                chunk[0] += len(new) - size
        chunks[index][1] = len(new)

    def write(self, root):
        """Make every digest anew, from the chunks up, and write it all; objects lie where their commits say."""
        try:
            identity = self.documents["store.json"]["identity"]
            fingerprint = sha256_hex(canonical_json(identity))
            self.documents["store.json"]["fingerprint"] = fingerprint
        except (TypeError, KeyError, ValueError):
            fingerprint = "0" * 64
        names = {}
        for name, data in self.parts.items():
            digest = sha256_hex(data)
            shard = name.rpartition("/")[2].rpartition("-")[0]
            names[name] = f"{name.rpartition('/')[0]}/{shard}-{digest[:16]}{name.partition(shard)[2][17:]}"
            commit = self._commit_of(name)
            if isinstance(commit, dict):
                for chunk in self._chunks(commit):
                    chunk[2] = sha256_hex(data[chunk[0] :][: chunk[1]])
                commit |= {"part_sha256": digest, "part_bytes": len(data), "part": names[name].rpartition("/")[2]}
        for name, document in self.documents.items():
            if isinstance(document, dict) and "fingerprint" in document:
                document["fingerprint"] = fingerprint
            if name.startswith("commits") and isinstance(document, dict):
                self._sign_seal(name, dump_document(document))
        for name, document in self.documents.items():
            data = dump_document(document) if isinstance(document, dict) else canonical_json(document) + b"\n"
            _put(root / name, data)
        for name, data in self.parts.items():
            _put(root / names[name], bytes(data))

    def _commit_of(self, part):
        block, file = part.split("/")[1:]
        return self.documents[f"commits/{block}/{file.rpartition('-')[0]}.json"]

    def _chunks(self, commit):
        """The commit's chunks that are still [offset, bytes, digest], to be changed in place."""
        try:
            found = [chunk for group in [commit["samples"], *commit["views"]] for chunk in group]
            return [chunk for chunk in found if isinstance(chunk, list) and len(chunk) == 3
                    and all(type(number) is int and 0 <= number < 2**31 for number in chunk[:2])]  # fmt: skip
        except (TypeError, KeyError):
            return []

    def _sign_seal(self, name, data):
        _, block, file = name.split("/")
        seal = self.documents[f"seals/{block}.json"]
        if isinstance(seal, dict) and isinstance(seal.get("commits"), dict):
            seal["commits"][file.removesuffix(".json")] = sha256_hex(data)


def _put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def use(root):
    """Everything that a reader, a verifier and a careless writer do; raises what is not ours."""
    storage, problems = LocalStorage(root), []

    def tried(function):
        try:
            return function()
        except PLDError:
            return None

    store = tried(lambda: open_store(str(root)))
    tried(lambda: problems.extend(verify_store(storage, lambda *_: None)))
    if store is None:
        return
    for view in range(3):
        table = tried(lambda view=view: store.load_view(view))
        if table is not None:
            assert int(table.grid.classes.max(initial=0)) < store.manifest.identity.teacher.num_classes
            tried(lambda table=table: table[np.arange(len(table))])
    tried(lambda: (store.keys, store.stats, store.num_bytes, store.skipped))
    tried(lambda: repair(storage, plan_repair(storage, store.manifest, problems), problems))
    writer = StoreWriter(storage, store.manifest)
    tried(lambda: (writer.missing_parts(3), writer.seal()))


def main(folder, examples, format, labels):
    torch.set_num_threads(1)
    dataclasses.replace(WORLD, format=format, labelled=labels == "labelled").write(folder / "genuine", 3, block_views=2)
    objects = tree(folder / "genuine")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MAX_BYTES,) * 2)
    count = 0

    @hypothesis.settings(max_examples=examples, deadline=None, database=None, derandomize=True,
                         suppress_health_check=list(hypothesis.HealthCheck))  # fmt: skip
    @hypothesis.given(st.data())
    def attack(data):
        nonlocal count
        count += 1
        author = Author(objects)
        for _ in range(data.draw(st.integers(1, 3))):
            (author.change_document if data.draw(st.booleans()) else author.change_part)(data)
        root = folder / "attacks" / str(count)
        author.write(root)
        outside = {path for path in folder.rglob("*") if root not in path.parents}
        use(root)
        assert {path for path in folder.rglob("*") if root not in path.parents} == outside
        for path in sorted(root.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        root.rmdir()

    attack()
    assert tree(folder / "genuine") == objects
    # Not getrusage's maxrss, which begins with that of the process that started this one.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"examples": count, "bytes": int(peak.split()[1]) * 1024}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
