"""For plain WebDataset pipelines: a step that adds a store's view of each sample, and what the teacher said of it."""

from pld.webdataset.join import collate, join

__all__ = ["collate", "join"]
