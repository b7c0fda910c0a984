"""Opening of what `Data.source` returns: a source of samples, or a dataset of any library."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sized

from tfaip_like._user_code.code_errors import CodeError, attribute_errors_to
from tfaip_like._utils.errors import with_article
from tfaip_like.data._data import Data, Source
from tfaip_like.data._sample import Mode
from tfaip_like.data._sources.datasets.conversion import convert_dataset
from tfaip_like.data._sources.datasets.items import ItemReader


def open_source(source: object, data: Data, mode: Mode, reopen: Callable[[], object] | None = None) -> Source | None:
    """Return the result of `Data.source` as a source of samples; None for None.

    Args:
        source: source of samples, or a dataset of another library, see `convert_dataset`.
        data: data of the scenario.
        mode: mode of the samples.
        reopen: calls `Data.source` again, for each pass over a generator.

    Raises:
        CodeError: if it is neither, or its items do not match the specifications.
    """
    if source is None:
        return None
    where = f"{type(data).__name__}.source({mode})"
    targets = data.validate_specs("targets") if mode is not Mode.PREDICT else {}
    read = ItemReader(data.validate_specs("inputs"), targets, where, type(data).source)
    return validate_source(convert_dataset(source, read, reopen), data, mode)


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
