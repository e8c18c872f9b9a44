"""Check a store without its teacher: every byte, every count, every number; exit with 1 where something is wrong."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator

import torch

from pld.cli.arguments import add_images, open_images, positive
from pld.errors import ConfigError, CorruptStoreError, DataError, DifferentPixelsError
from pld.join.match import join_source, stored_policy
from pld.join.mixing import plan_mixing
from pld.join.pixel_probes import compare_probes
from pld.join.recheck_teacher import rerun_teacher
from pld.loading.nvjpeg import check_device
from pld.progress import progress
from pld.store import Store, open_store
from pld.store.documents.manifest import read_manifest
from pld.store.documents.probes import PROBES_NAME
from pld.store.maintain.repair import plan_repair, repair
from pld.store.maintain.verify import Problem, verify_store
from pld.store.objects.open import open_storage
from pld.store.objects.storage import Storage
from pld.teachers import build_teacher

_LOG = logging.getLogger(__name__)

# Other machines and kernels move probabilities by far less, another crop or preprocessing by far more.
_MAX_MEAN_L1 = 0.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("store", help="a store")
    parser.add_argument("--repair", choices=("list", "delete"), help="name, or delete, what caching again will fill")
    parser.add_argument("--teacher", help="run it again on some samples and compare; wants --data")
    parser.add_argument("--weights", help="the teacher's weights, as cache-teacher's --weights")
    parser.add_argument(
        "--replay", type=positive, metavar="N", help="redraw N stored views, compare pixels; wants --data"
    )
    parser.add_argument("--samples", type=positive, default=64, help="how many samples --teacher runs on (default: 64)")
    add_images(parser, "the store's images")


def execute(arguments: argparse.Namespace) -> None:
    """Verify it and print each problem; SystemExit(1) where there are any."""
    if (arguments.teacher or arguments.replay) and not arguments.data:
        raise ConfigError("--teacher and --replay: need the store's images; give --data")
    if arguments.weights and not arguments.teacher:
        raise ConfigError("--weights: are a teacher's; name it with --teacher")
    if arguments.data and not (arguments.teacher or arguments.replay):
        raise ConfigError("--data: verify looks at images for --replay N or --teacher NAME alone; give one of them")
    storage = open_storage(arguments.store)
    damage = []
    with progress(0, f"verifying {arguments.store}", "B") as bar:

        def on_bytes(num_bytes: int, total: int) -> None:
            bar.total = total
            bar.update(num_bytes)

        for problem in verify_store(storage, on_bytes):
            damage.append(problem)
            bar.write(f"{problem.name}: {problem.found}")
    if damage and arguments.repair:
        _repair(storage, damage, delete=arguments.repair == "delete")
    # A damaged store is not compared with anything: first it has to be whole.
    if not damage:
        store = open_store(arguments.store)
        damage = [*_replay(store, arguments), *_rerun(store, arguments)]
        for problem in damage:
            print(f"{problem.name}: {problem.found}")
    if damage:
        print(f"{arguments.store}: {len(damage)} problem{'s' if len(damage) > 1 else ''}")
        raise SystemExit(1)
    print(
        f"{arguments.store}: no problem found in {store.stats.num_rows:,} sample-views; "
        f"{store.num_views} views are complete, from the first on"
    )


def _replay(store: Store, arguments: argparse.Namespace) -> Iterator[Problem]:
    """Where this machine's pixels are not those that the teacher saw."""
    if not arguments.replay:
        return
    images = open_images(arguments.data, arguments, unlabelled=not store.is_labelled)
    source = join_source(store, images, skip_missing=True)
    keys = {key.decode() for key in source.keys.tolist()}
    probes = [probe for probe in store.probes if probe.key in keys][: arguments.replay]
    if not probes:
        raise DataError(
            f"{store.url}: keeps {len(store.probes)} views' pixels, none of samples of {source.location}: nothing to "
            "compare; give the store's own images, or run its --teacher again on some"
        )
    gpu, policy = _decoding_gpu(store), stored_policy(store)
    try:
        warning = compare_probes(probes, source, policy, store.url, gpu, plan_mixing(source, policy, [store]))
    except DifferentPixelsError as error:
        yield Problem(name=PROBES_NAME, found=str(error))
    else:
        print(warning or f"{store.url}: {len(probes)} stored views are what this machine draws, pixel by pixel")
        if len(probes) < arguments.replay:
            print(f"{store.url}: keeps no more views' pixels of these images than that")


def _decoding_gpu(store: Store) -> torch.device | None:
    """Where this machine decodes as the store's teacher did, if that was on a GPU."""
    if store.manifest.identity.views.decoder == "cpu":
        return None
    gpu = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        check_device(gpu)
    except ConfigError:
        print(f"{store.url}: its images were decoded by nvJPEG, which cannot be had here; the CPU decodes them")
        return None
    return gpu


def _rerun(store: Store, arguments: argparse.Namespace) -> Iterator[Problem]:
    """Where the teacher says something else now."""
    if not arguments.teacher:
        return
    precision = store.manifest.identity.teacher.precision
    teacher = build_teacher(arguments.teacher, arguments.weights, precision=precision)
    for note in teacher.notes:
        _LOG.warning("%s", note)
    images = open_images(arguments.data, arguments, unlabelled=not store.is_labelled)
    agreement = rerun_teacher(store, images, teacher, arguments.samples)
    difference = (
        f"on {agreement.num_rows} samples the teacher's probabilities differ by {agreement.mean_l1:.2g} on average, "
        f"{agreement.max_l1:.2g} at most (L1; rounding alone may be {agreement.rounding:.2g})"
    )
    if agreement.mean_l1 > _MAX_MEAN_L1:
        yield Problem(name=arguments.teacher, found=f"{difference}; it does not see the pixels that were cached")
    else:
        print(f"{arguments.store}: {difference}")


def _repair(storage: Storage, problems: list[Problem], *, delete: bool) -> None:
    try:
        names = plan_repair(storage, read_manifest(storage), problems)
    except CorruptStoreError:
        print("store.json cannot be made anew from the rest: fetch it from where the store was copied from")
        return
    if delete:
        repair(storage, names, problems)
    for name in names:
        print(f"{'deleted' if delete else 'would delete'} {name}")
    print("run the command that cached the store again, it fills what is missing" if names else "nothing to delete")
