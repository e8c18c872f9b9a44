"""Worker processes that a machine has too little for are refused with what fits, or take the way that works."""

import re
import resource

import pytest

from pld.errors import ConfigError
from pld.loading import Loaders, Machine, check_loaders
from pld.loading.limits import allow_open_files, fitting_prefetch

BATCH = 100_000_000
AMPLE = Machine(
    memory_bytes=10**12,
    memory_of="this machine",
    shm_bytes=64 * 2**20,
    open_files=20,
    most_open_files=1024,
    hard_open_files=4096,
)


def machine(**less: object) -> Machine:
    return Machine(**{**vars(AMPLE), **less})


def loaders(processes: int, held: int = 1) -> Loaders:
    return Loaders(processes=processes, held=held, block_bytes=BATCH, option="--workers")


def refused(found: Machine, *wanted: Loaders) -> str:
    with pytest.raises(ConfigError) as caught:
        check_loaders(wanted, found)
    return str(caught.value)


def test_dockers_shm_is_enough_for_many():
    check_loaders([loaders(64), loaders(64)], AMPLE)


def test_a_system_that_tells_nothing_refuses_nothing():
    check_loaders([loaders(64)], machine(memory_bytes=None, shm_bytes=None))


def test_short_memory_gives_each_process_less_in_advance():
    whole, half = loaders(4).memory_bytes(2), loaders(4).memory_bytes(1)
    assert fitting_prefetch(loaders(4), machine(memory_bytes=whole)) == 2
    assert fitting_prefetch(loaders(4), machine(memory_bytes=whole - 1)) == 1
    assert fitting_prefetch(loaders(4), machine(memory_bytes=half)) == 1


@pytest.mark.parametrize("lacking", [1, 3 * BATCH])
def test_what_the_error_advises_fits_and_one_more_does_not(lacking):
    short = machine(memory_bytes=loaders(8).memory_bytes(1) - lacking)
    advised = int(re.search(r"use --workers (\d+)", refused(short, loaders(8)))[1])
    check_loaders([loaders(advised)], short)
    refused(short, loaders(advised + 1))


def test_where_not_even_one_fits_the_batch_is_too_large():
    error = refused(machine(memory_bytes=BATCH), loaders(2))
    assert error == (
        "--workers 2: loader processes want 528 MB of memory, for 4 batches of 100 MB and 64 MB each; this machine has "
        "100 MB free: use a smaller --batch_size, or give it more (docker run --memory, sbatch --mem)"
    )


def test_loaders_that_are_open_at_once_are_added_up():
    both = machine(memory_bytes=loaders(4).memory_bytes(2) + loaders(4).memory_bytes(1))
    check_loaders([loaders(4), loaders(4)], both)
    refused(machine(memory_bytes=both.memory_bytes - 1), loaders(4), loaders(4))


def test_a_full_shm_names_dockers_flag():
    assert "/dev/shm: 4 kB are free" in (error := refused(machine(shm_bytes=4096), loaders(2)))
    assert "docker run --shm-size=1g" in error


def test_too_few_descriptors():
    few = machine(most_open_files=64, hard_open_files=64)
    check_loaders([loaders(3)], few)
    error = refused(few, loaders(4))
    assert error.startswith("ulimit -n 64: 4 loader processes and what they read want 68 open files")
    assert error.endswith("or use --workers 3")


@pytest.fixture
def open_files():
    """Sets the soft limit, for the test."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda soft: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_soft_limit_is_raised_and_said_once(open_files, caplog):
    most = Machine.now().open_files + 20
    open_files(most)
    allow_open_files(100)
    allow_open_files(100)
    raised = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert raised >= most + 80
    assert [each.message for each in caplog.records] == [
        f"open files: {most} were allowed (ulimit -n), raised to {raised}"
    ]


def test_a_high_limit_is_left_alone(open_files):
    open_files(2000)
    allow_open_files(100)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 2000
