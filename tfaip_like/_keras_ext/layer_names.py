"""Names of layers: those that the user gave, and unique ones for a functional model.

Keras numbers the names that it chooses (`dense`, `dense_1`) over the whole process, and demands that all names in a
functional model are unique. Afterwards chosen names look like given ones, so each operation remembers which it has.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable

import keras

from tfaip_like._keras_ext.symbolic_graph import find_operations
from tfaip_like._user_code.code_errors import CodeError, call_site

_HAS_AUTOMATIC_NAME = "_has_automatic_name"
"""Attribute of an operation: whether Keras chose its name."""
_NAME_IN_SCOPE = "_name_in_scope"
"""Attribute with the name that the user gave to a layer, if `make_names_unique` has changed it."""


def install() -> None:
    """Patch Keras to record for each new operation whether Keras chose its name."""
    init = keras.Operation.__init__
    if not hasattr(init, _HAS_AUTOMATIC_NAME):
        keras.Operation.__init__ = _record_automatic_name(init)


def _record_automatic_name(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def init_and_record(self: keras.Operation, name: str | None = None) -> None:
        init(self, name=name)
        setattr(self, _HAS_AUTOMATIC_NAME, name is None)

    setattr(init_and_record, _HAS_AUTOMATIC_NAME, True)
    return init_and_record


def has_automatic_name(operation: keras.Operation) -> bool:
    """Return whether Keras chose the name of a layer or another operation."""
    return getattr(operation, _HAS_AUTOMATIC_NAME, False)


def name_in_scope(layer: keras.Layer) -> str:
    """Return the name of a layer in its scope, which is its name unless `make_names_unique` has changed that."""
    name: str = getattr(layer, _NAME_IN_SCOPE, layer.name)
    return name


def scope_of(operation: keras.Operation) -> str:
    """Return the name scope in which a layer was called first; empty outside of any scope."""
    return getattr(operation, "_parent_path", None) or ""


def make_names_unique(outputs: Iterable[keras.KerasTensor], origin: str) -> None:
    """Rename operations whose name another one in the network has.

    A layer of a scope gets the scope as a prefix (`encoder_conv`), an operation that Keras named the next free number.

    Args:
        outputs: Tensors of a network that is not constructed yet.
        origin: Name of what built them, for errors.

    Raises:
        CodeError: If the user gave the same name twice in a scope.
    """
    operations = find_operations(outputs)
    named = [operation for operation in operations if not has_automatic_name(operation)]
    _reject_duplicates(named, origin)
    counts = Counter(operation.name for operation in named)
    taken = {operation.name for operation in operations}
    for operation in named:
        if counts[operation.name] > 1 and (scope := scope_of(operation)):
            setattr(operation, _NAME_IN_SCOPE, operation.name)
            _rename(operation, f"{scope.replace('/', '_')}_{operation.name}", taken)
    for operation in operations:
        if has_automatic_name(operation) and operation.name in counts:
            _rename(operation, operation.name, taken)


def _reject_duplicates(named: Iterable[keras.Operation], origin: str) -> None:
    found: dict[tuple[str, str], keras.Operation] = {}
    for operation in named:
        scope, name = key = scope_of(operation), name_in_scope(operation)
        if found.setdefault(key, operation) is not operation:
            where = f" of the graph {scope!r}" if scope else ""
            pair = (found[key], operation)  # the later one first: found from the outputs
            is_input = any(isinstance(each, keras.layers.InputLayer) for each in pair)
            raise CodeError(
                f"{origin}: {'an input and a layer' if is_input else 'two layers'}{where} are named {name!r}; choose "
                "different names",
                *filter(None, map(call_site, pair)),
            )


def _rename(operation: keras.Operation, base: str, taken: set[str]) -> None:
    """Rename to the base, or to the base with the first free number."""
    name, number = base, 0
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    taken.add(name)
    operation.name = name
