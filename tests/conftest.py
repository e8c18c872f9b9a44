"""Shape and type annotations are checked at run time: the hook must come before the packages are imported."""

import signal

import pytest
import torch
from accelerate.state import AcceleratorState
from hypothesis import settings
from jaxtyping import install_import_hook
from s3fs import S3FileSystem

from tests.object_store import ObjectStore

install_import_hook(["pld", "cache_teacher", "train_student"], "beartype.beartype").__enter__()

from pld.logs import showing_logs  # noqa: E402 - after the hook

# A job in the background of a script ignores SIGINT, and one under nohup SIGHUP; commands that tests stop would, too.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

# Workers of pytest share the cores: torch's threads wait for each other longer than these small tensors take.
torch.set_num_threads(1)

# Two shared cores: a slow example says nothing. The same examples in each run, so that what a commit passes once it
# passes again; `make test-long` draws new ones.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("new", deadline=None)
settings.load_profile("same")


@pytest.fixture(scope="session", autouse=True)
def session_cache(tmp_path_factory):
    """No test reads or writes the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLD_CACHE", str(tmp_path_factory.getbasetemp() / "pld-cache"))
        yield


@pytest.fixture
def cache_folder(tmp_path, monkeypatch):
    """PLD_CACHE for one test, with nothing in it."""
    folder = tmp_path / "pld-cache"
    monkeypatch.setenv("PLD_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True)
def accelerator_state():
    """Reset: it outlives an Accelerator, and refuses another precision."""
    AcceleratorState._reset_state(True)


@pytest.fixture(scope="session")
def object_store():
    store = ObjectStore()
    yield store
    store.stop()


@pytest.fixture
def bucket(object_store, monkeypatch, cache_folder):
    """The URL of a fresh S3 bucket, credentials and endpoint in the environment, nothing cached."""
    for name, value in object_store.environment().items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()
    return f"s3://{object_store.new_bucket()}"


@pytest.fixture
def console(capsys):
    """What is printed, with what our packages log, as commands show it."""
    with showing_logs():
        yield capsys
