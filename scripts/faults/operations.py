"""Check of all TensorFlow operations against the allow-list of exports."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

DANGEROUS_PATTERN = re.compile(
    r"File|Directory|Dump|Dataset(?!.*Cardinality)|Iterator|Reader|Snapshot.|Debug|PyFunc|Save|Restore|"
    r"Checkpoint|Summary|Print|ImmutableConst|LoadAndRemap|Sql|Cache|Rpc|Socket|Server|Bigtable|Bigquery|Gcs|Kafka|"
    r"TextLine|FixedLengthRecord|TFRecord|LMDB|CompilationCache|Compile(?!.*Xla)|Assert.*File|Record(?!.*Input)"
)
"""In the names of operations that read or write files, reach the network, or run code; on the broad side."""


@dataclass(frozen=True)
class Counts:
    """Classification of the operations of this TensorFlow."""

    allowed: list[str]
    rejected: list[str]
    dangerous_allowed: list[str]

    @property
    def dangerous_rejected(self) -> list[str]:
        """Return the operations with dangerous names that are rejected."""
        return [name for name in self.rejected if DANGEROUS_PATTERN.search(name)]


def list_registered() -> list[str]:
    """Return the names of all operations that TensorFlow has registered."""
    import tensorflow  # noqa: F401
    from tensorflow.python.framework import op_def_registry

    return (
        sorted(op_def_registry.get_registered_ops())
        if hasattr(op_def_registry, "get_registered_ops")
        else _list_registered_in_c()
    )


def _list_registered_in_c() -> list[str]:
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session

    found = op_def_pb2.OpList()
    found.ParseFromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    return sorted(operation.name for operation in found.op)


def is_rejected(name: str) -> bool:
    """Return whether a graph with one operation of this name is rejected."""
    from tensorflow.core.protobuf import meta_graph_pb2

    from tfaip_like._export.graph_inspection import find_forbidden_operation

    meta_graph = meta_graph_pb2.MetaGraphDef()
    meta_graph.graph_def.node.add(name="one", op=name)
    return find_forbidden_operation(meta_graph) is not None


def count(judge: Callable[[str], bool] = is_rejected) -> Counts:
    """Return the counts for all registered operations."""
    names = list_registered()
    rejected = [name for name in names if judge(name)]
    allowed = [name for name in names if name not in set(rejected)]
    return Counts(allowed, rejected, [name for name in allowed if DANGEROUS_PATTERN.search(name)])
