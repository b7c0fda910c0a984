"""State of iterators of other libraries, recognised by their methods: nothing is imported for it.

The methods are `state_dict` and `load_state_dict` of the iterator or of the iterable (Hugging Face `IterableDataset`,
`StatefulDataLoader`), or `get_state` and `set_state` of the iterator (Grain).
"""

from __future__ import annotations

import base64
import importlib
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from tfaip_like._utils.json_files import Json

METHODS = (("state_dict", "load_state_dict"), ("get_state", "set_state"))
"""Methods that return and restore a state."""


class IteratorState:
    """Access to the state of one pass over an iterable.

    Args:
        iterable: iterable, whose iterator is made here.
        state: state to continue at; None for the start of the pass.

    Attributes:
        iterator: the iterator of the pass.
    """

    def __init__(self, iterable: Iterable[Any], state: Any = None):
        methods = _find_methods(iterable)
        if methods is not None and state is not None:  # it is restored when the next iterator begins
            getattr(iterable, methods[1])(state)
        self.iterator: Iterator[Any] = iter(iterable)
        self._owner: Any = iterable
        if methods is None:
            self._owner, methods = self.iterator, _find_methods(self.iterator)
            if methods is not None and state is not None:
                getattr(self.iterator, methods[1])(state)
        self._get = None if methods is None else methods[0]

    @property
    def has_state(self) -> bool:
        """Return whether the iterable or its iterator has a state."""
        return self._get is not None

    def get(self) -> Any:
        """Return the state before the next item; None if there is none."""
        return None if self._get is None else getattr(self._owner, self._get)()


def reset_state(iterable: Iterable[Any]) -> None:
    """Let the next iterator begin at the start after a state was restored; Hugging Face keeps it for all."""
    if type(iterable).__module__.partition(".")[0] == "datasets":
        iterable.load_state_dict(None)  # type: ignore[attr-defined]


def _find_methods(value: Any) -> tuple[str, str] | None:
    return next((pair for pair in METHODS if all(callable(getattr(value, name, None)) for name in pair)), None)


def encode_state(value: Any) -> Json:
    """Return a state as JSON: numbers, texts, bytes, arrays, tensors, and lists, tuples and mappings of them.

    Raises:
        TypeError: if it contains something else; names its type.

    Example:
        >>> decode_state(encode_state({"at": (1, b"ab")}))
        {'at': (1, b'ab')}
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [encode_state(part) for part in value]
    if isinstance(value, tuple):
        return {"type": "tuple", "value": [encode_state(part) for part in value]}
    if isinstance(value, Mapping):
        return {"type": "dict", "value": [[encode_state(key), encode_state(part)] for key, part in value.items()]}
    if isinstance(value, bytes | bytearray):
        return {"type": "bytes", "value": base64.b64encode(value).decode()}
    if isinstance(value, np.generic | np.ndarray) and not value.dtype.hasobject:
        return {"type": "array", "value": _encode_array(np.asarray(value))}
    if type(value).__module__ == "torch" and hasattr(value, "detach"):
        return {"type": "tensor", "value": _encode_array(value.detach().cpu().numpy())}
    raise TypeError(type(value).__name__)


def decode_state(value: Json) -> Any:
    """Return the state that `encode_state` has encoded."""
    if isinstance(value, list):
        return [decode_state(part) for part in value]
    if not isinstance(value, dict):
        return value
    kind, content = value["type"], value["value"]
    if kind in ("tuple", "dict"):
        assert isinstance(content, list)
        parts = [decode_state(part) for part in content]
        return tuple(parts) if kind == "tuple" else dict(parts)
    assert isinstance(content, str)
    data = base64.b64decode(content)
    if kind == "bytes":
        return data
    array = np.load(io.BytesIO(data), allow_pickle=False)
    return importlib.import_module("torch").from_numpy(array) if kind == "tensor" else array


def _encode_array(array: np.ndarray[Any, Any]) -> str:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return base64.b64encode(file.getvalue()).decode()
