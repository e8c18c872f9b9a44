"""The codec: rounding within the bound, order kept, narrowing equal to caching with a smaller k."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pld.signals import TopK
from pld.store.format.identity import CodecIdentity
from pld.store.format.quantise import dequantise, narrow, quantise

CASES = st.fixed_dictionaries(
    {
        "num_classes": st.integers(1, 40),
        "k": st.integers(1, 40),
        "grid": st.integers(1, 32).map(lambda steps: steps / 256),
        "spread": st.sampled_from([0.0, 1e-3, 1.0, 10.0, 300.0, 1e5]),
        "ties": st.booleans(),
        "seed": st.integers(0, 2**32),
    }
)


def signal_of(case):
    """A codec and a signal for it, with spreads from nearly uniform to all but certain."""
    num_classes, k = case["num_classes"], min(case["k"], case["num_classes"])
    codec = CodecIdentity(k=k, grid=case["grid"])
    rng = np.random.default_rng(case["seed"])
    logits = rng.normal(size=(6, num_classes)) * case["spread"]
    logits = np.round(logits) if case["ties"] else logits
    labels = torch.from_numpy(rng.integers(0, num_classes, 6))
    return codec, TopK.from_logits(torch.from_numpy(logits), labels, k, codec.temperatures), num_classes


def round_trip(codec, topk, num_classes):
    return dequantise(quantise(topk, codec, num_classes), topk.labels.numpy(), codec)


def weights(topk, temperature):
    """Weights of S (top-k, then the label where it is outside) and of the tail, float64, from the formula."""
    outside = (topk.classes != topk.labels[:, None]).all(1)
    label = torch.where(outside, topk.label_logprob.double(), -torch.inf)
    scaled = torch.cat([topk.logprobs.double(), label[:, None]], 1) / temperature
    return torch.softmax(torch.cat([scaled, topk.tail_at(temperature).double()[:, None]], 1), 1)


@given(CASES)
def test_rounding_moves_the_weights_by_no_more_than_the_certificate_says_at_any_temperature(case):
    codec, topk, num_classes = signal_of(case)
    got = round_trip(codec, topk, num_classes)
    for temperature in codec.temperatures:
        moved = (weights(got, temperature) - weights(topk, temperature)).abs().sum(1)
        bound = 2 * np.tanh(got.logprob_error / (2 * temperature))
        assert float(moved.max()) <= bound + 1e-12, temperature


@given(CASES)
def test_logprobs_are_within_the_error_and_classes_are_kept_in_their_order(case):
    codec, topk, num_classes = signal_of(case)
    got = round_trip(codec, topk, num_classes)
    assert torch.equal(got.classes, topk.classes)
    deepest = -codec.grid * 65535
    for held, true in [(got.logprobs, topk.logprobs), (got.label_logprob, topk.label_logprob)]:
        assert float((held - true.clamp(min=deepest)).abs().max()) <= got.logprob_error
    assert bool((got.logprobs[:, 1:] <= got.logprobs[:, :-1]).all())
    assert got.logprob_error == codec.logprob_error


@given(CASES)
def test_a_label_among_the_top_k_has_exactly_its_entrys_logprob(case):
    codec, topk, num_classes = signal_of(case)
    got = round_trip(codec, topk, num_classes)
    row, column = torch.nonzero(got.classes == got.labels[:, None], as_tuple=True)
    assert torch.equal(got.label_logprob[row], got.logprobs[row, column])


@given(CASES)
def test_an_empty_tail_stays_empty_and_another_one_is_within_the_error_times_1_over_t(case):
    codec, topk, num_classes = signal_of(case)
    got = round_trip(codec, topk, num_classes)
    assert bool((got.tail_logmass[topk.tail_logmass == -torch.inf] == -torch.inf).all())
    for column, temperature in enumerate(codec.temperatures):
        held, true = got.tail_logmass[:, column].double(), topk.tail_logmass[:, column].double()
        shallow = true * temperature > -codec.grid * 32767
        error = (held - true)[shallow].abs()
        assert not error.numel() or float(error.max()) <= got.logprob_error / temperature


@given(CASES, st.data())
def test_a_smaller_k_equals_a_store_cached_with_it_up_to_the_rounding(case, data):
    codec, topk, num_classes = signal_of(case)
    k = data.draw(st.integers(1, codec.k))
    labels = topk.labels.numpy()
    got = dequantise(narrow(quantise(topk, codec, num_classes), labels, codec, k), labels, codec)
    logits = torch.full((6, num_classes), -torch.inf, dtype=torch.float64)
    if codec.k == num_classes:
        logits.scatter_(1, topk.classes, topk.logprobs)
        want = TopK.from_logits(logits, topk.labels, k, codec.temperatures)
        for temperature in codec.temperatures:
            moved = (weights(got, temperature) - weights(want, temperature)).abs().sum(1)
            assert float(moved.max()) <= 2 * np.tanh(got.logprob_error / (2 * temperature)) + 1e-6
    assert torch.equal(got.classes, topk.classes[:, :k])
    assert got.logprobs.shape == (6, k)


def test_more_classes_than_65536_are_held():
    logits = torch.linspace(0, 1, 70_000)[None]
    codec = CodecIdentity(k=3)
    got = round_trip(codec, TopK.from_logits(logits, torch.tensor([5]), 3, codec.temperatures), 70_000)
    assert got.classes.tolist() == [[69_999, 69_998, 69_997]]


def test_every_grid_decodes_exactly():
    depths = np.arange(2**16)
    for steps in range(1, 33):
        codec = CodecIdentity(k=1, grid=steps / 256)
        signal = TopK(
            classes=torch.zeros(2**16, 1, dtype=torch.int64),
            logprobs=torch.from_numpy(depths[:, None] * (-steps / 256)),
            labels=torch.zeros(2**16, dtype=torch.int64),
            label_logprob=torch.from_numpy(depths * (-steps / 256)),
            tail_logmass=torch.full((2**16, len(codec.temperatures)), -torch.inf),
            temperatures=codec.temperatures,
        )
        got = round_trip(codec, signal, 2)
        assert torch.equal(got.logprobs.double(), signal.logprobs)


@pytest.mark.parametrize(
    "wrong",
    [
        {"grid": 0.01},
        {"grid": 0.0},
        {"grid": 33 / 256},
        {"grid": 2.0},
        {"temperatures": (1.0, 0.5)},
        {"temperatures": (2.0,)},
        {"k": 0},
    ],
)
def test_a_codec_outside_the_proofs_limits_is_refused(wrong):
    with pytest.raises(Exception, match="wanted"):
        CodecIdentity(**({"k": 3} | wrong))
