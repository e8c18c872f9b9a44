import pytest

from pld.losses import loss_names
from tests.losses.compiled import KINDS
from tests.processes import ROOT, python


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.long)])
def test_every_loss_compiles_into_one_graph(backend):
    done = python("-m", "tests.losses.compiled", backend, cwd=ROOT)
    assert done.stdout.splitlines() == [f"{name} {kind}" for name in loss_names() for kind in KINDS[name == "pld"]]
