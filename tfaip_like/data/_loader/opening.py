"""Opening the samples of a scenario as batches for training and validation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sized

from tfaip_like._user_code.code_errors import CodeError, attribute_errors_to
from tfaip_like._utils.errors import with_article
from tfaip_like.data._data import Data, Source
from tfaip_like.data._loader.counting import PassCounts
from tfaip_like.data._loader.loader import DataLoader, no_check
from tfaip_like.data._sample import Mode
from tfaip_like.data._settings import LoaderSettings


def open_training(
    data: Data,
    source: Source | None,
    settings: LoaderSettings,
    samples_per_epoch: int | None,
    seed: int,
    check: Callable[[], None] = no_check,
    accumulate: int = 1,
    pass_counts: PassCounts | None = None,
) -> DataLoader:
    """Open the training data.

    Args:
        pass_counts: see `DataLoader`.

    Raises:
        UsageError: when there is none, or its first sample does not fit its specification.
    """
    if source is None or is_empty(validate_source(source, data, Mode.TRAIN)):
        what = "has no samples to train on" if source is not None else "returned None: there is nothing to train on"
        raise CodeError(f"{type(data).__name__}.source({Mode.TRAIN}) {what}", data.source)
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
    """Opens the validation data; None if the scenario has none."""
    if source is None or is_empty(validate_source(source, data, Mode.EVALUATE)):
        return None
    return DataLoader(data, source, settings, Mode.EVALUATE, seed, group, None, check)


def is_empty(source: Source) -> bool:
    """Return whether a source is known to have no samples."""
    return isinstance(source, Sized) and len(source) == 0


def validate_source(source: Source, data: Data, mode: Mode) -> Source:
    """Return the source after checking that it is one."""
    where = f"{type(data).__name__}.source({mode}) returned"
    if isinstance(source, Iterator):
        raise CodeError(
            f"{where} {with_article(type(source).__name__)}, which can be read only once; return a list, or "
            "an object whose "
            "__iter__ begins again",
            data.source,
        )
    if isinstance(source, type):
        raise CodeError(f"{where} the class {source.__name__}; write {source.__name__}(...)", data.source)
    is_readable = hasattr(source, "__iter__") or (hasattr(source, "__len__") and hasattr(source, "__getitem__"))
    if isinstance(source, (Mapping, str)) or not is_readable:
        raise CodeError(
            f"{where} {with_article(type(source).__name__)}; it must have a length and an index (a list of Sample, an "
            "ArraySource, or a class of your own with __len__ and __getitem__), or be iterable",
            data.source,
        )
    if isinstance(source, Sized):
        with attribute_errors_to(type(source).__len__, data.source):
            len(source)
    return source
