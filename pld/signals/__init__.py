"""TopK, a teacher's top-k signal: made of dense logits, checked, its tail sampled; and the labels of mixed images."""

from pld.signals.checks import TOLERANCE, check_numbers
from pld.signals.kept_error import check_error, rounding_error
from pld.signals.labels import MixedLabels, larger_share
from pld.signals.records import with_tensors
from pld.signals.tail_sample import TailSample, check_tail_samples, tail_uniforms
from pld.signals.topk import TopK

__all__ = [
    "TOLERANCE",
    "MixedLabels",
    "TailSample",
    "TopK",
    "check_error",
    "check_numbers",
    "check_tail_samples",
    "larger_share",
    "rounding_error",
    "tail_uniforms",
    "with_tensors",
]
