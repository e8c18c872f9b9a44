"""Plackett-Luce distillation from cached teachers (arXiv:2506.12542): what caching and training share."""

import logging

__version__ = "0.1.0"

# Programs that use it decide what they show; the commands show everything.
logging.getLogger(__name__).addHandler(logging.NullHandler())
