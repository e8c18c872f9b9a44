"""Plackett-Luce distillation from cached teachers (arXiv:2506.12542): what caching and training share."""

__version__ = "0.1.0"
