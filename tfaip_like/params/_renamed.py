"""Renamed parameters: the former name works in flags, files and Python until it ends."""

from __future__ import annotations

import functools
import logging
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tfaip_like._utils.errors import UsageError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Renamed:
    """Current name of a parameter that had another one, for `Params.renamed_fields`.

    Args:
        name: current name, in the same class.
        until: first version that no longer accepts the former name.

    Example:
        >>> from tfaip_like import Params
        >>> class Net(Params):
        ...     renamed_fields = {"num_units": Renamed("units", until="2.0")}
        ...     units: int = 8
        >>> Net.from_dict({"num_units": 16})
        Net(units=16)
    """

    name: str
    until: str

    def describe(self, former: str, current: str) -> str:
        """Return the text of the warning.

        Args:
            former: former name, as it was given.
            current: current name, likewise.
        """
        return f"{former} was renamed to {current}; version {self.until} no longer accepts the former name"


def renamed_fields(cls: type) -> dict[str, Renamed]:
    """Return the former names of the parameters of a class and its bases."""
    return {former: new for base in reversed(cls.__mro__) for former, new in _declared(base).items()}


def _declared(cls: type) -> Mapping[str, Renamed]:
    declared: Mapping[str, Renamed] = vars(cls).get("renamed_fields", {})
    return declared


def current_names(
    cls: type, names: Iterable[str], describe: Callable[[str], str], describe_current: Callable[[str], str] = str
) -> dict[str, str]:
    """Return given names of parameters with their current names; warn once about each former name.

    Args:
        cls: class of the parameters.
        names: names from flags or a file.
        describe: return how a given name is written, for messages: `--model.num_units`.
        describe_current: return how a current name is written.

    Raises:
        UsageError: if a parameter is given under its former and its current name.
    """
    renamed = renamed_fields(cls)
    current: dict[str, str] = {}
    for given in names:
        current[given] = name = renamed[given].name if given in renamed else given
        if twice := [other for other in current if current[other] == name and other != given]:
            both = sorted((given, twice[0]), key=lambda one: one == name)
            raise UsageError(
                f"{describe(both[0])} is a former name of {describe_current(name)}, which is given too; remove one"
            )
        if given in renamed:
            _warn_once(renamed[given].describe(describe(given), describe_current(name)))
    return current


@functools.cache
def _warn_once(text: str) -> None:
    logger.warning("%s", text)


def accept_former_names(cls: type) -> None:
    """Make the constructor of a class accept the former names of its parameters.

    Args:
        cls: dataclass of parameters.

    Raises:
        TypeError: if the current name is not a parameter, or the former name still is one.
    """
    renamed = renamed_fields(cls)
    fields = getattr(cls, "__dataclass_fields__", {})
    for former, new in renamed.items():
        if not isinstance(new, Renamed):
            raise TypeError(f'{cls.__qualname__}.renamed_fields: {former!r} needs Renamed("NAME", until="VERSION")')
        if new.name not in fields:
            raise TypeError(f"{cls.__qualname__}.renamed_fields: {new.name!r} is not a parameter")
        if former in fields:
            raise TypeError(f"{cls.__qualname__}.{former}: this parameter was renamed to {new.name!r}")
    if renamed:
        _wrap_constructor(cls, renamed)


def _wrap_constructor(cls: type, renamed: Mapping[str, Renamed]) -> None:
    construct: Callable[..., None] = vars(cls)["__init__"]

    @functools.wraps(construct)
    def __init__(self: object, **values: Any) -> None:  # noqa: N807
        for former in renamed.keys() & values.keys():
            name = renamed[former].name
            if name in values:
                raise TypeError(f"{cls.__name__}: {former} is a former name of {name}, which is given too")
            values[name] = values.pop(former)
            text = renamed[former].describe(f"{cls.__name__}.{former}", name)
            warnings.warn(text, FutureWarning, stacklevel=2)  # users do not see a DeprecationWarning by default
        construct(self, **values)

    cls.__init__ = __init__  # type: ignore[misc]
