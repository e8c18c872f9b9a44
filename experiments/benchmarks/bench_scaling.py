"""What an image costs as datasets, shards, views and workers grow, and a model of 8 and of 64 GPUs from those parts.

    make bench-scaling [PHOTOS='photos-{0000..0003}.tar']

Prints the page docs/results/scaling.md; ends with one line of JSON: the cost of an image at the large end over that at
the small end. Rows, shards and views are synthetic. The machines of the model are assumptions, stated with it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from experiments.benchmarks.input.photos import write_images
from experiments.benchmarks.store.logits import TEMPERATURES, made_up, write_large
from experiments.benchmarks.store.scaling_model import render
from experiments.benchmarks.timing import CPU, machine, print_figures, timed
from experiments.benchmarks.training import batches
from pld.images import epoch_order, open_source
from pld.loading import ViewRequest, view_decoder
from pld.signals import TopK
from pld.store import CodecIdentity, LogitTable, open_store
from pld.store.format.quantise import GridTopK
from pld.store.format.samples import KeyIndex
from pld.views import RandomResizedCrop, draw_view
from pld.views.preprocessing import Preprocessing

ROUNDS, BATCH, K = 5, 256, 50
MOST_SECONDS = 5.0
ROWS = [10**power for power in range(3, 8)]
SHARDS, VIEWS, WORKERS, CUT_VIEWS = [10, 100, 1000, 10_000], [1, 4, 10], [1, 2], [1, 10]
ROWS_OF_SHARDS, ROW_BYTES_K = 10**6, 10


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    measured: dict[str, Any] = {
        "machine": machine(CPU),
        "rounds": ROUNDS,
        "num_rows": ROWS,
        "rows": {
            "place in the epoch's order": [order_cost(num, max(1, num // 1250)) for num in ROWS],
            "finding its row by its key, once a run": [key_cost(num) for num in ROWS],
            "looking up its logits": [lookup_cost(num) for num in ROWS],
            "drawing its view": [draw_cost(num) for num in ROWS],
        },
        "num_shards": SHARDS,
        "shards": [order_cost(ROWS_OF_SHARDS, num) for num in SHARDS],
    }
    with tempfile.TemporaryDirectory() as folder:
        root, photos = Path(folder), Path(folder) / "photos"
        views = [load_cost(root / str(num), num) for num in VIEWS]
        described = write_images("PHOTOS", photos, 400)
        workers, cuts = [input_cost(photos, num) for num in WORKERS], [cut_cost(photos, num) for num in CUT_VIEWS]
        measured |= {"num_views": VIEWS, "views": views, "load_us": views[0], "photos": described}
        measured |= {"num_workers": WORKERS, "workers": workers, "input_us": workers[0]}
        measured |= {"num_cuts": CUT_VIEWS, "cuts": cuts, "cut_us": cuts[-1]}
        measured["image_bytes"] = float(open_source(str(photos / "shards")).sizes.mean())
        measured["row_bytes"] = open_store(str(root / str(VIEWS[-1]))).num_bytes / (VIEWS[-1] * 8 * 1250)
    print(render(measured))
    ends = {"rows": measured["rows"]["looking up its logits"], "shards": measured["shards"], "views": views}
    print_figures({f"cost_{name}": costs[-1] / costs[0] for name, costs in ends.items()})


def median_us(step: Callable[[], object], num_images: int) -> float:
    """Microseconds an image, the median of ROUNDS; of fewer where they take long."""
    taken: list[float] = []
    while len(taken) < ROUNDS and sum(taken) < MOST_SECONDS:
        taken.append(timed(step))
    return 1e6 * statistics.median(taken) / num_images


def order_cost(num_rows: int, num_shards: int) -> float:
    sizes = [num_rows // num_shards] * num_shards
    return median_us(lambda: sum(map(len, epoch_order(0, 0, sizes, streams=64, window=8))), num_rows)


def key_cost(num_rows: int) -> float:
    keys = np.arange(10**8, 10**8 + num_rows).astype("S9")
    wanted = np.random.default_rng(0).permutation(keys)
    return median_us(lambda: KeyIndex(keys, "made up").rows(wanted), num_rows)


def lookup_cost(num_rows: int) -> float:
    """Random batches, as training asks for them; rows of the top 10, so that ten million fit in small memories."""
    rng, codec = np.random.default_rng(0), CodecIdentity(k=ROW_BYTES_K, temperatures=TEMPERATURES)
    grid = GridTopK(
        classes=np.tile(np.arange(ROW_BYTES_K, dtype="<u2"), (num_rows, 1)),
        depths=np.tile(np.arange(ROW_BYTES_K, dtype="<u2"), (num_rows, 1)),
        label_depth=np.zeros(num_rows, "<u2"),
        tails=np.zeros((num_rows, len(TEMPERATURES)), "<i2"),
    )
    labels = np.zeros(num_rows, "<u2")
    held = LogitTable(view=0, codec=codec, grid=grid, labels=labels, find_rows=lambda keys: np.empty(0, np.int64))
    asked = rng.integers(0, num_rows, (200, BATCH))
    return median_us(lambda: [held[batch] for batch in asked], asked.size)


def draw_cost(num_rows: int) -> float:
    """Keys from all over a dataset of that size."""
    keys = [f"n{row:08d}" for row in np.random.default_rng(0).integers(0, num_rows, 2000).tolist()]
    policy = RandomResizedCrop()
    return median_us(lambda: [draw_view(key, 3, (390, 466), policy) for key in keys], len(keys))


def load_cost(root: Path, num_views: int) -> float:
    """Loading one view of ten thousand rows from stores with more and more of them."""
    made = made_up(mixed=False)
    topks = [TopK.from_logits(made.values[view % 8], made.labels, K, TEMPERATURES) for view in range(num_views)]
    write_large(root, topks, 8)
    return median_us(lambda: open_store(str(root)).load_view(num_views // 2), 8 * 1250)


def input_cost(place: Path, workers: int) -> float:
    """Wall time an image of a stream that never ends, in the steady state."""
    with contextlib.closing(batches(place, [Preprocessing()], workers=workers)) as stream:
        for _ in itertools.islice(stream, 4 * workers):
            pass
        return median_us(lambda: sum(1 for _ in itertools.islice(stream, 6)), 6 * 64)


def cut_cost(place: Path, num_views: int) -> float:
    """On one core, as the cache stage cuts them."""
    source = open_source(str(place / "shards"))
    decoder = view_decoder(source, source.policy, [Preprocessing()])
    requests = [ViewRequest(np.array([row]), range(num_views)) for row in range(64)]
    memory = torch.empty(decoder.num_bytes(requests[0]), dtype=torch.uint8)

    def cut() -> None:
        for request in requests:
            decoder.fill(request, memory, lambda row: None)

    return median_us(cut, 64 * num_views)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main()
