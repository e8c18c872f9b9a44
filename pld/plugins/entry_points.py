"""Entry points of the group `pld.plugins`: what is installed, and running one."""

from __future__ import annotations

import importlib.metadata
from importlib.metadata import EntryPoint
from types import ModuleType

from pld.errors import PLDError, PluginError, explain

GROUP = "pld.plugins"


def installed() -> list[EntryPoint]:
    """The entry points of all installed distributions, in an order that does not depend on where these lie."""
    return sorted(importlib.metadata.entry_points(group=GROUP), key=lambda point: (point.name, point.value))


def describe(point: EntryPoint) -> str:
    """A plug-in and its distribution, for messages."""
    return f"plug-in {point.name!r} of {distribution(point)} ({GROUP}: {point.value})"


def distribution(point: EntryPoint) -> str:
    """The distribution's name and version."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unnamed distribution"


def run(point: EntryPoint) -> None:
    """Import the module that an entry point names, or call its function; either registers.

    Raises:
        PluginError: it fails, or is neither; names the distribution and the entry point.
    """
    try:
        found = point.load()
        if not isinstance(found, ModuleType) and not callable(found):
            raise PluginError(
                f"found an object of type {type(found).__name__}, wanted a module that registers when it is imported, "
                "or a function without arguments that does"
            )
        if not isinstance(found, ModuleType):
            found()
    except PLDError as error:
        raise PluginError(f"{describe(point)}: {error}") from error
    except (Exception, SystemExit) as error:  # other people's code fails in its own ways
        raise PluginError(f"{describe(point)}: it fails: {explain(error)}") from error
