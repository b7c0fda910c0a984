"""The operations in a SavedModel: a network has no business with files, nor with Python.

TensorFlow runs whatever a graph holds, and some operations read and write any file (TensorFlow's SECURITY.md:
"models are programs"). So an export from somewhere else is looked through before it is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_FORBIDDEN = re.compile(
    "Dataset|Reader|File|Snapshot|Debug|PyFunc|Save|Restore|Checkpoint|Summary|Print|Table|ImmutableConst|LoadAndRemap|Sql"
)
"""In the names of operations that read or write files or networks, or run Python; some tables are filled from files."""
_HARMLESS = re.compile(
    "LookupTable(Find|Size|Export|Import|Insert|Remove)|HashTable|InitializeTable(V2)?$|ShardedFilename"
)
_OF_CHECKPOINTS = frozenset({"SaveV2", "MergeV2Checkpoints", "RestoreV2"})
"""Those with which TensorFlow saves and loads the weights; they belong into its two functions for that alone."""


def forbidden_in(meta_graph: Any) -> str | None:
    """The first operation that must not be there, in the graph of a SavedModel and all its functions; or None.

    Args:
        meta_graph: as in `saved_model.pb`.
    """
    graph = meta_graph.graph_def
    savers = _of_the_saver(meta_graph)
    functions = _functions(graph).items()
    for name, nodes in (("the graph", graph.node), *functions):
        for node in nodes:
            if node.op in _OF_CHECKPOINTS and name in savers:
                continue
            if _FORBIDDEN.search(node.op) and not _HARMLESS.search(node.op):
                return str(node.op)
    return None


def _of_the_saver(meta_graph: Any) -> set[str]:
    """The functions that save and load the weights: those that nothing but the saver's own two operations calls."""
    graph, objects = meta_graph.graph_def, meta_graph.object_graph_def
    saver = {meta_graph.saver_def.save_tensor_name.split(":")[0], meta_graph.saver_def.restore_op_name}
    of_saver = {name for node in graph.node if node.name in saver for name in _called(node)}
    elsewhere = [node for node in graph.node if node.name not in saver]
    inner = [node for nodes in _functions(graph).values() for node in nodes]
    others = {name for node in (*elsewhere, *inner) for name in _called(node)}
    return of_saver - others - set(objects.concrete_functions)  # what objects call may run when they are loaded


def _functions(graph: Any) -> dict[str, Any]:
    """The operations of each function of a graph, by its name."""
    definitions = graph.library.function  # TensorFlow's own name for where a GraphDef keeps them
    return {function.signature.name: function.node_def for function in definitions}


def _called(node: Any) -> Iterator[str]:
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)
