"""Check that the labels and the teacher's classes are in the same order."""

from __future__ import annotations

import dataclasses
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """What was seen of a teacher, as shares of the views.

    Attributes:
        num_views: views counted.
        num_images: images that they are of. Views of one image are mistaken alike, so errors count images.
        accuracy: how often the label was chosen.
        confidence: the mean probability of the choice: how often the teacher expects to be right.
        chance: the accuracy if choices had nothing to do with labels: the product of both frequencies over all classes.
        renamed: the accuracy after the teacher's classes are renamed, at most one to a label: names that half of the
            images suggest, tried on the other half.
    """

    num_views: int
    num_images: int
    accuracy: float
    confidence: float
    chance: float
    renamed: float

    @property
    def promises_more(self) -> bool:
        """Whether the teacher is surely less accurate than its confidence says, and than chance would not explain."""
        return _exceeds(self.confidence, max(self.accuracy, self.chance), self.num_images)

    @property
    def are_of_another_order(self) -> bool:
        """Whether labels and classes are probably in different orders."""
        above_chance = _exceeds(self.accuracy, self.chance, self.num_images, error_of=self.chance)
        by_renaming = self.renamed > _RENAMED * self.accuracy
        return (self.promises_more and not above_chance) or (
            by_renaming and _exceeds(self.renamed, self.accuracy, self.num_images // 2)
        )

    @property
    def are_doubtful(self) -> bool:
        """Whether the teacher is much less accurate than it expects to be."""
        return self.promises_more and self.accuracy < _MUCH_LESS * self.confidence

    def __str__(self) -> str:
        return (
            f"the teacher is right on {100 * self.accuracy:.1f} % of the first {self.num_views:,} views; by chance it "
            f"would be on {100 * self.chance:.1f} %, and its mean confidence is {100 * self.confidence:.1f} %"
        )


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
        if not self._num_views:
            return
        pairs = self._halves[0] + self._halves[1]
        figures = Figures(
            num_views=self._num_views,
            num_images=self._num_images,
            accuracy=sum(count for (label, choice), count in pairs.items() if label == choice) / self._num_views,
            confidence=self._confidence / self._num_views,
            chance=_chance(pairs, self._num_classes),
            renamed=_accuracy_renamed(*self._halves),
        )
        if figures.are_of_another_order:
            raise DataError(
                f"{figures}: its classes are probably in another order than the labels{self._seen(pairs)}. "
                f"{self._advice}"
            )
        if figures.are_doubtful and not self._warned:
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
    """See Figures.chance."""
    labels, num = _labels(pairs), pairs.total()
    if max(labels.values()) > _LOPSIDED * num:
        return 1 / num_classes
    return sum(count * labels[choice] for (_, choice), count in pairs.items()) / num**2


def _accuracy_renamed(seen: Pairs, others: Pairs) -> float:
    """See Figures.renamed. Each label takes the most frequent choice that no other label has taken."""
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
