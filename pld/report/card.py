"""A store's card: README.md for people who meet the store without its author, and a Hugging Face dataset card.

The front matter follows huggingface.co/docs/hub/datasets-cards.
"""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

from pld.errors import NotCachedError
from pld.extras import install_command
from pld.report.table import store_rows, views_text
from pld.store import CodecIdentity, Store
from pld.store.objects.storage import Storage

CARD_NAME = "README.md"
_MARK = "<!-- Written by `pld card`. Without this line it is yours and stays as it is. -->"
_TEMPLATE = Path(__file__).with_name("templates") / "card.md"
_ACCURACY = "The teacher's accuracy is over these views, crops included, and not the one that it is published with."
_NO_LABELS = "The images have no labels: the teacher alone ranks, and how often it is right is not known."
_MAX_BYTES = 2**24
_MAX_CLASS_NAMES = 20


def dataset_card(store: Store, license_name: str, url: str) -> str:
    """The card's text.

    Args:
        store: described as far as it is complete.
        license_name: an identifier of huggingface.co/docs/hub/repositories-licenses.
        url: where readers find the store.
    """
    teacher, codec = store.manifest.identity.teacher, store.manifest.identity.codec
    title = f"{teacher.full_name}: {_kept(codec, teacher.num_classes)}, {store.num_views} views an image"
    metadata: dict[str, Any] = {
        "license": license_name,
        "pretty_name": title,
        "tags": ["knowledge-distillation", "logits", "plackett-luce", "pld-distill"],
        "task_categories": ["image-classification"],
        "size_categories": [_size_category(store.num_samples)],
        "viewer": False,
    }
    # A JSON value is a YAML one.
    front = "\n".join(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in metadata.items())
    rows = "\n".join(f"| {_plain(name)} | {_plain(value)} |" for name, value in _facts(store))
    return _TEMPLATE.read_text().format(
        front=front,
        mark=_MARK,
        plain_title=_plain(title),
        num_samples=store.num_samples,
        num_views=store.num_views,
        rows=rows,
        install=install_command("s3" if url.startswith("s3://") else None),
        url=url,
        quoted_url=json.dumps(url),
        reach=_reach(store),
        accuracy=_ACCURACY if store.is_labelled else _NO_LABELS,
        license=license_name,
    )


def write_card(storage: Storage, text: str) -> bool:
    """Put the card beside the store, unless there is a README that somebody has made their own; whether it did."""
    if not is_generated(read_card(storage)):
        return False
    storage.put(CARD_NAME, text.encode())
    return True


def read_card(storage: Storage) -> str | None:
    """The README beside a store; None without one."""
    try:
        return storage.read(CARD_NAME, _MAX_BYTES).decode(errors="replace")
    except NotCachedError:
        return None


def card_license(text: str) -> str:
    """The licence that a card of `dataset_card` states."""
    found = re.search(r'^license: "(.*)"$', text, re.MULTILINE)
    return found[1] if found else "unknown"


def is_generated(text: str | None) -> bool:
    """Whether a README may be replaced: there is none, or it still says that it was written by this file."""
    return text is None or _MARK in text


def _facts(store: Store) -> list[tuple[str, str]]:
    identity, provenance = store.manifest.identity, store.manifest.provenance
    teacher, names = identity.teacher, identity.dataset.class_names
    facts = [
        *store_rows(store),
        ("weights' sha256", teacher.weights_sha256),
        ("teacher's input", f"{teacher.input_size[0]} x {teacher.input_size[1]}, {teacher.interpolation}"),
        ("views drawn by", views_text(identity.views)),
        ("temperatures", ", ".join(f"{t:g}" for t in identity.codec.temperatures)),
        ("made", str(provenance.get("date", "unknown"))),
    ]
    if names and len(names) <= _MAX_CLASS_NAMES:
        facts.append(("classes", ", ".join(names)))
    return facts


def _kept(codec: CodecIdentity, num_classes: int) -> str:
    """Such as "top 10 of 1000 classes and 8 drawn from the others"."""
    at_most = "" if codec.error is None else "at most the "
    drawn = f" and {codec.tail_samples} drawn from the others" if codec.tail_samples else ""
    return f"{at_most}top {codec.k} of {num_classes} classes{drawn}"


def _reach(store: Store) -> str:
    codec, num_classes = store.manifest.identity.codec, store.manifest.identity.teacher.num_classes
    if codec.holds_all(num_classes):
        which = "every loss" if store.is_labelled else "every loss that needs no label"
        return f"All classes are here, so {which} can use it."
    the = "the " if codec.error is None else ""
    if codec.tail_samples:
        drawn = "the classes drawn make KD right on average at each temperature that is kept; "
        needs_all = "what else needs all of them (DIST above temperature 1, ListMLE)"
    else:
        drawn, needs_all = "", "what needs all of them (KD or DIST above temperature 1, ListMLE)"
    return (
        f"With {the}{_kept(codec, num_classes)}, {drawn}{needs_all} can only be approximated, and is refused unless "
        "you insist."
    )


def _size_category(num_samples: int) -> str:
    """As the hub names them: n<1K, 1K<n<10K, ..."""
    bounds = ["1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T"]
    names = ["n<1K", *(f"{low}<n<{high}" for low, high in itertools.pairwise(bounds)), "n>1T"]
    return names[sum(num_samples >= 10.0 ** (3 + i) for i in range(len(bounds)))]


def _plain(text: str) -> str:
    """Text of a stranger's manifest as text in Markdown: on one line, without markup."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))
