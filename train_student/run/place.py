"""Where a run is written: a folder, or an object store by way of a working folder; held by one command at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

from accelerate import Accelerator

from pld.errors import ConfigError
from pld.store.objects.fsspec_storage import FsspecStorage
from train_student.option_groups import RunOptions
from train_student.run.bucket.lock import lock_bucket
from train_student.run.bucket.mirror import Mirror, working_folder
from train_student.run.lock import lock_run

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunPlace:
    """Where this process writes a run.

    Attributes:
        name: as messages show it: the folder or the URL.
        folder: on this machine.
        check_owner: raises ConfigError if another command has it by now; None in processes that write nothing.
        mirror: pushes the folder to an object store; None where there is none, and in processes that write nothing.
    """

    name: str
    folder: Path
    check_owner: Callable[[], object] | None = None
    mirror: Mirror | None = None


def folder_of(output: str) -> Path:
    """The folder on this machine that a run at `--output` is written to."""
    scheme, separator, rest = output.partition("://")
    if not separator:
        return Path(output)
    return Path(urllib.parse.unquote(rest)) if scheme == "file" else working_folder(output)


@contextlib.contextmanager
def hold_run(accelerator: Accelerator, options: RunOptions) -> Iterator[RunPlace]:
    """Hold a run's place in the main process; the folder on each machine is then what the run is.

    Raises:
        ConfigError: a command that is alive trains there, or something else is there.
        StoreError: the object store does not answer, or cannot be written.
        OutputError: the folder cannot be written.
    """
    folder, is_writer = folder_of(options.output), accelerator.is_main_process
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(lock_run(folder)) if is_writer else None
        check_owner = lock.check if lock else None
        if "://" not in options.output or options.output.startswith("file://"):
            accelerator.wait_for_everyone()  # no process looks into the folder before it is held
            yield RunPlace(name=str(folder), folder=folder, check_owner=check_owner)
            return
        if options.output.startswith(("http://", "https://")):
            raise ConfigError(f"--output {options.output}: web servers can only be read; name a folder, or s3://...")
        if "//" in options.output.partition("://")[2]:
            raise ConfigError(f"--output {options.output}: found an empty part (//) of the path; leave one / out")
        storage = FsspecStorage(options.output)
        bucket_lock = stack.enter_context(lock_bucket(storage)) if is_writer else None
        mirror = Mirror(storage, folder, options.keep_checkpoints, bucket_lock)
        if is_writer:
            _LOG.info("%s: is written to %s first, and pushed from there", mirror.url, folder)
            if mirror.push_unpushed():
                _LOG.info("%s: what an earlier command could not push is pushed now", mirror.url)
            mirror.pull()
        accelerator.wait_for_everyone()
        if accelerator.is_local_main_process and not is_writer:  # the first process of another machine
            mirror.pull()
        accelerator.wait_for_everyone()
        yield RunPlace(name=mirror.url, folder=folder, check_owner=check_owner, mirror=mirror if is_writer else None)
