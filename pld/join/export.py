"""Export image shards whose samples carry their logits, for plain webdataset pipelines that train without a store.

docs/webdataset_pipeline.md trains from them.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pld.errors import OutputError, StoreError
from pld.files import write_atomically, writing
from pld.images import Source
from pld.images.dataset import read_image
from pld.images.sources.tar_members import add_member, check_keys, image_extension
from pld.join.match import join_source, stored_policy
from pld.join.pixel_probes import compare_probes
from pld.signals import TopK
from pld.store import Store
from pld.views import View, draw_view

ABOUT_FILE = "export.json"
# What of a view an export carries.
_BOX = ("top", "left", "height", "width", "flip")


def export_with_images(
    store: Store, source: Source, out: Path, view: int, on_images: Callable[[int], object]
) -> str | None:
    """Write `out/SHARD.tar` for each image shard that does not exist yet.

    A sample consists of KEY.jpg (or .png, ...; the bytes unchanged), KEY.cls, KEY.view.json (the crop's box in pixels
    of the image, and whether it is mirrored), KEY.topk.npy (float32 [2, k]: classes, most probable first, and their
    log-probabilities) and KEY.rest.npy (float32 [1 + T]: the label's log-probability, and the tail's log mass at each
    temperature). Without labels there is no KEY.cls, and KEY.rest.npy is [T]. `out/export.json` describes the store
    that they come from.

    Args:
        store: the teacher's logits.
        source: the store's images, or some of them.
        out: a folder, created if missing.
        view: the view whose logits the samples carry.
        on_images: called with 1 after each image.

    Returns:
        A warning if this machine's pixels differ a little from those that the teacher saw.

    Raises:
        DataError: the source does not match the store, or a key has a dot, at which webdataset would cut it.
        DifferentPixelsError: these are not the images that the teacher saw.
        StoreError: the store's views have steps after their crop, or as many classes as an error asks for; an export
            can carry neither.
        OutputError: `out` holds another export, or tars that no export wrote, or cannot be written.
        NotCachedError: the store does not hold the view.
    """
    policy = stored_policy(store)
    if policy.steps:
        raise StoreError(
            f"{store.url}: its views are not crops alone, but have steps: {', '.join(s.name for s in policy.steps)}. "
            "An export says where to crop and flip and no more: readers would see other pixels than the teacher. Train "
            "from the store itself (train-student), or export one that was cached without these steps"
        )
    if store.manifest.identity.codec.error is not None:
        raise StoreError(
            f"{store.url}: keeps as many classes of each view as an error asks for, and an export has the same number "
            "for all. Train from the store itself (train-student), or export one that was cached without --error"
        )
    source = join_source(store, source)
    check_keys(source)
    warning = compare_probes(store.probes, source, policy, store.url)
    table = store.load_view(view)
    rows = table.rows(source.keys)
    _write_about(out, _about(store, source, view, table[rows[:1]].logprob_error))
    first = 0
    for shard in source.shards:
        mine = range(first, first := first + shard.num_samples)
        path = out / f"{shard.name}.tar"
        if not mine or path.exists():
            on_images(len(mine))
            continue
        topk = table[rows[mine.start : mine.stop]]
        with writing(path), write_atomically(path, unique=False) as temporary, tarfile.open(temporary, "w") as tar:
            for index, row in enumerate(mine):
                image = read_image(source, row)  # decoded for its size, and to export no broken image
                box = draw_view(source.key(row), view, (image.shape[1], image.shape[2]), policy)
                for extension, content in _members(source.read(row), box, topk, index).items():
                    add_member(tar, f"{source.key(row)}.{extension}", content)
                on_images(1)
    return warning


def _members(data: bytes, box: View, topk: TopK, row: int) -> Mapping[str, bytes]:
    entries = np.stack([topk.classes[row].numpy(), topk.logprobs[row].numpy()]).astype(np.float32)
    rest = [topk.tail_logmass[row].numpy()]
    label: dict[str, bytes] = {}
    if topk.labels is not None and topk.label_logprob is not None:
        rest.insert(0, topk.label_logprob[row, None].numpy())
        label["cls"] = str(int(topk.labels[row])).encode()
    return {
        image_extension(data): data,
        **label,
        "view.json": json.dumps({name: getattr(box, name) for name in _BOX}).encode(),
        "topk.npy": _npy(entries),
        "rest.npy": _npy(np.concatenate(rest).astype(np.float32)),
    }


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _about(store: Store, source: Source, view: int, logprob_error: float) -> dict[str, Any]:
    identity = store.manifest.identity
    return {
        "fingerprint": identity.fingerprint,
        "teacher": identity.teacher.full_name,
        "num_classes": identity.teacher.num_classes,
        **({} if store.is_labelled else {"labelled": False}),
        "view": view,
        "interpolation": identity.teacher.interpolation,
        "temperatures": list(identity.codec.temperatures),
        "logprob_error": logprob_error,
        "shards": {shard.name: shard.num_samples for shard in source.shards},
    }


def _write_about(out: Path, about: Mapping[str, Any]) -> None:
    path, text = out / ABOUT_FILE, json.dumps(about, indent=2) + "\n"
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.read_text() != text:
            raise OutputError(
                f"{out}: holds the export of another store or view, or of other image shards; name another folder"
            )
        taken = [] if path.exists() else [name for name in about["shards"] if (out / f"{name}.tar").exists()]
        if taken:
            raise OutputError(f"{out}: has {taken[0]}.tar, which no export wrote; name another folder")
        path.write_text(text)
