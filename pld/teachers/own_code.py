"""Teachers from user code, `python:MODULE:FUNCTION` or `KIND:MODEL`: functions of a module and its preprocessing."""

from __future__ import annotations

import functools
import importlib
import math
import numbers
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, get_args

from torch import nn

from pld.classes.names import infer_names
from pld.errors import TeacherError, explain, first_line
from pld.teachers.code_digest import code_digest
from pld.teachers.names import KINDS, PYTHON
from pld.teachers.teacher import Teacher
from pld.teachers.trial import check_model, differ, trial_logits
from pld.teachers.weights import all_tensors, tensors_digest, unregistered
from pld.views import Interpolation
from pld.views.preprocessing import Preprocessing

Builder = TypeVar("Builder", bound=Callable[[str], Any])

_WANTED = "wanted (module, preprocessing) or (module, preprocessing, class_names)"
_FIELDS = ("input_size", "interpolation", "mean", "std", "crop_fraction")
_MAX_SIDE = 2**16
_MAX_SHOWN = 5


def load(name: str, weights: str | None) -> Teacher:
    """The teacher; see `build_teacher`."""
    if weights:
        raise TeacherError(f"{name} with --weights {weights}: the function loads its own weights; leave --weights out")
    module_name, _, function_name = name.removeprefix(PYTHON).rpartition(":")
    if not function_name.isidentifier() or not all(part.isidentifier() for part in module_name.split(".")):
        raise TeacherError(f"{name}: wanted {PYTHON}MODULE:FUNCTION, such as {PYTHON}my_package.teachers:big_model")
    module = _import(module_name, name)
    factory = _find(module, function_name, name)
    return _load_built(name, factory, {module_name, getattr(factory, "__module__", None) or module_name}, name)


def register_teacher(kind: str) -> Callable[[Builder], Builder]:
    """Register a kind of teacher: `--teacher KIND:MODEL` calls a function with MODEL, in both stages.

    It returns what the function of `python:MODULE:FUNCTION` does: a module and its preprocessing, and the class names
    if they are known (docs/teachers.md). The model is tried before it is used, and a store's identity has digests of
    its weights and of the source files of the function and of the model's classes.

    Args:
        kind: a word of small letters, digits and `_`.

    Raises:
        PluginError: the name is taken; when it decorates the function.
    """

    def register(build: Builder) -> Builder:
        def load(name: str, weights: str | None) -> Teacher:
            if weights:
                raise TeacherError(f"{name} with --weights {weights}: it loads its own weights; leave --weights out")
            where = f"{name} ({KINDS.owner(kind)})"
            return _load_built(name, functools.partial(build, name.partition(":")[2]), {build.__module__}, where)

        KINDS.register(kind, load, build)
        return build

    return register


def _load_built(identity: str, factory: Callable[[], Any], modules: set[str], name: str) -> Teacher:
    """The teacher that a function builds.

    Args:
        identity: its name in a store's identity.
        factory: the function.
        modules: that define it.
        name: for messages.
    """
    files = {getattr(sys.modules.get(module), "__file__", None) for module in modules}
    file = next(filter(None, files), None)
    model, preprocessing, names = _call(factory, file, name)
    preprocessing = _check_preprocessing(preprocessing, name)
    weights_sha256 = _digest(model, name)
    logits = check_model(model, preprocessing, name)
    rebuilt, *_ = _call(factory, file, name)
    if differ(trial_logits(rebuilt.to("cpu"), preprocessing, name), logits):
        raise TeacherError(
            f"{name}: gives other logits each time it is built; load its weights in the function, or seed them "
            "(torch.manual_seed)"
        )
    del rebuilt
    num_classes = logits.shape[1]
    stated = _check_names(names, num_classes, name)
    return Teacher(
        model=model,
        preprocessing=preprocessing,
        architecture=identity,
        tag="",
        weights_sha256=weights_sha256,
        num_classes=num_classes,
        class_names=stated or infer_names(num_classes),
        names_inferred=stated is None,
        code_sha256=code_digest(modules, model),
    )


