"""Commands that are asked to stop: by each signal, wherever they are, and without their launcher."""

import signal
import sys
import time

import psutil
import pytest

from tests.process.commands import (
    ADVANCES,
    FINISHES,
    HANGS,
    LAUNCHER,
    PYTHON,
    SAVES,
    SWALLOWS,
    WAITS,
    WAITS_IN_C,
    ended,
    started,
)


@pytest.mark.parametrize("body", [WAITS, SAVES], ids=["at-once", "deferred"])
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 143), (signal.SIGHUP, 143)]
)
def test_a_signal_stops_it_and_the_next_command_is_printed(tmp_path, body, number, status):
    with started(tmp_path, body) as (process, _):
        process.send_signal(number)
        found, printed = ended(process)
    what = ": all is kept" if body == WAITS else ", saved"
    last = f"stopped by {number.name}{what}; go on with: {PYTHON} {tmp_path / 'command.py'}"
    assert (found, printed.splitlines()[-1]) == (status, last)
    assert "Traceback" not in printed


@pytest.mark.parametrize("body", [WAITS_IN_C, SWALLOWS], ids=["in-C", "swallowed"])
def test_where_the_main_thread_does_not_hear_it_ends_after_a_while(tmp_path, body):
    with started(tmp_path, body) as (process, _):
        process.send_signal(signal.SIGTERM)
        found, printed = ended(process)
    assert found == 143
    assert "all is kept" in printed


@pytest.mark.parametrize("wrapper", [(), ("unshare", "--pid", "--fork")], ids=["process", "process-1-of-a-container"])
def test_a_second_interrupt_ends_it_at_once_but_not_one_that_was_forwarded(tmp_path, wrapper):
    """Also where the main thread hears nothing, and where the kernel ignores signals that are not handled."""
    with started(tmp_path, HANGS, *wrapper) as (process, command):
        command.send_signal(signal.SIGINT)
        time.sleep(0.1)
        command.send_signal(signal.SIGINT)
        time.sleep(0.6)
        assert process.poll() is None
        command.send_signal(signal.SIGINT)
        found, printed = ended(process)
    assert found == 130
    assert "ended by a second Ctrl-C" in printed


def test_of_several_signals_the_first_decides(tmp_path):
    with started(tmp_path, SAVES) as (process, _):
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
            process.send_signal(number)
            time.sleep(0.05)
        assert ended(process)[0] == 143


def test_an_interrupt_that_is_ignored_stays_so(tmp_path):
    """As of jobs in the background of a shell's script."""
    with started(tmp_path, WAITS, "bash", "-c", 'trap "" INT; "$@" & wait', "-") as (process, command):
        command.send_signal(signal.SIGINT)
        command.send_signal(signal.SIGTERM)
        assert "stopped by SIGTERM" in ended(process)[1]


@pytest.mark.parametrize(
    ("body", "said"),
    [(HANGS, "a step did not end"), (ADVANCES, "saved"), (FINISHES, "saved")],
    ids=["hangs", "advances", "saves"],
)
def test_without_its_launcher_a_step_that_hangs_is_given_up_and_no_other(tmp_path, body, said):
    """As in an exchange with a process that is gone."""
    (tmp_path / "torchrun").write_text(LAUNCHER)
    with started(tmp_path, body, sys.executable, str(tmp_path / "torchrun")) as (process, _):
        process.kill()
        message = process.stderr.read()  # until the command ends
    assert said in message
    assert f"; go on with: {PYTHON} {tmp_path / 'torchrun'}" in message
    assert ("are lost" in message) == (body == HANGS)


def test_with_its_launcher_a_step_that_hangs_is_waited_for(tmp_path):
    (tmp_path / "torchrun").write_text(LAUNCHER)
    with started(tmp_path, HANGS, sys.executable, str(tmp_path / "torchrun")) as (_, command):
        command.send_signal(signal.SIGTERM)
        with pytest.raises(psutil.TimeoutExpired):
            command.wait(2.5)
        command.kill()
