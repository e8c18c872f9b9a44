"""A kind of teacher: `--teacher mean_colour:10` classifies by an image's mean colour, as surely as the number says."""

import torch

from pld.teachers import register_teacher

COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}


class MeanColour(torch.nn.Module):
    """Logits are closer to 0 the nearer the mean colour is to a class's."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.register_buffer("colours", torch.tensor(list(COLOURS.values())))
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, h, w], normalised -> logits [B, C]."""
        return -self.scale * torch.cdist(images.mean((2, 3)), self.colours)


@register_teacher("mean_colour")
def mean_colour(model: str) -> tuple[torch.nn.Module, dict[str, object], list[str]]:
    """The model, its preprocessing and its classes; `model` is what follows `mean_colour:`."""
    return MeanColour(float(model)), {"input_size": (32, 32), "mean": (0, 0, 0), "std": (1, 1, 1)}, list(COLOURS)
