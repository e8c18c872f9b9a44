"""A model of 8 and 64 GPUs, from measured parts and stated assumptions, and the page that shows it."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

# Assumptions: a student's training speed on one GPU, and machines as clouds rent them.
GPU_IMAGES_PER_SECOND = {"ResNet-50": 2500, "ViT-S": 2000, "MobileNetV4-Conv-S": 6000}
TEACHER_IMAGES_PER_SECOND = {"ResNet-152": 4000, "ViT-L/16": 1500}
NODE = {"gpus": 8, "cores": 96, "read_bytes_per_second": 3e9}
IMAGENET = {"train_images": 1_281_167, "cached_views": 50, "epochs": 100}


def render(measured: dict[str, Any]) -> str:
    """The page, Markdown, from the costs that the benchmark measured, in us, and the bytes of an image and of a row."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["paragraph"] = lambda text: textwrap.fill(text.strip(), 120, break_on_hyphens=False)
    template = environment.from_string(Path(__file__).with_name("scaling.md.jinja").read_text())
    needs = [
        (name, nodes, need(measured, speed, nodes)) for name, speed in GPU_IMAGES_PER_SECOND.items() for nodes in (1, 8)
    ]
    caching = [(name, speed, *caching_seconds(measured, speed)) for name, speed in TEACHER_IMAGES_PER_SECOND.items()]
    return template.render(**measured, **NODE, **IMAGENET, needs=needs, caching=caching)


def need(measured: dict[str, Any], gpu_images: int, nodes: int) -> dict[str, Any]:
    """What each node needs while its GPUs train at that speed; it loads all rows of a view once per epoch."""
    images = NODE["gpus"] * gpu_images
    cores = images * (measured["input_us"] + nodes * measured["load_us"]) / 1e6
    shard_bytes, store_bytes = images * measured["image_bytes"], images * nodes * measured["row_bytes"]
    shares = {
        "cores": cores / NODE["cores"],
        "reading": (shard_bytes + store_bytes) / NODE["read_bytes_per_second"],
    }
    fullest = max(shares, key=lambda name: shares[name])
    found = {"gpu_images": gpu_images, "images": images, "cores": cores, "fullest": fullest, "share": shares[fullest]}
    return found | {"shard_bytes": shard_bytes, "store_bytes": store_bytes}


def caching_seconds(measured: dict[str, Any], gpu_images: int) -> tuple[float, str]:
    """Seconds that one node takes to cache all views, and what limits it."""
    forward, decoding = NODE["gpus"] * gpu_images, NODE["cores"] * 1e6 / measured["cut_us"]
    limit = "the forward pass" if forward <= decoding else "decoding"
    return IMAGENET["cached_views"] * IMAGENET["train_images"] / min(forward, decoding), limit
