"""Name scopes of graphs: layers built in `model.encoder` have paths below `encoder`."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from tfaip_like._utils.lazy_keras import keras
from tfaip_like.params import Params


@dataclass
class _Scopes:
    """Name scopes of the graphs of a model, while its networks are built."""

    attributes: Mapping[int, list[str]]
    """Paths of the attributes that hold a graph, by its ID."""
    num_calls: Counter[int] = field(default_factory=Counter)
    """Number of calls of each graph, by its ID."""
    used: set[str] = field(default_factory=set)
    open: list[tuple[Params, str]] = field(default_factory=list)
    """Graphs that are being built and their paths, outermost first."""

    def choose_path(self, graph: Params) -> str:
        """Return the path of a graph: its attribute, or its class if it has none; numbered from its second call on."""
        paths = self.attributes.get(id(graph)) or [self._path_by_class(graph)]
        base = paths[min(self.num_calls[id(graph)], len(paths) - 1)]
        self.num_calls[id(graph)] += 1
        path, number = base, 0
        while path in self.used:
            number += 1
            path = f"{base}_{number}"
        self.used.add(path)
        return path

    def _path_by_class(self, graph: Params) -> str:
        name = type(graph).__name__.lower()
        return f"{self.open[-1][1]}/{name}" if self.open else name


_scopes: ContextVar[_Scopes | None] = ContextVar("scopes", default=None)


@contextmanager
def graph_scopes(model: Params) -> Iterator[None]:
    """Give each graph of a model a name scope when it is built in the block."""
    attributes: dict[int, list[str]] = defaultdict(list)
    for path, part in _iter_params(model, ""):
        attributes[id(part)].append(path)
    token = _scopes.set(_Scopes(attributes))
    try:
        yield
    finally:
        _scopes.reset(token)


def in_graph_scope(build: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method `build` of a graph, whose layers get the name scope of the graph."""

    @functools.wraps(build)
    def build_in_scope(graph: Params, *args: Any, **kwargs: Any) -> Any:
        scopes = _scopes.get()
        if scopes is None or (scopes.open and scopes.open[-1][0] is graph):  # super().build
            return build(graph, *args, **kwargs)
        path = scopes.choose_path(graph)
        scopes.open.append((graph, path))
        try:
            with _open_scope(path):
                return build(graph, *args, **kwargs)
        finally:
            scopes.open.pop()

    return build_in_scope


@contextmanager
def _open_scope(path: str) -> Iterator[None]:
    *parents, name = path.split("/")
    with keras.name_scope(name, override_parent="/".join(parents)):
        yield


def _iter_params(value: Any, path: str) -> Iterator[tuple[str, Params]]:
    """Yield the parameter objects in the fields of another one by path, also in lists and dicts."""
    if isinstance(value, Params):
        if path:
            yield path, value
        parts = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    elif isinstance(value, Mapping):
        # TensorFlow rejects other characters in name scopes.
        parts = {re.sub(r"[^\w.-]", "_", str(key), flags=re.ASCII) or "_": part for key, part in value.items()}
    elif isinstance(value, (list, tuple)):
        parts = {str(number): part for number, part in enumerate(value)}
    else:
        return
    for name, part in parts.items():
        yield from _iter_params(part, f"{path}/{name}" if path else name)
