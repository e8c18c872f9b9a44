"""Check that the labels and the teacher's classes are in the same order."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeVar

from pld.errors import DataError
from pld.signals import TopK

# Views after which the check decides first; then again at twice as many, and so on, and at the end: the first images of
# a folder are of one class.
_FIRST_VIEWS = 2000
# Differences above this many standard errors are not chance; at 3 one honest teacher in a thousand would be stopped.
_SURE = 4.0
# Warn where accuracy is below this share of the mean confidence.
_MUCH_LESS = 0.5
# Stop where renamed classes are right this many times as often; an honest teacher's confusions do not reach it.
_RENAMED = 1.5
# If one class has more than this share of the labels, chance is taken as 1 / C: choices that never heed the image are
# as good as right.
_LOPSIDED = 0.5
_MAX_SHOWN = 3
T = TypeVar("T")
# How often a label met a choice, the teacher's most probable class.
Pairs = Counter[tuple[int, int]]


class LabelCheck:
    """Counts a teacher's choices, and stops it where its classes are probably in another order than the labels.

    Two rules stop it: it is right no more often than by chance although it is confident, or a renaming of its classes
    would be right 1.5 times as often.
    """

    def __init__(
        self, num_classes: int, class_name: Callable[[int], str], advice: str, warn: Callable[[str], object]
    ) -> None:
        """Begin to count.

        Args:
            num_classes: C.
            class_name: the name of a class, for messages.
            advice: what to do where the order is wrong.
            warn: told once, where the teacher is much less accurate than it expects to be.
        """
        self._num_classes, self._class_name, self._advice, self._warn = num_classes, class_name, advice, warn
        self._halves: tuple[Pairs, Pairs] = (Counter(), Counter())
        self._num_views, self._num_images, self._confidence = 0, 0, 0.0
        self._next, self._warned = _FIRST_VIEWS, False

    @property
    def has_passed(self) -> bool:
        """Whether enough views were seen to let the teacher go on."""
        return self._num_views >= _FIRST_VIEWS

    def add(self, topk: TopK, rows: Sequence[int]) -> None:
        """Count the views of some images.

        Args:
            topk: their signals, image after image, the same number of views of each.
            rows: the images' rows in the dataset. All views of an image are in the same half.

        Raises:
            DataError: enough views were seen, and the order is probably wrong.
        """
        views_each = len(topk.labels) // len(rows)
        pairs = zip(topk.labels.tolist(), topk.classes[:, 0].tolist(), strict=True)
        for place, pair in enumerate(pairs):
            self._halves[rows[place // views_each] % 2][pair] += 1
        self._num_views += len(topk.labels)
        self._num_images += len(rows)
        self._confidence += float(topk.logprobs[:, 0].double().exp().sum())
        if self._num_views >= self._next:
            self._next = 2 * self._num_views
            self.conclude()

    def conclude(self) -> None:
        """Raise DataError if the order is probably wrong; warn once if it may be."""
        num = self._num_views
        if not num:
            return
        pairs = self._halves[0] + self._halves[1]
        accuracy = sum(count for (label, choice), count in pairs.items() if label == choice) / num
        confidence = self._confidence / num  # how often the teacher expects to be right
        chance = _chance(pairs, self._num_classes)
        renamed = _accuracy_renamed(*self._halves)
        # Views of one image are mistaken alike, so errors count images.
        promises_more = _exceeds(confidence, max(accuracy, chance), self._num_images)
        above_chance = _exceeds(accuracy, chance, self._num_images, error_of=chance)
        by_renaming = renamed > _RENAMED * accuracy and _exceeds(renamed, accuracy, self._num_images // 2)
        figures = (
            f"the teacher is right on {100 * accuracy:.1f} % of the first {num:,} views; by chance it would be on "
            f"{100 * chance:.1f} %, and its mean confidence is {100 * confidence:.1f} %"
        )
        if (promises_more and not above_chance) or by_renaming:
            raise DataError(
                f"{figures}: its classes are probably in another order than the labels{self._seen(pairs)}. "
                f"{self._advice}"
            )
        if promises_more and accuracy < _MUCH_LESS * confidence and not self._warned:
            self._warn(f"{figures}: are its classes in the order of the labels?{self._seen(pairs)}")
            self._warned = True

    def _seen(self, pairs: Pairs) -> str:
        """The commonest mistakes, for a message."""
        labels, name = _labels(pairs), self._class_name
        wrong = [(pair, count) for pair, count in pairs.most_common() if pair[0] != pair[1]][:_MAX_SHOWN]
        often = [
            f"{name(label)!r} for {name(choice)!r} {100 * count / labels[label]:.0f} %"
            for (label, choice), count in wrong
        ]
        return f" (taken: {', '.join(often)})" if often else ""


def _labels(pairs: Pairs) -> Counter[int]:
    """How many views each label has."""
    found = Counter[int]()
    for (label, _), count in pairs.items():
        found[label] += count
    return found


def _chance(pairs: Pairs, num_classes: int) -> float:
    """The accuracy if choices had nothing to do with labels: the product of both frequencies over all classes."""
    labels, num = _labels(pairs), pairs.total()
    if max(labels.values()) > _LOPSIDED * num:
        return 1 / num_classes
    return sum(count * labels[choice] for (_, choice), count in pairs.items()) / num**2


def _accuracy_renamed(seen: Pairs, others: Pairs) -> float:
    """The accuracy after the teacher's classes are renamed: names that half of the images suggest, tried on the others.

    Each label takes the most frequent choice that no other label has taken.
    """
    names: dict[int, int] = {}
    taken: set[int] = set()
    for (label, choice), _ in seen.most_common():
        if label not in names and choice not in taken:
            names[label] = choice
            taken.add(choice)
    right = sum(count for (label, choice), count in others.items() if names.get(label) == choice)
    return right / max(1, others.total())


def _exceeds(share: float, other: float, num: int, *, error_of: float | None = None) -> bool:
    """Whether a share of `num` images is surely above another; `error_of` is the share whose standard error counts."""
    error_of = share if error_of is None else error_of
    # No less than the error of a single one: a share of 0 or 1 is not certain.
    num = max(1, num)
    return share - other > _SURE * math.sqrt(max(error_of * (1 - error_of), 1 / num) / num)


def hold_until_passed(parts: Iterator[T], check: LabelCheck) -> Generator[T, None, None]:
    """Yield the parts, but none before the check has passed: parts with wrong labels are not written."""
    waiting: list[T] = []
    for part in parts:
        waiting.append(part)
        if check.has_passed:
            yield from waiting
            waiting = []
    check.conclude()
    yield from waiting
