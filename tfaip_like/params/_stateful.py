"""Parameters whose copies have a state: callbacks and loggers."""

from __future__ import annotations

import abc
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from tfaip_like._user_code.code_errors import CodeError
from tfaip_like._utils.json_files import Json
from tfaip_like.params._base import field_types
from tfaip_like.params._params import Params


class StatefulParams(Params, abc.ABC):
    """Params that code may set other attributes on; these are its state, and the parameters stay frozen.

    Example:
        >>> class Counter(StatefulParams):
        ...     first: int = 0
        >>> counter = Counter(first=3)
        >>> counter.count, counter._file = 4, None
        >>> counter.state_dict()
        {'count': 4}
    """

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        cls.__setattr__ = _set_attribute  # type: ignore[method-assign,assignment]  # that of a frozen dataclass rejects all names

    def state_dict(self) -> dict[str, Any]:
        """Return the state as JSON values: all attributes except parameters and private ones."""
        parameters = field_types(type(self))
        return {name: value for name, value in vars(self).items() if name not in parameters and name[0] != "_"}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned.

        Args:
            state: JSON values.
        """
        for name, value in state.items():
            setattr(self, name, value)


def read_state(params: StatefulParams) -> Json:
    """Return the state as JSON values.

    Raises:
        CodeError: if it cannot be written as JSON.
    """
    try:
        state: Json = json.loads(json.dumps(params.state_dict()))
    except (TypeError, ValueError) as problem:
        raise CodeError(
            f"{type(params).__name__}.state_dict: {problem}; store JSON values (numbers, strings, lists, dicts), or "
            "begin the name of the attribute with an underscore to leave it out",
            type(params),
        ) from problem
    return state


def _set_attribute(params: StatefulParams, name: str, value: Any) -> None:
    """Set an attribute that is not a parameter."""
    if name in field_types(type(params)):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
    object.__setattr__(params, name, value)


StatefulParams.__setattr__ = _set_attribute  # type: ignore[method-assign,assignment]
