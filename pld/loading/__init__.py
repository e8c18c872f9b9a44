"""Load images for a model: prefetch shards, and decode views in threads, processes or on a GPU."""

from pld.loading.decode import decode_views, view_decoder
from pld.loading.limits import Loaders, check_loaders
from pld.loading.load import LoadedViews, loading
from pld.loading.load_times import LoadTimes
from pld.loading.machine import Machine
from pld.loading.shard_prefetch import prefetch_shards
from pld.loading.view_decoder import ViewDecoder, ViewRequest
from pld.loading.worker_processes import in_flight

__all__ = [
    "LoadTimes",
    "LoadedViews",
    "Loaders",
    "Machine",
    "ViewDecoder",
    "ViewRequest",
    "check_loaders",
    "decode_views",
    "in_flight",
    "loading",
    "prefetch_shards",
    "view_decoder",
]