def _check_preprocessing(value: Any, name: str) -> Preprocessing:
    """The preprocessing that a function returned, a Preprocessing or a mapping of its fields.

    Raises:
        TeacherError: it is neither, or a field is unknown or has a value that makes no sense.
    """
    if isinstance(value, Preprocessing):
        fields = {field: getattr(value, field) for field in _FIELDS}
    elif isinstance(value, Mapping):
        fields = dict(value)
    else:
        raise TeacherError(
            f"{name}: its second value is of type {_type(value)}, wanted pld.views.preprocessing.Preprocessing or a "
            f"dict of its fields: {', '.join(_FIELDS)}"
        )
    if unknown := [str(field) for field in fields if field not in _FIELDS]:
        raise TeacherError(f"{name}: its preprocessing has {', '.join(unknown)}; wanted some of {', '.join(_FIELDS)}")
    checks: dict[str, tuple[str, Callable[[Any], bool]]] = {
        "input_size": (f"(height, width), integers in 1..{_MAX_SIDE}", _is_size),
        "interpolation": (" or ".join(get_args(Interpolation)), get_args(Interpolation).__contains__),
        "mean": ("three numbers", _are_numbers),
        "std": ("three positive numbers", lambda value: _are_numbers(value) and min(value) > 0),
        "crop_fraction": ("a number above 0, at most 1", lambda value: _is_number(value) and 0 < value <= 1),
    }
    for field, held in fields.items():
        wanted, fits = checks[field]
        if not fits(held):
            raise TeacherError(f"{name}: its preprocessing's {field} is {str(held)[:80]!r}, wanted {wanted}")
    for field in ("mean", "std"):
        if field in fields:
            fields[field] = tuple(map(float, fields[field]))
    if "input_size" in fields:
        fields["input_size"] = tuple(fields["input_size"])
    return Preprocessing(**fields)


def _import(module_name: str, name: str) -> ModuleType:
    """Import a module, from the current directory as well, as `python -m` does."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise TeacherError(
                f"{name}: no module {error.name!r} in {here}, PYTHONPATH or the installed packages; run this in the "
                "folder that holds it, or with PYTHONPATH=FOLDER in front"
            ) from error
        raise TeacherError(f"{name}: importing {module_name} fails: {explain(error)}") from error
    except (Exception, SystemExit) as error:  # other people's code fails in its own ways
        raise TeacherError(f"{name}: importing {module_name} fails: {explain(error)}") from error


def _find(module: ModuleType, function_name: str, name: str) -> Callable[[], Any]:
    factory: Any = getattr(module, function_name, None)
    if callable(factory):
        return factory  # type: ignore[no-any-return]
    own = [
        key
        for key, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    ]
    found = f"is of type {_type(factory)}, no function" if hasattr(module, function_name) else "is not in it"
    functions = ", ".join(own[:_MAX_SHOWN]) or "none"
    raise TeacherError(f"{name}: {function_name!r} {found}; the functions of {module.__name__} are {functions}")


def _call(factory: Callable[[], Any], file: str | None, name: str) -> tuple[nn.Module, Any, Any]:
    """The function's module, preprocessing and class names."""
    try:
        result = factory()
    except (Exception, SystemExit) as error:  # likewise
        raise TeacherError(f"{name}: the function fails: {explain(error, file)}") from error
    if not isinstance(result, tuple | list) or len(result) not in (2, 3):
        found = f"{len(result)} values" if isinstance(result, tuple | list) else f"a value of type {_type(result)}"
        raise TeacherError(f"{name}: the function returns {found}; {_WANTED}")
    model, preprocessing, *names = result
    if not isinstance(model, nn.Module):
        raise TeacherError(f"{name}: its first value is of type {_type(model)}, wanted a torch.nn.Module; {_WANTED}")
    return model, preprocessing, names[0] if names else None


def _digest(model: nn.Module, name: str) -> str:
    """The digest of all its tensors; raises TeacherError if it has modules that PyTorch does not know of."""
    for place, value in unregistered(model):
        if isinstance(value, nn.Module):
            raise TeacherError(
                f"{name}: {place} is a module that PyTorch does not know of: it is neither put into evaluation mode "
                "nor moved to the device, and its weights are in no state_dict; make its list an nn.ModuleList, its "
                "dict an nn.ModuleDict"
            )
    try:
        return tensors_digest(all_tensors(model.to("cpu")))
    except (RuntimeError, AttributeError) as error:
        raise TeacherError(
            f"{name}: its tensors cannot be read: {first_line(error)}; return a module whose weights "
            "are plain tensors in memory"
        ) from error


def _check_names(names: Any, num_classes: int, name: str) -> tuple[str, ...] | None:
    if names is None:
        return None
    if isinstance(names, str) or not isinstance(names, Sequence) or not all(isinstance(item, str) for item in names):
        raise TeacherError(f"{name}: its class_names are of type {_type(names)}, wanted a list of text")
    if len(names) != num_classes:
        raise TeacherError(f"{name}: has {len(names)} class_names for {num_classes} logits; wanted one for each")
    repeated = sorted({item for item in names if not item or names.count(item) > 1})
    if repeated:
        raise TeacherError(f"{name}: its class_names have {repeated[0]!r} twice or empty; wanted a different one each")
    return tuple(names)


def _type(value: Any) -> str:
    return type(value).__name__


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 3 and all(map(_is_number, value))


def _is_size(value: Any) -> bool:
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(type(n) is int and 0 < n <= _MAX_SIDE for n in value)
    )
