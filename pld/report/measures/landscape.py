"""The paper's loss surfaces as numbers: each loss over a plane through a random teacher. Pure.

As in arXiv:2506.12542: a random unit-norm teacher t, random orthonormal directions d1 and d2, and the loss of the
student s = t + a d1 + b d2 for a and b from -5 norm(t) to 5 norm(t). The label, a choice of ours, is the teacher's most
probable class: what pulls the student away from t is then the loss, not a teacher that is wrong.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from pld.errors import ConfigError
from pld.losses import dist_loss, pld_loss

TITLE = "Loss of a student s = t + a d1 + b d2 around its teacher t"

# Half the plane's side, in norms of the teacher.
REACH = 5.0

PLD_TEMPERATURES = (2.0, 1.0, 0.5, 0.1)

# What is drawn: each takes students [B, C], teachers [B, C] and labels [B], and gives losses [B].
LOSSES: Mapping[str, Callable[..., Tensor]] = {
    **{f"PLD, T = {t:g}": functools.partial(pld_loss, temperature=t, reduction="none") for t in PLD_TEMPERATURES},
    # One sample has no columns to correlate: DIST's term over the samples of a batch is left out.
    "DIST": functools.partial(dist_loss, gamma=0.0, reduction="none"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plane:
    """Students t + a d1 + b d2.

    Attributes:
        teacher: [C], float64, of norm 1.
        directions: [2, C], float64, orthonormal.
    """

    teacher: Float[Tensor, "C"]
    directions: Float[Tensor, "2 C"]

    @property
    def label(self) -> int:
        """The teacher's most probable class."""
        return int(self.teacher.argmax())

    def students(self, a: Float[Tensor, "n"], b: Float[Tensor, "n"]) -> Float[Tensor, "n C"]:
        """The students at n points of the plane."""
        return self.teacher + torch.stack([a, b], dim=1) @ self.directions


def random_plane(num_classes: int, seed: int) -> Plane:
    """A teacher uniform on the unit sphere, and two orthonormal directions that do not depend on it.

    Raises:
        ConfigError: fewer than two classes, which have no plane, or a seed that is negative or beyond int64.
    """
    if num_classes < 2 or not 0 <= seed < 2**63:
        raise ConfigError(
            f"{num_classes} classes, seed {seed}: wanted at least 2 classes and a seed from 0 to 2^63 - 1"
        )
    generator = torch.Generator().manual_seed(seed)
    teacher, *directions = torch.randn(3, num_classes, generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(torch.stack(directions, dim=1)).Q
    return Plane(teacher=teacher / teacher.norm(), directions=basis.T)


def grid(plane: Plane, steps: int) -> Float[Tensor, "steps"]:
    """The values that a and b take: `steps` from -5 norm(t) to 5 norm(t).

    Raises:
        ConfigError: fewer than two steps.
    """
    if steps < 2:
        raise ConfigError(f"{steps} steps along each direction: wanted at least 2")
    reach = REACH * float(plane.teacher.norm())
    # From whole numbers, so that the middle one is 0.
    return torch.arange(1 - steps, steps, 2, dtype=torch.float64) * (reach / (steps - 1))


def surface(plane: Plane, loss: Callable[..., Tensor], points: Float[Tensor, "steps"]) -> Float[Tensor, "steps steps"]:
    """The loss at every (a, b) of the grid: element [i, j] is at a = points[i], b = points[j]."""
    num = len(points)
    teachers = plane.teacher.expand(num, -1)
    labels = torch.full((num,), plane.label)
    # A row at a time: a whole grid of students would not fit in memory with many classes.
    rows = [loss(plane.students(a.expand(num), points), teachers, labels) for a in points]
    return torch.stack(rows)


def paper_surfaces(
    num_classes: int, seed: int, steps: int
) -> tuple[Float[Tensor, "steps"], dict[str, Float[Tensor, "steps steps"]]]:
    """The values that a and b take, and the surfaces of LOSSES over one random plane; raises ConfigError as above."""
    plane = random_plane(num_classes, seed)
    points = grid(plane, steps)
    return points, {name: surface(plane, loss, points) for name, loss in LOSSES.items()}


def caption(num_classes: int, seed: int) -> str:
    """What a picture of the surfaces shows, and what was chosen for it."""
    return (
        f"{num_classes} classes; t random with norm 1, d1 and d2 random and orthonormal (seed {seed}); "
        f"a and b from -{REACH:g} to {REACH:g}; the label is the teacher's most probable class. Heights are above each "
        "surface's minimum; the PLD surfaces share one scale, DIST has its own. DIST is cross entropy + 2 (1 - "
        "correlation over the classes): its other term, over a batch's samples, is not defined for one sample and is "
        "left out."
    )
