"""Construction of the data loaders for training and validation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from tfaip_like._user_code.code_errors import CodeError
from tfaip_like.data._data import Data, Source
from tfaip_like.data._loader.counting import PassCounts
from tfaip_like.data._loader.loader import DataLoader, no_check
from tfaip_like.data._sample import Mode
from tfaip_like.data._settings import LoaderSettings, TrainLoaderSettings
from tfaip_like.data._sources.opening import is_empty, open_source


def open_training(
    data: Data,
    source: Source | None,
    settings: TrainLoaderSettings,
    samples_per_epoch: int | None,
    seed: int,
    check: Callable[[], None] = no_check,
    accumulate: int = 1,
    pass_counts: PassCounts | None = None,
) -> DataLoader:
    """Return the data loader for training.

    Args:
        data: data of the scenario.
        source: result of `data.source(Mode.TRAIN)`.
        settings: settings below `--train`.
        samples_per_epoch: samples in an epoch; None for the whole source.
        seed: random seed of the run.
        check: called while waiting for samples; raises to stop.
        accumulate: batches per training step.
        pass_counts: see `DataLoader`.

    Raises:
        UsageError: if there are no samples, the first sample does not match its specification, or the batch size is
            not known.
    """
    settings = dataclasses.replace(settings, batch_size=settings.fixed_batch_size)
    source = open_source(source, data, Mode.TRAIN)
    if source is None or is_empty(source):
        what = "an empty source" if source is not None else "None"
        raise CodeError(
            f"{type(data).__name__}.source({Mode.TRAIN}) returned {what}; training requires samples", data.source
        )
    return DataLoader(
        data, source, settings, Mode.TRAIN, seed, "train", samples_per_epoch, check, accumulate, pass_counts
    )


def open_validation(
    data: Data,
    source: Source | None,
    settings: LoaderSettings,
    seed: int,
    check: Callable[[], None] = no_check,
    group: str = "val",
) -> DataLoader | None:
    """Return the data loader for validation; None if there are no validation samples.

    Args:
        data: data of the scenario.
        source: result of `data.source(Mode.EVALUATE)`.
        settings: settings below `--val` or `--lav`.
        seed: random seed of the run.
        check: called while waiting for samples; raises to stop.
        group: flag group such as `val`, for messages.
    """
    source = open_source(source, data, Mode.EVALUATE)
    if source is None or is_empty(source):
        return None
    return DataLoader(data, source, settings, Mode.EVALUATE, seed, group, None, check)
