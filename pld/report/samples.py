"""Sample views of a store, each with the teacher's predictions."""

from __future__ import annotations

import base64
import dataclasses
import io

import numpy as np
from PIL import Image

from pld.images import Source
from pld.join.match import join_source, stored_policy
from pld.loading import decode_views, view_decoder
from pld.store import Store
from pld.views.preprocessing import Preprocessing

_SHOWN = Preprocessing(input_size=(96, 96))
_GUESSES = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One view of one image and the teacher's most probable classes.

    Attributes:
        picture: a data URL.
        label: the true class's name; None without labels.
        guesses: (class name, probability), most probable first.
    """

    picture: str
    label: str | None
    guesses: tuple[tuple[str, float], ...]


def draw_samples(store: Store, source: Source, num: int, *, seed: int = 0) -> list[Sample]:
    """Samples of view 0, the least certain ones among a random draw, where a ranking says most."""
    source = join_source(store, source)
    drawn = np.random.default_rng(seed).permutation(len(source))[: 8 * num]
    table = store.load_view(0)
    topk = table[table.rows(source.keys[drawn])]
    chosen = topk.logprobs[:, 0].argsort()[: 2 * num : 2].tolist()
    return [_sample(store, source, int(drawn[i]), topk.classes[i].tolist(), topk.logprobs[i].tolist()) for i in chosen]


def _sample(store: Store, source: Source, row: int, classes: list[int], logprobs: list[float]) -> Sample:
    (views,) = decode_views(view_decoder(source, stored_policy(store), [_SHOWN]), [row], [0])
    guesses = zip(classes[:_GUESSES], logprobs[:_GUESSES], strict=True)
    names, label = source.class_names, source.label(row)
    own = names[label] if names and label is not None else label
    return Sample(
        picture=_data_url(views[0, 0].permute(1, 2, 0).numpy()),
        label=None if own is None else str(own),
        guesses=tuple((names[c] if names else str(c), float(np.exp(p))) for c, p in guesses),
    )


def _data_url(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
