"""What `pld push` and `pld pull` share."""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Callable

from pld.errors import ConfigError
from pld.progress import progress
from pld.store import open_store
from pld.store.maintain.transfer import TransferPlan, transfer
from pld.store.objects.storage import Storage, open_storage


def add_views(parser: argparse.ArgumentParser) -> None:
    """The option for a part of a store."""
    parser.add_argument(
        "--views", help="only the blocks that hold these views, such as 0-7, from the first view on (default: all)"
    )


def copy_store(source_url: str, destination_url: str, views: str | None) -> tuple[Storage, Storage]:
    """Copy what is not there yet, with a progress bar and a summary.

    Returns:
        Both places.
    """
    source, destination = open_storage(source_url), open_storage(destination_url)
    num_bytes = 0
    with contextlib.ExitStack() as stack:

        def on_plan(plan: TransferPlan) -> Callable[[int], None]:
            if plan.num_held:
                print(f"{destination.url}: {plan.num_held} parts are there already")
            if plan.num_missing:
                print(f"{source.url}: {plan.num_missing} parts are not cached yet")
            bar = stack.enter_context(progress(len(plan.parts), f"copying to {destination.url}", "part"))

            def arrived(part_bytes: int) -> None:
                nonlocal num_bytes
                num_bytes += part_bytes
                bar.set_postfix_str(f"{num_bytes / 1e6:,.1f} MB", refresh=False)
                bar.update()

            return arrived

        plan = transfer(source, destination, _parse_views(views), on_plan)
    complete = open_store(destination_url).num_views
    print(
        f"{destination.url}: {len(plan.parts)} parts copied, {num_bytes:,} bytes; {complete} views are complete there"
    )
    return source, destination


def _parse_views(text: str | None) -> range | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if not match or int(match[2] or match[1]) < int(match[1]):
        raise ConfigError(f"--views {text}: wanted a view such as 3, or a range such as 0-7")
    return range(int(match[1]), int(match[2] or match[1]) + 1)
