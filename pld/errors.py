"""The tree of exceptions. Each message says where, what was found, what was wanted and what to do next."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path


class PLDError(Exception):
    """Base of every error that the user can mend; commands print it without a traceback and exit with 2."""


class ConfigError(PLDError):
    """A setting that is unknown, missing, or at odds with another."""


class PluginError(ConfigError):
    """A plug-in that cannot be loaded, or that breaks the contract of what it registers; names whose it is."""


class OutputError(PLDError):
    """A place that cannot be written: full, read-only, or taken."""


class DataError(PLDError):
    """Images or labels that cannot be used as they are: missing, empty, truncated, duplicated, undecodable."""


class NoLabelsError(DataError):
    """Images without labels where labels are wanted; the message offers --unlabelled.

    Attributes:
        found: the message without that, for commands that have no such option.
    """

    def __init__(self, found: str) -> None:
        super().__init__(f"{found}; or go without labels: --unlabelled")
        self.found = found


class ParquetFilesError(DataError):
    """Parquet files where images are read at their offsets; `pld data --shards` reads them instead.

    Attributes:
        files: the files of the split.
    """

    def __init__(self, message: str, files: Sequence[Path] = ()) -> None:
        super().__init__(message)
        self.files = tuple(files)


class UndecodableImageError(DataError):
    """An image that was read but cannot be decoded; the only error that `--on-bad-image skip` skips."""


class TeacherError(PLDError):
    """A teacher that cannot be found or built, or whose weights do not fit it."""


class SignalError(PLDError, ValueError):
    """A teacher's signal (top-k or dense) that is malformed, or cannot support what a loss asks of it."""


class StoreError(PLDError):
    """A store that cannot be read or written."""


class FingerprintMismatchError(StoreError):
    """A store made with other settings than this run's."""


class CorruptStoreError(StoreError):
    """A store whose bytes are not those that were committed."""


class DifferentPixelsError(StoreError):
    """Views drawn now that are not those which the teacher saw."""


class NotCachedError(StoreError):
    """A view, part or key that the store does not hold (yet)."""


def first_line(error: BaseException) -> str:
    """The first line of another library's error, or its kind if it says nothing, for a message of ours."""
    return (str(error).strip().splitlines() or [""])[0][:300] or type(error).__name__


def explain(error: BaseException, file: str | None = None) -> str:
    """An error of other people's code: its own last line, and the last place in a file, or in any, it went through."""
    said = (str(error).strip().splitlines() or [""])[-1][:300]
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == file] or list(frames)
    return f"{type(error).__name__}: {said} ({own[-1].filename}, line {own[-1].lineno})"
