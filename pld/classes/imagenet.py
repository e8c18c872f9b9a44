"""Recognise ImageNet's 1000 classes, in their usual order, by the English words that libraries name them with."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from pld.classes.names import imagenet_names

_NUM_CLASSES = 1000
# Of these; torchvision renamed two ("crane bird"), others correct spellings. In another order almost none agree.
_MOST_RENAMED = 10


def recognise_imagenet(labels: Sequence[str]) -> tuple[str, ...] | None:
    """The WordNet ids of ImageNet-1k, if these labels are its classes in their order; else None.

    The words are no names to match by: two classes are called "crane", and libraries shorten the lists of synonyms. A
    label is taken for a class if the two have a synonym in common ("tench" and "tench, Tinca tinca"). All but ten of
    the 1000 must agree, and a label that does not must be no synonym of any class: else classes have changed places.
    """
    if len(labels) != _NUM_CLASSES:  # before timm is imported, which takes seconds
        return None
    known = _synonyms()
    renamed = [words for words, own in zip(map(_split, labels), known, strict=True) if words.isdisjoint(own)]
    misplaced = not frozenset().union(*renamed).isdisjoint(frozenset().union(*known))
    return None if len(renamed) > _MOST_RENAMED or misplaced else imagenet_names("imagenet-1k")


@functools.cache
def _synonyms() -> tuple[frozenset[str], ...]:
    """Each class's synonyms, and its WordNet id."""
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    described = zip(info.label_descriptions(), info.label_names(), strict=True)
    return tuple(_split(f"{words}, {wordnet_id}") for words, wordnet_id in described)


def _split(label: str) -> frozenset[str]:
    return frozenset(word.strip().lower() for word in label.replace("_", " ").split(","))
