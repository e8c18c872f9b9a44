"""A Teacher: a frozen model, its preprocessing and its identity."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from pld.images import Source
from pld.loading import decode_views, view_decoder
from pld.precision import Precision, autocast
from pld.views import MixingPlan, Policy
from pld.views.preprocessing import Preprocessing

_VIEWS_AT_ONCE = 64


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Teacher:
    """A frozen model, its preprocessing and its identity.

    Attributes:
        model: in evaluation mode, its parameters without gradients.
        preprocessing: what its weights were trained with.
        architecture: timm's name of the architecture; of other libraries' models with their prefix, such as
            `torchvision:resnet50`, `transformers:ViTForImageClassification` or `python:package.module:function`.
        tag: the library's name of the weights; for weights from a file, the tag that the user gave, or empty.
        weights_sha256: of its tensors, independent of the file format.
        num_classes: of the model.
        precision: of its forward pass.
        class_names: of the model's classes in their order; None if unknown.
        names_inferred: whether the names are not stated anywhere, but inferred from the number of classes.
        code_sha256: of the source code of a model of one's own, or of transformers' config.json; None for others.
        notes: what was chosen or assumed when it was built, a sentence each.
        columns: the model's classes that are the dataset's, in the dataset's order; None for all in the model's order.
    """

    model: nn.Module
    preprocessing: Preprocessing
    architecture: str
    tag: str
    weights_sha256: str
    num_classes: int
    precision: Precision = "fp32"
    class_names: tuple[str, ...] | None = None
    names_inferred: bool = False
    code_sha256: str | None = None
    notes: tuple[str, ...] = ()
    columns: tuple[int, ...] | None = None

    @property
    def num_outputs(self) -> int:
        """C, the number of the dataset's classes, for which it gives logits."""
        return self.num_classes if self.columns is None else len(self.columns)

    # Not inference_mode: its tensors cannot be saved for a loss's backward pass.
    @torch.no_grad()
    def logits(self, images: UInt8[Tensor, "B 3 h w"]) -> Float[Tensor, "B C"]:
        """Logits of the dataset's classes in float32, for uint8 images of its input size on its device.

        Their softmax is the model's, restricted to these classes and renormalised.
        """
        return self.select_classes(self.model_logits(images))

    @torch.no_grad()
    def model_logits(self, images: UInt8[Tensor, "B 3 h w"]) -> Float[Tensor, "B M"]:
        """The same for all of the model's classes."""
        with autocast(images.device, self.precision):
            logits: Tensor = self.model(self.preprocessing.normalize(images))
        return logits.float()

    def select_classes(self, logits: Float[Tensor, "B M"]) -> Float[Tensor, "B C"]:
        """Select the logits of the dataset's classes from the model's."""
        return logits if self.columns is None else logits[:, _index(self.columns, logits.device)]

    def unmapped_mass(self, logits: Float[Tensor, "B M"]) -> Float[Tensor, "B"]:
        """The probability at T = 1 of the classes that the dataset does not have, from the model's logits."""
        if self.columns is None or len(self.columns) == self.num_classes:
            return logits.new_zeros(len(logits))
        probabilities = logits.double().softmax(dim=1)
        probabilities[:, _index(self.columns, logits.device)] = 0
        return probabilities.sum(dim=1).to(logits.dtype)


@functools.lru_cache(maxsize=16)
def _index(columns: tuple[int, ...], device: torch.device) -> Int[Tensor, "C"]:
    """The columns as a tensor, copied to each device once."""
    with torch.inference_mode(mode=False):
        return torch.tensor(columns, device=device)


def view_logits(
    teacher: Teacher,
    source: Source,
    rows: Sequence[int],
    view_index: int,
    policy: Policy,
    plan: MixingPlan | None = None,
) -> Float[Tensor, "N C"]:
    """A teacher's logits for one view of some images, computed on the CPU.

    Args:
        teacher: on the CPU.
        source: the images.
        rows: which images, at least one.
        view_index: which view of them.
        policy: how views are drawn.
        plan: what they are mixed with, if they are.

    Raises:
        UndecodableImageError: an image cannot be decoded; names the sample.
        DataError: an image cannot be read.
        ConfigError: the policy mixes images and there is no plan.
    """
    decoder = view_decoder(source, policy, [teacher.preprocessing])
    logits = []
    for first in range(0, len(rows), _VIEWS_AT_ONCE):
        (images,) = decode_views(decoder, rows[first : first + _VIEWS_AT_ONCE], [view_index], plan)
        logits.append(teacher.logits(images.flatten(0, 1)))
    return torch.cat(logits)
