"""Options as fields of frozen dataclasses, alone or in groups; each is described and checked at its field."""

from __future__ import annotations

import dataclasses
import difflib
import operator
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from pld.errors import ConfigError
from pld.plugins import failed_plugins

Config = TypeVar("Config")
# What a value must be, in words, and the test.
Check = tuple[str, Callable[[Any], bool]]

AT_LEAST_ONE: Check = ("at least 1", lambda value: value >= 1)
ABOVE_ZERO: Check = ("a number above 0", lambda value: value > 0)
FRACTION: Check = ("a number between 0 and 1", lambda value: 0 < value < 1)


def option(
    default: Any,
    help: str,
    *,
    flat: str | None = None,
    check: Check | None = None,
    affects_result: bool = True,
    may_change: bool = False,
) -> Any:
    """A field of a configuration.

    Args:
        default: the value where none is given; a dict is copied for each configuration.
        help: for `--help`.
        flat: the name without the group, unique in the configuration; the field's own if not given.
        check: what the value must be unless it is None.
        affects_result: False for where and how a run works: it may change when the run is resumed, and runs that differ
            in it alone are of one configuration.
        may_change: True for what may change when a run is resumed although it tells configurations apart, such as a
            place whose content is compared by digest.
    """
    metadata = {
        "help": help,
        "flat": flat,
        "check": check,
        "affects_result": affects_result,
        "may_change": may_change or not affects_result,
    }
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """An option as commands, files and reports see it.

    Attributes:
        name: its flat name.
        group: the field that holds its group; None outside groups.
        field: its own.
        type: the field's, resolved.
    """

    name: str
    group: str | None
    field: dataclasses.Field[Any]
    type: Any

    @property
    def path(self) -> str:
        """The name with its group's, such as optimizer.lr."""
        return f"{self.group}.{self.field.name}" if self.group else self.field.name

    @property
    def default(self) -> Any:
        """The value where none is given."""
        factory = self.field.default_factory
        return self.field.default if factory is dataclasses.MISSING else factory()

    @property
    def affects_result(self) -> bool:
        """See `option`."""
        return bool(self.field.metadata.get("affects_result", True))

    @property
    def may_change(self) -> bool:
        """See `option`."""
        return bool(self.field.metadata.get("may_change", False))


def groups(kind: type[Any]) -> dict[str, type[Any]]:
    """The fields of a configuration that hold groups, and the groups' classes."""
    hints: dict[str, type[Any]] = typing.get_type_hints(kind)
    return {name: type for name, type in hints.items() if dataclasses.is_dataclass(type)}


def options(kind: type[Any]) -> dict[str, Option]:
    """All options by their flat names, those in groups included; raises ConfigError where two have one name."""
    found: dict[str, Option] = {}
    for owner, group in [(kind, None), *((type, name) for name, type in groups(kind).items())]:
        types = typing.get_type_hints(owner)
        for field in dataclasses.fields(owner):
            if not dataclasses.is_dataclass(types[field.name]):
                name = field.metadata.get("flat") or field.name
                option = Option(name=name, group=group, field=field, type=types[field.name])
                if name in found:
                    both = " and ".join(
                        f"{each.path} ({each.field.metadata['help']})" for each in (found[name], option)
                    )
                    raise ConfigError(
                        f"--{name} is defined twice: {both}; a plug-in's loss uses a name that is taken: rename its "
                        "setting, or uninstall the plug-in"
                    )
                found[name] = option
    return found


def flatten(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by flat name from a mapping that has them so, in groups, or mixed; what is outside groups is not checked.

    Raises:
        ConfigError: a group has no such option, or an option is given both ways.
    """
    paths = {option.path: name for name, option in options(kind).items()}
    group_names = groups(kind)
    flat: dict[str, Any] = {}
    for key, value in values.items():
        is_group = key in group_names and isinstance(value, Mapping)
        for path, each in {f"{key}.{name}": v for name, v in value.items()}.items() if is_group else [(key, value)]:
            if is_group and path not in paths:
                raise ConfigError(unknown_option(kind, path))
            name = paths.get(path, path)
            if name in flat:
                raise ConfigError(f"{name}: given twice, as {name} and as {options(kind)[name].path}")
            flat[name] = each
    return flat


def nest(kind: type[Any], flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`: put values by flat name into their groups."""
    known, nested = options(kind), dict[str, Any]()
    for name, value in flat.items():
        option = known[name]
        (nested.setdefault(option.group, {}) if option.group else nested)[option.field.name] = value
    return nested


def from_flat(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """A configuration from values by flat name; raises ConfigError for unknown ones."""
    for name in set(values) - set(options(kind)):
        raise ConfigError(unknown_option(kind, name))
    types = groups(kind)
    return kind(**{name: types[name](**v) if name in types else v for name, v in nest(kind, values).items()})


def as_flat(config: Any) -> dict[str, Any]:
    """A configuration's values by flat name."""
    return {name: operator.attrgetter(each.path)(config) for name, each in options(type(config)).items()}


def check_values(config: Any) -> None:
    """Raise ConfigError where a value is not what its field's check wants."""
    for name, each in options(type(config)).items():
        value, check = operator.attrgetter(each.path)(config), each.field.metadata.get("check")
        if check and value is not None and not check[1](value):
            raise ConfigError(f"--{name} {value}: wanted {check[0]}")


def unknown_option(kind: type[Any], name: str) -> str:
    """The message for an unknown option, with the nearest names, and the plug-ins that failed."""
    known: Iterable[str] = options(kind)
    if "." in name:
        known = (option.path for option in options(kind).values())
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"unknown option {name!r}; nearest are {', '.join(near) or 'none'} (see --help){failed_plugins()}"
