"""Runs of students that begin with weights: their command lines, and a model whose weights they begin with."""

import json

from safetensors.torch import load_file

SMALL = {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16], "stem_width": 8}  # a sure teacher's
# Nothing changes but what moves by itself.
STILL = {"lr": 0.0, "opt": "sgd", "epochs": 1, "freeze_bn": True}


def arguments(data, output, **settings):
    """Of a short run on the colours."""
    base = {"loss": "ce", "model": "resnet18", "model_kwargs": SMALL, "batch_size": 8, "workers": 0, "streams": 1}
    base |= {"tracker": "none", "warmup_epochs": 0, "data": str(data), "output": str(output)}
    words = []
    for name, value in {**base, **settings}.items():
        if value is not None:
            words += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
    return words


def weights_of(folder):
    return load_file(folder / "model.safetensors")
