"""The part formats there are, by the name that a manifest gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pld.store.format.schema import PartFormat
from pld.store.format.webdataset_part import WebDatasetPart
from pld.store.format.zarr_part import ZarrPart

FormatName = Literal["zarr", "webdataset"]
FORMATS: Mapping[FormatName, PartFormat] = {"zarr": ZarrPart(), "webdataset": WebDatasetPart()}
