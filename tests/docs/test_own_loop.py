"""docs/own_loop.md does what it says: its blocks are run as they stand, as one program."""

import re
from pathlib import Path

import pytest

from pld.store import open_store
from tests.making import make_dataset, make_store, make_teacher
from tests.processes import ROOT, python

DOCUMENT = ROOT / "docs" / "own_loop.md"

# Run behind the document's blocks: what its datasets and its loss hand out belongs together.
CHECK = """
from pld.teachers import build_teacher

teacher = build_teacher("local-dir:teacher")
mean, std = (torch.tensor(data_config[name]).view(3, 1, 1) for name in ("mean", "std"))
checked = 0
for epoch in (1, 2, 0):  # the loader's workers are those that it started with
    dataset_train.set_epoch(epoch)
    for images, rows in loader_train:
        pixels = ((images * std + mean) * 255).round().to(torch.uint8)
        topk = train_loss_fn.topk(rows)
        live = teacher.logits(pixels).log_softmax(1).gather(1, topk.classes)
        assert bool(((live - topk.logprobs).abs() <= topk.logprob_error + 1e-4).all()), (epoch, rows)
        assert train_loss_fn.table.view == epoch
        checked += len(rows)
assert checked >= 150, checked
print("joined:", checked)
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """A folder where the document's program has run, and what it printed."""
    folder = tmp_path_factory.mktemp("own_loop")
    make_dataset(folder / "data")
    make_teacher(folder / "teacher")
    make_store(folder, views=3, k=5)
    blocks = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 9
    (folder / "program.py").write_text("\n".join([*blocks, CHECK]))
    done = python("program.py", cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.mark.parametrize("loop", ["plain", "timm"])
def test_both_loops_learn(printed, loop):
    losses = [float(loss) for loss in re.findall(rf"^{loop}, epoch \d: (\S+)$", printed[1], re.MULTILINE)]
    assert len(losses) == 3
    assert losses[-1] < losses[0]


def test_the_views_and_the_signals_are_the_live_teachers(printed):
    assert re.search(r"^joined: \d+$", printed[1], re.MULTILINE)


def test_the_bound_is_kept_for_the_example(printed):
    assert float(re.search(r"gradient: at most (\S+)$", printed[1], re.MULTILINE)[1]) < 2


def test_the_store_of_own_logits_is_whole(printed):
    assert "torch.Size([3, 5])" in printed[1]
    store = open_store(str(Path(printed[0]) / "my_store"))
    assert (store.num_views, store.num_samples) == (1, 71)
