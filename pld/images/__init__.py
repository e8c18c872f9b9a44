"""Images: sources (tar shards, folders, glyphs), decoding, and the order of an epoch."""

from pld.images.order import epoch_order, global_batches
from pld.images.own_source import register_source
from pld.images.sources.open import open_source
from pld.images.sources.source import ImageShard, Source

__all__ = ["ImageShard", "Source", "epoch_order", "global_batches", "open_source", "register_source"]
