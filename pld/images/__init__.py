"""Where images come from: tar shards, folders and glyphs; decoding; the order of an epoch."""

from pld.images.open import open_source
from pld.images.order import epoch_order, global_batches
from pld.images.prefetch import fetched_ahead
from pld.images.source import ImageShard, Source

__all__ = ["ImageShard", "Source", "epoch_order", "fetched_ahead", "global_batches", "open_source"]
