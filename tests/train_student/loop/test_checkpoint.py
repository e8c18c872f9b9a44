import resource
import signal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pld.errors import ConfigError, OutputError
from train_student.loop.checkpoint import Checkpoints, load
from train_student.loop.state_tree import flatten, unflatten

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=False),
    st.text(),
    st.integers(0, 5).map(lambda n: torch.arange(n, dtype=torch.float64)),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.integers(0, 9), st.text(max_size=5)), inner, max_size=3),
    ),
    max_leaves=10,
)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@given(trees)
def test_what_is_saved_is_loaded(tmp_path_factory, tree):
    checkpoints = Checkpoints(tmp_path_factory.mktemp("c"), keep=1)
    assert same(load(checkpoints.save(1, tree)), tree)


def test_an_optimizers_state_survives(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.8, 0.9))
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    assert same(load(Checkpoints(tmp_path, keep=1).save(1, state)), state)


def test_what_is_no_state_is_refused():
    with pytest.raises(TypeError, match="state/a: found set"):
        flatten({"a": {1}}, {})
    with pytest.raises(KeyError):
        unflatten({"__tensor__": "gone"}, {})


def test_the_last_few_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c", keep=2)
    assert checkpoints.load_latest() is None
    for step in (5, 10, 1000000):
        checkpoints.save(step, {"step": step})
    assert [path.name for path in sorted((tmp_path / "c").iterdir())] == [
        "step-000000010.safetensors",
        "step-001000000.safetensors",
    ]
    assert checkpoints.load_latest()[1] == {"step": 1000000}


def test_no_space_leaves_the_previous_one(tmp_path):
    """A limit on what a file may hold, which fails a write as a full disk does."""
    checkpoints = Checkpoints(tmp_path / "c", keep=1)
    checkpoints.save(1, {"weights": torch.zeros(10)})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"step-000000002.safetensors: cannot be written"):
            checkpoints.save(2, {"weights": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["step-000000001.safetensors"]
    assert torch.equal(checkpoints.load_latest()[1]["weights"], torch.zeros(10))


def test_damaged_ones_are_named(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    whole = checkpoints.save(1, {"weights": torch.ones(5)}).read_bytes()
    checkpoints.save(2, {"weights": torch.ones(6)}).write_bytes(whole[:-3])
    assert torch.equal(checkpoints.load_latest()[1]["weights"], torch.ones(5))
    (tmp_path / "step-000000001.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"step-000000002.*step-000000001.*Remove them to start"):
        checkpoints.load_latest()
