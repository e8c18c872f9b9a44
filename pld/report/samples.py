"""Sample views of a store as the teacher saw them, each with its predictions."""

from __future__ import annotations

import base64
import dataclasses
import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from pld.images import Source
from pld.join.match import join_source, stored_policy
from pld.join.mixing import plan_mixing
from pld.loading import decode_views, view_decoder
from pld.report.view_sheet import label_name
from pld.store import Store
from pld.views import Mixing
from pld.views.preprocessing import Preprocessing

_SHOWN = Preprocessing(input_size=(96, 96))
_GUESSES = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One view of one image and the teacher's most probable classes.

    Attributes:
        picture: a data URL.
        label: the true class's name; None without labels.
        other: what the view is mixed with: the other class's name, or its key without labels; None if with nothing.
        share: of the sample's own image, 0.5 to 1.
        guesses: (class name, probability), most probable first.
    """

    picture: str
    label: str | None
    guesses: tuple[tuple[str, float], ...]
    other: str | None = None
    share: float = 1.0


def draw_samples(store: Store, source: Source, num: int, *, seed: int = 0) -> list[Sample]:
    """Samples of view 0, the least certain ones among a random draw, where a ranking says most.

    Raises:
        DataError: the source does not match the store, or lacks images that its own are mixed with.
    """
    source, policy = join_source(store, source), stored_policy(store)
    plan = plan_mixing(source, policy, [store])
    drawn = np.random.default_rng(seed).permutation(len(source))[: 8 * num]
    table = store.load_view(0)
    topk = table[table.rows(source.keys[drawn])]
    listed = topk.listed
    chosen = topk.logprobs[:, 0].argsort()[: 2 * num : 2].numpy()
    rows = drawn[chosen]
    (views,) = decode_views(view_decoder(source, policy, [_SHOWN]), rows.tolist(), [0], plan)
    mixing = plan.mixing(0, rows) if plan else None
    return [
        _sample(
            source,
            row,
            views[i, 0],
            topk.classes[j, listed[j]].tolist(),
            topk.logprobs[j, listed[j]].tolist(),
            mixing and mixing[i, ...],
        )
        for i, (row, j) in enumerate(zip(rows.tolist(), chosen.tolist(), strict=True))
    ]


def _sample(
    source: Source,
    row: int,
    view: UInt8[Tensor, "3 h w"],
    classes: list[int],
    logprobs: list[float],
    mixing: Mixing | None,
) -> Sample:
    guesses, names = zip(classes[:_GUESSES], logprobs[:_GUESSES], strict=True), source.class_names
    partner = row if mixing is None else int(mixing.partners)
    return Sample(
        picture=_data_url(view.permute(1, 2, 0).numpy()),
        label=label_name(source, row),
        guesses=tuple((names[c] if names else str(c), float(np.exp(p))) for c, p in guesses),
        other=None if partner == row else label_name(source, partner) or source.key(partner),
        share=1.0 if mixing is None else float(mixing.shares),
    )


def _data_url(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
