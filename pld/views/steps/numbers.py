"""Random numbers from raw bits: NumPy keeps the bits' stream, but not what its distribution methods make of it."""

from __future__ import annotations

from statistics import NormalDist

from pld.errors import ConfigError

_STANDARD_NORMAL = NormalDist()
_GRID = 2**20  # per unit; coarser than what a machine's log or exp may round otherwise


def uniform(bits: int, low: float = 0.0, high: float = 1.0) -> float:
    """Uniform in [low, high) from 64 random bits, of which 53 are used."""
    return low + (high - low) * ((bits >> 11) * 2.0**-53)


def below(bits: int, num: int) -> int:
    """One of 0..num-1 from 64 random bits."""
    return bits * num >> 64


def normal(bits: int, mean: float, std: float) -> float:
    """Normal from 64 random bits, by the inverse of its distribution function, rounded to the same on all machines."""
    return on_grid(mean + std * _STANDARD_NORMAL.inv_cdf(((bits >> 11) + 0.5) * 2.0**-53))


def on_grid(value: float) -> float:
    """Rounded to a multiple of 2^-20, so that machines whose log and exp differ in the last bit draw the same."""
    return round(value * _GRID) / _GRID


def check_range(step: str, parameter: str, value: float, low: float, high: float) -> None:
    """Raise ConfigError if a step's parameter is not between two numbers."""
    if not low <= value <= high:
        raise ConfigError(f"view policy: {step}'s {parameter} {value:g}; wanted {low:g} to {high:g}")
