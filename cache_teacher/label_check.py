"""Label check: stop a teacher whose classes are not in the order of the labels."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeVar

from pld.errors import DataError
from pld.signals import TopK

# Views after which the check first decides. It decides again at twice as many, and so on, and at the end, because the
# first images of a folder are of one class.
_FIRST_VIEWS = 2000
# Differences above this many standard errors are significant; at 3 one correct teacher in a thousand would be stopped.
_STANDARD_ERRORS = 4.0
# Warn if accuracy is below this share of the mean confidence.
_DOUBTFUL_SHARE = 0.5
# Stop if permuted classes are right this many times as often; a correct teacher's confusions do not reach it.
_PERMUTED_GAIN = 1.5
# If one class has more than this share of the labels, chance is taken as 1 / C: predictions that ignore the image are
# nearly always right.
_IMBALANCED = 0.5
_MAX_SHOWN = 3
T = TypeVar("T")
# A sparse confusion matrix: the number of views by (label, prediction), the teacher's most probable class.
Confusion = Counter[tuple[int, int]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelStatistics:
    """How well a teacher's predictions agree with the labels, as shares of the views.

    Attributes:
        num_views: views counted.
        num_images: their images. A teacher errs alike on views of one image, so standard errors count images.
        accuracy: how often the label was predicted.
        confidence: the mean probability of the prediction, which is the teacher's own estimate of its accuracy.
        chance: the accuracy if predictions were independent of labels: the product of both frequencies, summed over
            all classes.
        permuted: the accuracy after each label is given the prediction that suits it best, fitted on half of the
            images and measured on the other half.
    """

    num_views: int
    num_images: int
    accuracy: float
    confidence: float
    chance: float
    permuted: float

    @property
    def is_overconfident(self) -> bool:
        """Whether the teacher's confidence is significantly above both its accuracy and chance."""
        return _is_above(self.confidence, max(self.accuracy, self.chance), self.num_images)

    @property
    def is_in_other_order(self) -> bool:
        """Whether labels and classes are probably in different orders."""
        above_chance = _is_above(self.accuracy, self.chance, self.num_images, error_of=self.chance)
        gains = self.permuted > _PERMUTED_GAIN * self.accuracy
        return (self.is_overconfident and not above_chance) or (
            gains and _is_above(self.permuted, self.accuracy, self.num_images // 2)
        )

    @property
    def is_doubtful(self) -> bool:
        """Whether the teacher is much less accurate than it is confident."""
        return self.is_overconfident and self.accuracy < _DOUBTFUL_SHARE * self.confidence

    def __str__(self) -> str:
        return (
            f"the teacher is right on {100 * self.accuracy:.1f} % of the first {self.num_views:,} views; by chance it "
            f"would be on {100 * self.chance:.1f} %, and its mean confidence is {100 * self.confidence:.1f} %"
        )


class LabelCheck:
    """Counts a teacher's predictions, and stops it if its classes are probably in another order than the labels.

    Two rules stop it: it is confident but right no more often than by chance, or a permutation of its classes would be
    right 1.5 times as often.
    """

    def __init__(
        self, num_classes: int, class_name: Callable[[int], str], advice: str, warn: Callable[[str], object]
    ) -> None:
        """Start counting.

        Args:
            num_classes: C.
            class_name: the name of a class, for messages.
            advice: what to do if the order is wrong.
            warn: called once if the teacher is much less accurate than it is confident.
        """
        self._num_classes, self._class_name, self._advice, self._warn = num_classes, class_name, advice, warn
        self._halves: tuple[Confusion, Confusion] = (Counter(), Counter())
        self._num_views, self._num_images, self._confidence = 0, 0, 0.0
        self._next, self._warned = _FIRST_VIEWS, False

    @property
    def has_passed(self) -> bool:
        """Whether the teacher has been checked on enough views."""
        return self._num_views >= _FIRST_VIEWS

    def add(self, topk: TopK, rows: Sequence[int], *, new_images: bool = True) -> None:
        """Count the views of some images.

        Args:
            topk: their signals, image by image, with the same number of views of each.
            rows: the images' rows in the dataset. All views of an image are in the same half.
            new_images: whether none of them was counted before, in another view.

        Raises:
            DataError: enough views were seen, and the order is probably wrong.
        """
        assert topk.labels is not None  # images without labels are not checked
        views_each = len(topk.labels) // len(rows)
        pairs = zip(topk.labels.tolist(), topk.classes[:, 0].tolist(), strict=True)
        for index, pair in enumerate(pairs):
            self._halves[rows[index // views_each] % 2][pair] += 1
        self._num_views += len(topk.labels)
        self._num_images += len(rows) if new_images else 0
        self._confidence += float(topk.logprobs[:, 0].double().exp().sum())
        if self._num_views >= self._next:
            self._next = 2 * self._num_views
            self.conclude()

    def conclude(self) -> None:
        """Raise DataError if the order is probably wrong; warn once if it may be."""
        if not self._num_views:
            return
        confusion = self._halves[0] + self._halves[1]
        right = sum(count for (label, choice), count in confusion.items() if label == choice)
        statistics = LabelStatistics(
            num_views=self._num_views,
            num_images=self._num_images,
            accuracy=right / self._num_views,
            confidence=self._confidence / self._num_views,
            chance=_chance(confusion, self._num_classes),
            permuted=_permuted_accuracy(*self._halves),
        )
        if statistics.is_in_other_order:
            raise DataError(
                f"{statistics}: its classes are probably in another order than the labels"
                f"{self._describe_mistakes(confusion)}. {self._advice}"
            )
        if statistics.is_doubtful and not self._warned:
            mistakes = self._describe_mistakes(confusion)
            self._warn(f"{statistics}: are its classes in the order of the labels?{mistakes}")
            self._warned = True

    def _describe_mistakes(self, confusion: Confusion) -> str:
        """The most frequent mistakes, for a message."""
        labels, name = _count_labels(confusion), self._class_name
        wrong = [(pair, count) for pair, count in confusion.most_common() if pair[0] != pair[1]][:_MAX_SHOWN]
        shown = [
            f"{name(label)!r} for {name(choice)!r} {100 * count / labels[label]:.0f} %"
            for (label, choice), count in wrong
        ]
        return f" (taken: {', '.join(shown)})" if shown else ""


def _count_labels(confusion: Confusion) -> Counter[int]:
    """The number of views of each label."""
    counts = Counter[int]()
    for (label, _), count in confusion.items():
        counts[label] += count
    return counts


def _chance(confusion: Confusion, num_classes: int) -> float:
    """See LabelStatistics.chance."""
    labels, num = _count_labels(confusion), confusion.total()
    if max(labels.values()) > _IMBALANCED * num:
        return 1 / num_classes
    return sum(count * labels[choice] for (_, choice), count in confusion.items()) / num**2


def _permuted_accuracy(fitted: Confusion, measured: Confusion) -> float:
    """See LabelStatistics.permuted; greedy: each label gets its most frequent prediction that is not taken yet."""
    assigned: dict[int, int] = {}
    taken: set[int] = set()
    for (label, choice), _ in fitted.most_common():
        if label not in assigned and choice not in taken:
            assigned[label] = choice
            taken.add(choice)
    right = sum(count for (label, choice), count in measured.items() if assigned.get(label) == choice)
    return right / max(1, measured.total())


def _is_above(share: float, other: float, num: int, *, error_of: float | None = None) -> bool:
    """Whether a share of `num` images is significantly above another; `error_of`: whose standard error, if not its."""
    error_of = share if error_of is None else error_of
    num = max(1, num)
    # At least the error of one image: a share of 0 or 1 is not certain.
    return share - other > _STANDARD_ERRORS * math.sqrt(max(error_of * (1 - error_of), 1 / num) / num)


def hold_until_passed(parts: Iterator[T], check: LabelCheck) -> Generator[T, None, None]:
    """Yield the parts, but none before the check has passed, so that no part with wrong labels is written."""
    waiting: list[T] = []
    for part in parts:
        waiting.append(part)
        if check.has_passed:
            yield from waiting
            waiting = []
    check.conclude()
    yield from waiting
