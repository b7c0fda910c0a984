"""Construction of the data loaders for training and validation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sized

from tfaip_like._user_code.code_errors import CodeError, attribute_errors_to
from tfaip_like._utils.errors import with_article
from tfaip_like.data._data import Data, Source
from tfaip_like.data._loader.counting import PassCounts
from tfaip_like.data._loader.loader import DataLoader, no_check
from tfaip_like.data._sample import Mode
from tfaip_like.data._settings import LoaderSettings, TrainLoaderSettings
from tfaip_like.data._sources.datasets.adapting import adapt_dataset


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


def open_source(source: object, data: Data, mode: Mode, again: Callable[[], object] | None = None) -> Source | None:
    """Return the result of `Data.source` as a source of samples; None for None.

    Args:
        source: source of samples, or a dataset of another library, see `adapt_dataset`.
        data: data of the scenario.
        mode: mode of the samples.
        again: returns the result again, for each pass over a generator.

    Raises:
        CodeError: if it is neither.
        UsageError: if the items of a dataset do not match the specifications.
    """
    if source is None:
        return None
    where = f"{type(data).__name__}.source({mode})"
    targets = data.validate_specs("targets") if mode is not Mode.PREDICT else {}
    adapted = adapt_dataset(source, data.validate_specs("inputs"), targets, where, again)
    return validate_source(adapted, data, mode)


def is_empty(source: Source) -> bool:
    """Return whether a source is known to have no samples."""
    return isinstance(source, Sized) and len(source) == 0


def validate_source(source: Source, data: Data, mode: Mode) -> Source:
    """Return the source; raise `CodeError` if it is not a valid one."""
    where = f"{type(data).__name__}.source({mode}) returned"
    if isinstance(source, Iterator):
        raise CodeError(
            f"{where} {with_article(type(source).__name__)}, a one-shot iterator; return a re-iterable object (a list, "
            "or a class with __iter__)",
            data.source,
        )
    if isinstance(source, type):
        raise CodeError(f"{where} the class {source.__name__}; return an instance: {source.__name__}(...)", data.source)
    is_readable = hasattr(source, "__iter__") or (hasattr(source, "__len__") and hasattr(source, "__getitem__"))
    if isinstance(source, (Mapping, str)) or not is_readable:
        raise CodeError(
            f"{where} {with_article(type(source).__name__)}; return an iterable or random-access source (a list of "
            "Sample, an ArraySource, or a class with __len__ and __getitem__)",
            data.source,
        )
    if isinstance(source, Sized):
        with attribute_errors_to(type(source).__len__, data.source):
            len(source)
    return source
