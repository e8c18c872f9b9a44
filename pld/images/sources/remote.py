"""Open tar shards behind URLs."""

from __future__ import annotations

from urllib.parse import urlsplit

from braceexpand import UnbalancedBracesError, braceexpand  # type: ignore[attr-defined]

from pld.errors import DataError
from pld.images.sources.description import (
    DATASET_FILE,
    Description,
    GivenClasses,
    common_description,
    describe_tars,
    parse_description,
)
from pld.images.sources.image_files import is_junk
from pld.images.sources.source import Source
from pld.images.sources.splits import choose_split, names_split, shard_group
from pld.images.sources.tars import remote_tar_source
from pld.remote.driver import without_password
from pld.remote.image_shards import RemotePlace


def open_remote(location: str, split: str, given: GivenClasses) -> Source:
    """The Source of a URL, of a pattern of URLs, or of a split of a folder behind one; raises as `open_source`."""
    urls = expand_braces(location)
    place = RemotePlace(urls[0])
    folder = urls[0].rpartition("/")[0]
    if len(urls) == 1 and not urlsplit(location).path.endswith(".tar"):
        folder = location.rstrip("/")
        urls = _list_remote_shards(place, folder, split)
    source = remote_tar_source(without_password(location), place, place.shards(urls), unlabelled=given.unlabelled)
    folders = dict.fromkeys([folder, *(url.rpartition("/")[0] for url in urls)])
    description = common_description([_remote_description(place, each) for each in folders], location)
    return describe_tars(source, description, given)


def _list_remote_shards(place: RemotePlace, folder: str, split: str) -> list[str]:
    """The URLs of a split's shards; those of all shards where no name says a split."""
    tars = [name for name in place.names(folder) if name.endswith(".tar") and not is_junk(name)]
    groups = {name: shard_group(name.removesuffix(".tar")) for name in tars}
    group = choose_split(split, sorted(set(groups.values())), without_password(folder))
    chosen = [name for name in tars if groups[name] == group]
    if not chosen and not any(map(names_split, tars)):
        chosen = tars
    if not chosen:
        others = ", ".join(sorted(set(groups.values()))) or "no tars at all"
        raise DataError(
            f"{without_password(folder)}: no {split}-*.tar; found {others}. Name a split that is there with "
            "--split (--val_split for validation). Behind URLs --data wants tar shards; pack a folder of images "
            "into shards first, or copy it to a local disk"
        )
    return [f"{folder}/{name}" for name in chosen]


def _remote_description(place: RemotePlace, folder: str) -> Description | None:
    """The dataset.json next to the shards, or one folder up unless that is the list of buckets."""
    parent = folder.rpartition("/")[0]
    for found in [folder] if parent.endswith((":/", ":")) else [folder, parent]:
        url = f"{found}/{DATASET_FILE}"
        text = place.text(url)
        if text is not None:
            return parse_description(text, without_password(url))
    return None


def expand_braces(location: str) -> list[str]:
    """The names that a brace pattern stands for; raises DataError if its braces do not match."""
    try:
        return list(braceexpand(location))
    except UnbalancedBracesError as error:
        raise DataError(f"{location}: unbalanced braces; wanted e.g. 'train-{{0000..0009}}.tar'") from error
