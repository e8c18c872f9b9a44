"""One small dataset in every form that people have it in: 12 classes by WordNet id, 60 photos."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.io

from tests.making import NUM_CLASSES, jpeg, write_tar

NUM = 60
# Not in the order of the devkit's numbers.
WNIDS = tuple(f"n{1000 + 7 * i:08d}" for i in range(NUM_CLASSES))
KIT_ORDER = tuple(WNIDS[(5 * i) % NUM_CLASSES] for i in range(NUM_CLASSES))


def photos() -> dict[str, tuple[str, bytes]]:
    """Key, class and bytes of training images, in the order of the classes."""
    return {f"{WNIDS[i * NUM_CLASSES // NUM]}_{i}": (WNIDS[i * NUM_CLASSES // NUM], jpeg(i)) for i in range(NUM)}


def val_photos() -> dict[str, tuple[str, bytes]]:
    """The same of validation images, whose order says nothing about classes."""
    return {f"ILSVRC2012_val_{i + 1:08d}": (WNIDS[(7 * i) % NUM_CLASSES], jpeg(500 + i)) for i in range(NUM // 2)}


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def make_folder(folder: Path, *, val: bool = False) -> Path:
    """ImageFolder's layout, train alone or both."""
    for split, images in (("train", photos()), ("val", val_photos() if val else {})):
        for key, (wnid, data) in images.items():
            write(folder / split / wnid / f"{key}.JPEG", data)
    return folder


def tar_bytes(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def make_train_tar(path: Path) -> Path:
    """A tar of a tar for each class, as ImageNet's: in another order than the classes'."""
    inner: dict[str, dict[str, bytes]] = {}
    for key, (wnid, data) in photos().items():
        inner.setdefault(wnid, {})[f"{key}.JPEG"] = data
    return write_tar(path, {f"{wnid}.tar": tar_bytes(inner[wnid]) for wnid in KIT_ORDER})


def make_val_tar(path: Path) -> Path:
    return write_tar(path, {f"{key}.JPEG": data for key, (_, data) in reversed(val_photos().items())})


def make_devkit(path: Path) -> Path:
    """The kit's archive: numbers in the order of the images' names, and a MATLAB table of the classes."""
    kinds = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("num_children", object)]
    synsets = np.zeros((len(WNIDS) + 1, 1), dtype=kinds)
    for i, wnid in enumerate((*KIT_ORDER, "n99999999")):
        number = i + 1 if i < len(WNIDS) else 1001
        synsets[i, 0] = (np.uint16([[number]]), wnid, f"words of {wnid}", np.uint16([[0]]))
    table = io.BytesIO()
    scipy.io.savemat(table, {"synsets": synsets}, do_compression=True)
    truth = "".join(f"{KIT_ORDER.index(wnid) + 1}\n" for wnid, _ in val_photos().values())
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, data in {
            "readme.txt": b"",
            "data/meta.mat": table.getvalue(),
            "data/ILSVRC2012_validation_ground_truth.txt": truth.encode(),
        }.items():
            member = tarfile.TarInfo(f"ILSVRC2012_devkit_t12/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def solution() -> str:
    lines = [f"{key},{wnid} 1 2 30 40 {wnid} 3 4 5 6 " for key, (wnid, _) in val_photos().items()]
    return "\n".join(["ImageId,PredictionString", *reversed(lines), ""])


def make_kaggle(folder: Path) -> Path:
    base = folder / "ILSVRC" / "Data" / "CLS-LOC"
    make_folder(base)
    for key, (_, data) in val_photos().items():
        write(base / "val" / f"{key}.JPEG", data)
    write(base / "test" / "ILSVRC2012_test_00000001.JPEG", jpeg(1))
    write(folder / "LOC_val_solution.csv", solution())
    return folder


def make_csv(path: Path, *, header: bool = True, numbers: bool = False) -> Path:
    """A CSV with a BOM, quotes and CRLF."""
    lines = ["path,label"] if header else []
    for key, (wnid, data) in photos().items():
        write(path.parent / "images" / f"{key}.JPEG", data)
        lines.append(f'"images/{key}.JPEG",{WNIDS.index(wnid) if numbers else wnid}')
    return write(path, "\ufeff" + "\r\n".join(lines) + "\r\n")


def val_table() -> pa.Table:
    return table(rows=val_photos())


def table(keys: bool = True, rows: dict[str, tuple[str, bytes]] | None = None) -> pa.Table:
    """As datasets makes it of ILSVRC/imagenet-1k."""
    rows = rows or photos()
    image = [{"bytes": data, "path": f"{key}_{wnid}.JPEG" if keys else None} for key, (wnid, data) in rows.items()]
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(WNIDS), "_type": "ClassLabel"},
    }
    schema = pa.schema(
        [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    return pa.table({"image": image, "label": [WNIDS.index(wnid) for wnid, _ in rows.values()]}, schema=schema)


def make_parquet(folder: Path, made: pa.Table | None = None, val: pa.Table | None = None) -> Path:
    """A folder of the hub: data/train-00000-of-00002.parquet, ... with a few row groups each, and another split."""
    made = table() if made is None else made
    (folder / "data").mkdir(parents=True, exist_ok=True)
    write(folder / "README.md", "# a dataset")
    half = len(made) // 2
    for number, part in enumerate((made.slice(0, half), made.slice(half))):
        pq.write_table(part, folder / "data" / f"train-{number:05d}-of-00002.parquet", row_group_size=11)
    pq.write_table(made.slice(0, 5) if val is None else val, folder / "data" / "validation-00000-of-00001.parquet")
    return folder


def make_arrow(folder: Path, made: pa.Table | None = None, **options) -> Path:
    """As datasets' save_to_disk writes it, in two files of batches."""
    made = table() if made is None else made
    half = len(made) // 2
    files = []
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate((made.slice(0, half), made.slice(half))):
        files.append(f"data-{number:05d}-of-00002.arrow")
        with (
            pa.OSFile(str(folder / files[-1]), "wb") as file,
            pa.ipc.new_stream(file, made.schema, options=pa.ipc.IpcWriteOptions(**options)) as stream,
        ):
            stream.write_table(part, max_chunksize=7)
    state = {"_data_files": [{"filename": name} for name in files], "_split": "train"}
    write(folder / "state.json", json.dumps(state))
    write(folder / "dataset_info.json", json.dumps({"features": {}}))
    return folder


def make_arrow_splits(folder: Path, val: pa.Table | None = None) -> Path:
    for split, made in (("train", None), ("validation", val)):
        make_arrow(folder / split, made)
    write(folder / "dataset_dict.json", json.dumps({"splits": ["train", "validation"]}))
    return folder


def labelled(source):
    return {source.key(row): source.class_names[source.label(row)] for row in range(len(source))}
