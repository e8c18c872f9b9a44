"""Registry: things by name, those of plug-ins included, which are loaded once, when a name is first looked up."""

from __future__ import annotations

import re
import sys
import threading
from collections import UserDict
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any, TypeVar

from pld.errors import PluginError
from pld.plugins.entry_points import describe, distribution, installed, run

T = TypeVar("T")

# The owner of what this package registers.
OURS = "pld-distill"
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Registry(UserDict[str, T]):
    """Things of one kind by name.

    Looking up a name that is not here, or listing the names, loads the plug-ins first. Importing pld does not.
    """

    def __init__(self, kind: str) -> None:
        """Make an empty one; `kind` is what its things are, for messages."""
        super().__init__()
        self.kind = kind
        self._defined_by: dict[str, str] = {}
        self._plugins: dict[str, str] = {}
        _REGISTRIES.append(self)

    def register(self, name: str, thing: T, definition: Any) -> None:
        """Enter a thing.

        Args:
            name: a word of small letters, digits and `_`.
            thing: what the name stands for.
            definition: the function or class that defines it. It may be registered again, as when a notebook's cell
                runs twice.

        Raises:
            PluginError: the name is not such a word, or stands for something else.
        """
        defined_by = f"{definition.__module__}.{definition.__qualname__}"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise PluginError(
                f"{defined_by}: registers the {self.kind} {name!r}; wanted a word of small letters, digits and _"
            )
        if name in self.data and self._defined_by.get(name) != defined_by:
            raise PluginError(
                f"{defined_by}: registers the {self.kind} {name!r}, a name that is taken by {self.owner(name)}; choose "
                "another"
            )
        self[name] = thing
        self._defined_by[name] = defined_by
        if _loading and defined_by.partition(".")[0] != "pld":
            self._plugins[name] = _loading[-1]

    def owner(self, name: str) -> str:
        """Whose a name is, for messages: a plug-in, a definition outside of any, or this package."""
        defined_by = self._defined_by.get(name, "pld")
        return OURS if defined_by.partition(".")[0] == "pld" else self._plugins.get(name, defined_by)

    def names_of(self, plugin: str) -> list[str]:
        """The names that a plug-in has registered."""
        return [name for name, owner in self._plugins.items() if owner == plugin]

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self._defined_by.pop(name, None)
        self._plugins.pop(name, None)

    def __missing__(self, name: str) -> T:
        if name in self:
            return self.data[name]
        if _failures:
            known = ", ".join(self.data) or "none"
            raise PluginError(f"the {self.kind} {name!r} is not known; known: {known}.{failed_plugins()}")
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        if name not in self.data:
            load_plugins()
        return name in self.data

    def __iter__(self) -> Iterator[str]:
        load_plugins()
        return iter(self.data)

    def __len__(self) -> int:
        load_plugins()
        return len(self.data)

    def get(self, name: str, default: Any = None) -> Any:
        """The thing, or the default where the name is not known, plug-ins that failed or not."""
        return self.data[name] if name in self else default


_REGISTRIES: list[Registry[Any]] = []
_lock = threading.RLock()
_is_loaded = False
_loading: list[str] = []  # the plug-in that is being loaded, if one is
_loaded: dict[str, str] = {}
_failures: dict[str, str] = {}


def load_plugins() -> None:
    """Load all plug-ins that are installed, once in a process.

    One that fails registers nothing, and does not disturb who needs none of its names. Messages that a name is not
    known end with `failed_plugins()`, which says why it failed.
    """
    global _is_loaded
    with _lock:
        if _is_loaded:  # or being loaded: what a plug-in itself looks up is what there is so far
            return
        _is_loaded = True
        for point in installed():
            _load(point)


def loaded_plugins() -> dict[str, str]:
    """The distribution, with its version, of each plug-in that was loaded in this process."""
    return dict(_loaded)


def failed_plugins() -> str:
    """Why plug-ins could not be loaded, to end a message that something is not known; empty where all could."""
    if not _failures:
        return ""
    return "\nWhat may have it could not be loaded; correct or uninstall it:\n  " + "\n  ".join(_failures.values())


def _load(point: EntryPoint) -> None:
    plugin = describe(point)
    was_imported = point.module.partition(".")[0] in sys.modules
    _loading.append(plugin)
    try:
        run(point)
        if not was_imported and not any(registry.names_of(plugin) for registry in _REGISTRIES):
            raise PluginError(
                f"{plugin}: registers nothing; wanted one of register_loss, register_policy_step, register_source and "
                "register_teacher to be called"
            )
    except PluginError as error:
        for registry in _REGISTRIES:
            for name in registry.names_of(plugin):
                del registry[name]
        _failures[plugin] = str(error)
    else:
        _loaded[point.name] = distribution(point)
    finally:
        _loading.pop()
