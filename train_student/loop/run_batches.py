"""The batches of a run: how many an epoch has, and those from where the run is to its end."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Generator, Iterator

from accelerate import Accelerator

from pld.errors import ConfigError
from pld.loading import LoadTimes, ViewRequest, in_flight, prefetch_shards, view_decoder
from train_student.config import TrainConfig
from train_student.data.batches import Batch, epoch_items, load_batches, rows_read
from train_student.data.training_data import TrainingData
from train_student.loop.evaluate import VAL_SHARE
from train_student.loop.learner import Learner
from train_student.loop.resume import Progress
from train_student.option_groups import OptimizerOptions


def count_steps(options: OptimizerOptions, streams: int, num_samples: int, world: int) -> int:
    """Global batches in an epoch; raises ConfigError where there is none, or the processes cannot share them."""
    size, accumulate, views = options.batch_size, options.accumulate, options.views_per_image
    if size % (world * accumulate * views):
        of_views = f" of {views} views an image" if views > 1 else ""
        raise ConfigError(
            f"--batch_size {size}: {world} processes of {accumulate} micro-batches{of_views} do not divide it"
        )
    if num_samples * views < size:
        raise ConfigError(f"--batch_size {size}: there are {num_samples} images, less than one batch")
    if streams % world:
        raise ConfigError(f"--streams {streams}: wanted a multiple of the {world} processes")
    return num_samples * views // size


@contextlib.contextmanager
def run_batches(
    accelerator: Accelerator, config: TrainConfig, data: TrainingData, learner: Learner, now: Progress
) -> Iterator[Iterator[Batch]]:
    """A context manager that gives this process's micro-batches from `now` to the end of the run; times begin."""
    decoder = view_decoder(
        data.train,
        data.policy,
        [learner.preprocessing, *learner.signal.preprocessings],
        gpu=data.gpu,
        skip_bad_images=config.data.on_bad_image == "skip",
    )
    workers, times = config.data.workers, LoadTimes(config.data.workers)
    learner.times.begin(times)
    with (
        contextlib.closing(_items(accelerator, config, data, now)) as items,
        load_batches(
            data.train,
            decoder,
            items,
            workers=workers,
            held=config.optimizer.accumulate,
            as_cached=learner.signal.is_cached,
            times=times,
        ) as batches,
    ):
        yield batches


def _items(
    accelerator: Accelerator, config: TrainConfig, data: TrainingData, now: Progress
) -> Generator[ViewRequest, None, None]:
    """One stream over all epochs to come, so that workers never stand idle between two of them."""
    passes = [
        functools.partial(
            epoch_items,
            data.train,
            seed=config.run.seed,
            epoch=epoch,
            view_indexes=data.views_of_epoch(epoch),
            plan=data.mixing,
            batch_size=now.batch_size,
            streams=config.data.streams,
            rank=accelerator.process_index,
            world=accelerator.num_processes,
            micro_batches=config.optimizer.accumulate,
            first_batch=now.step if epoch == now.epoch else 0,
        )
        for epoch in range(now.epoch, config.optimizer.epochs)
    ]
    ahead = in_flight(config.data.workers)
    return prefetch_shards(data.train, passes, rows_read, in_flight=ahead, share=1 - VAL_SHARE)
