"""`open_reader`: what `pld data --shards` reads, which is any Source and Parquet files."""

from __future__ import annotations

from collections.abc import Sequence

from pld.errors import ConfigError, ParquetFilesError
from pld.extras import needs_extra
from pld.images.reader import ImageReader
from pld.images.sources.description import GivenClasses
from pld.images.sources.folders import StatedClasses
from pld.images.sources.open import open_source


def open_reader(
    location: str,
    split: str = "train",
    *,
    class_names: Sequence[str] | None = None,
    labels: str | None = None,
    unlabelled: bool = False,
) -> ImageReader:
    """Open a dataset to read it once; Parquet files, or what `open_source` takes.

    Raises:
        DataError, OutputError, ConfigError: as `open_source`, or `parquet_images`; or pyarrow is not installed.
    """
    try:
        return open_source(location, split, class_names=class_names, labels=labels, unlabelled=unlabelled)
    except ParquetFilesError as error:
        files = error.files
    if labels:
        raise ConfigError(f"--labels {labels}: Parquet files have labels; leave --labels out")
    with needs_extra("parquet", f"{location}: reading Parquet files"):
        from pld.images.sources.forms.parquet import parquet_images
    stated = StatedClasses(names=tuple(class_names), origin="--class_names") if class_names else None
    return parquet_images(location, files, GivenClasses(override=stated, default=None, unlabelled=unlabelled))
