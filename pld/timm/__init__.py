"""For timm's own training script: a task that distils from a store, and the store's views as its dataset."""

from pld.join.store_views import StoreViews
from pld.timm.task import PLDTask

__all__ = ["PLDTask", "StoreViews"]
