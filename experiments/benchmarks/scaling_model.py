"""What 8 and 64 GPUs need of everything else, from measured parts and stated assumptions."""

from __future__ import annotations

import dataclasses

# Assumptions: a student's training speed on one GPU, and machines as clouds rent them.
GPU_IMAGES_PER_SECOND = {"ResNet-50": 2500, "ViT-S": 2000, "MobileNetV4-Conv-S": 6000}
TEACHER_IMAGES_PER_SECOND = {"ResNet-152": 4000, "ViT-L/16": 1500}
GPUS_OF_NODE, CORES_OF_NODE = 8, 96
READ_BYTES_PER_SECOND = 3e9
TRAIN_IMAGES = 1_281_167
CACHED_VIEWS, EPOCHS = 50, 100


@dataclasses.dataclass(frozen=True)
class Parts:
    """What was measured.

    Attributes:
        image_bytes: of an encoded image.
        row_bytes: of one image's view in the store.
        input_us: of one core, from bytes to a view.
        cut_us: of one core, a view of an image that is decoded once for all views of a block.
        load_us: of a core, to load one row of a view.
    """

    image_bytes: float
    row_bytes: float
    input_us: float
    cut_us: float
    load_us: float


@dataclasses.dataclass(frozen=True)
class Need:
    """What one node needs of each thing, and how much of it there is."""

    images_per_second: float
    cores: float
    shard_bytes_per_second: float
    store_bytes_per_second: float

    @classmethod
    def of(cls, parts: Parts, gpu_images_per_second: float, nodes: int) -> Need:
        """Of each of some nodes whose GPUs train at that speed; each loads all rows of a view once an epoch."""
        speed = GPUS_OF_NODE * gpu_images_per_second
        return cls(
            images_per_second=speed,
            cores=speed * (parts.input_us + nodes * parts.load_us) / 1e6,
            shard_bytes_per_second=speed * parts.image_bytes,
            store_bytes_per_second=speed * nodes * parts.row_bytes,
        )

    def shares(self) -> dict[str, float]:
        """Of what a node has."""
        read = self.shard_bytes_per_second + self.store_bytes_per_second
        return {"cores": self.cores / CORES_OF_NODE, "reading": read / READ_BYTES_PER_SECOND}


def model(parts: Parts) -> str:
    """The page's second half, Markdown."""
    lines = [
        "# 8 and 64 GPUs, on paper\n",
        f"Measured above: an encoded image has {parts.image_bytes / 1e3:.0f} kB, its view in the store "
        f"{parts.row_bytes:.0f} bytes; one core makes {1e6 / parts.input_us:.0f} views a second and loads "
        f"{1e6 / parts.load_us:,.0f} rows of logits. Assumed, not measured: a node has {GPUS_OF_NODE} GPUs and "
        f"{CORES_OF_NODE} cores and reads {READ_BYTES_PER_SECOND / 1e9:.0f} GB/s from its disk or its network, and a "
        "GPU trains the students at the speeds given. Streams are dealt to nodes, so that each reads its own share of "
        "the shards; each loads the whole view of logits, once an epoch. 64 GPUs are 8 nodes.\n",
        "| student, images/s of a GPU | GPUs | images/s | cores of a node | of shards, a node | of the store, a node "
        "| an epoch | fullest |",
        "|---|---|---|---|---|---|---|---|",
        *(_line(parts, name, nodes) for name in GPU_IMAGES_PER_SECOND for nodes in (1, 8)),
    ]
    lines.append(
        "\nAbove 100 % the GPUs wait: store smaller images, or train a larger student. On one node the store's bytes "
        f"are {100 * parts.row_bytes / parts.image_bytes:.2g} % of the shards'.\n"
    )
    return "\n".join(lines)


def hours(parts: Parts) -> str:
    """What each step of docs/imagenet.md takes on one node, Markdown."""
    views_per_second = CORES_OF_NODE * 1e6 / parts.cut_us
    lines = [
        "# Sizes and hours\n",
        f"ImageNet-1k on one node of {GPUS_OF_NODE} GPUs and {CORES_OF_NODE} cores, k = 50, {CACHED_VIEWS} views, "
        f"{EPOCHS} epochs. GPUs' speeds are assumed. One core was measured to cut {1e6 / parts.cut_us:,.0f} views a "
        "second when an image is decoded once for ten of them, which makes "
        f"{views_per_second / 1e3:,.0f} thousand for the node.\n",
        "| step | takes | on disk |",
        "|---|---|---|",
        f"| image shards | | {TRAIN_IMAGES * parts.image_bytes / 1e9:.0f} GB |",
        *(_cache_line(parts, name, views_per_second) for name in TEACHER_IMAGES_PER_SECOND),
        *(_train_line(parts, name) for name in GPU_IMAGES_PER_SECOND),
    ]
    return "\n".join(lines) + "\n"


def _cache_line(parts: Parts, teacher: str, views_per_second: float) -> str:
    forward = GPUS_OF_NODE * TEACHER_IMAGES_PER_SECOND[teacher]
    seconds = CACHED_VIEWS * TRAIN_IMAGES / min(forward, views_per_second)
    waits = "its forward pass" if forward <= views_per_second else "decoding"
    size = CACHED_VIEWS * TRAIN_IMAGES * parts.row_bytes / 1e9
    return (
        f"| `make cache`, {teacher} at {TEACHER_IMAGES_PER_SECOND[teacher]:,} images/s a GPU | "
        f"{seconds / 3600:.2g} h, {seconds / CACHED_VIEWS / 60:.2g} minutes a view; what it waits for is {waits} | "
        f"{size:.2g} GB |"
    )


def _train_line(parts: Parts, student: str) -> str:
    need = Need.of(parts, GPU_IMAGES_PER_SECOND[student], nodes=1)
    seconds = EPOCHS * TRAIN_IMAGES / need.images_per_second * max(1.0, *need.shares().values())
    return f"| training {student} at {GPU_IMAGES_PER_SECOND[student]:,} images/s a GPU | {seconds / 3600:.2g} h | |"


def _line(parts: Parts, name: str, nodes: int) -> str:
    speed = GPU_IMAGES_PER_SECOND[name]
    need = Need.of(parts, speed, nodes)
    total = nodes * need.images_per_second
    fullest, share = max(need.shares().items(), key=lambda item: item[1])
    cells = (
        f"{name}, {speed:,}",
        f"{nodes * GPUS_OF_NODE}",
        f"{total:,.0f}",
        f"{need.cores:.0f}",
        f"{need.shard_bytes_per_second / 1e9:.2g} GB/s",
        f"{need.store_bytes_per_second / 1e6:.2g} MB/s",
        f"{TRAIN_IMAGES / total:.0f} s",
        f"{fullest}, {100 * share:.0f} %",
    )
    return f"| {' | '.join(cells)} |"
