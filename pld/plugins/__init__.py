"""Plug-ins: losses, view steps, datasets and teachers that other distributions register under names."""

from pld.plugins.entry_points import GROUP
from pld.plugins.registry import OURS, Registry, failed_plugins, load_plugins, loaded_plugins

__all__ = ["GROUP", "OURS", "Registry", "failed_plugins", "load_plugins", "loaded_plugins"]
