"""The retry policy: which errors of object stores are worth another attempt, how long to wait, what to say."""

from __future__ import annotations

import random
from collections.abc import Iterator

ATTEMPTS = 8
_FIRST_WAIT_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 10.0

_PERMANENT = (PermissionError, IsADirectoryError, NotADirectoryError, TypeError, ValueError, NotImplementedError)
# 409 and 412 are how some say that another request came between.
_TRANSIENT_STATUS = frozenset({408, 409, 412, 425, 429})
# S3 answers these with 400; each means that the request's body did not arrive as it was sent.
_TRANSIENT_CODES = ("RequestTimeout", "IncompleteBody", "BadDigest", "XAmzContentSHA256Mismatch")
_READ_ONLY_STATUS = frozenset({405, 501})


def pauses() -> Iterator[float | None]:
    """Seconds to wait after each of ATTEMPTS, growing, with chance in them to part the writers' steps; None last."""
    for attempt in range(ATTEMPTS - 1):
        yield min(_FIRST_WAIT_SECONDS * 2**attempt, _LONGEST_WAIT_SECONDS) * random.uniform(0.5, 1)
    yield None


def is_transient(error: Exception) -> bool:
    """Whether asking again can help. What is not known is worth another attempt: they are few."""
    if isinstance(error, TimeoutError) or any(code in str(error.__cause__) for code in _TRANSIENT_CODES):
        return True
    status = http_status(error)
    if status is not None:
        return (status >= 500 and status not in _READ_ONLY_STATUS) or status in _TRANSIENT_STATUS
    return not isinstance(error, _PERMANENT) and "Credentials" not in type(error).__name__


def http_status(error: BaseException) -> int | None:
    """The HTTP status that a driver's error, or the one behind it, tells."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:  # requests and httpx; aiohttp
        found = getattr(response, "status_code", None) or getattr(error, "status", None)
    if isinstance(found, int):
        return found
    return http_status(error.__cause__) if error.__cause__ else None


def advice(error: Exception) -> str:
    """What happened, and what to do where asking again cannot help."""
    if "Credentials" in type(error).__name__:
        return f"{describe(error)}; give the driver its credentials (for S3 AWS_ACCESS_KEY_ID and _SECRET_ACCESS_KEY)"
    if isinstance(error, PermissionError) or http_status(error) in (401, 403):
        return f"{describe(error)}; the credentials in use do not allow it"
    if isinstance(error, NotImplementedError) or http_status(error) in _READ_ONLY_STATUS:
        return "this URL can only be read"
    return describe(error)


def describe(error: Exception) -> str:
    """What happened, in a line."""
    return f"{type(error).__name__}: {error}".rstrip(": ")
