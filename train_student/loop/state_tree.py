"""A run's state as tensors and JSON for checkpoints: nothing is pickled."""

from __future__ import annotations

from typing import Any

import torch

_TENSOR, _ITEMS, _TUPLE = "__tensor__", "__items__", "__tuple__"


def flatten(tree: Any, tensors: dict[str, torch.Tensor], path: str = "state") -> Any:
    """The JSON skeleton of nested dicts, lists and tuples; tensors are put into `tensors`, on the CPU, by their path.

    Raises:
        TypeError: a leaf is neither a tensor nor JSON.
    """
    match tree:
        case torch.Tensor():
            tensors[path] = tree.detach().to("cpu", copy=True).contiguous()
            return {_TENSOR: path}
        case dict():
            # Pairs, because an optimizer's state has numbers for keys, which JSON would turn into text.
            return {_ITEMS: [[key, flatten(value, tensors, f"{path}/{key}")] for key, value in tree.items()]}
        case list() | tuple():
            items = [flatten(value, tensors, f"{path}/{index}") for index, value in enumerate(tree)]
            return {_TUPLE: items} if isinstance(tree, tuple) else items
        case None | bool() | int() | float() | str():
            return tree
    raise TypeError(f"{path}: found {type(tree).__name__}, wanted a tensor, a number, text or a collection of these")


def unflatten(skeleton: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """What `flatten` was given.

    Raises:
        KeyError: a tensor is missing.
    """
    if isinstance(skeleton, list):
        return [unflatten(value, tensors) for value in skeleton]
    if not isinstance(skeleton, dict):
        return skeleton
    ((kind, content),) = skeleton.items()
    if kind == _TENSOR:
        return tensors[content]
    if kind == _TUPLE:
        return tuple(unflatten(value, tensors) for value in content)
    return {key: unflatten(value, tensors) for key, value in content}
