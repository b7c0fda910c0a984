"""The operations in a SavedModel: a network has no business with files, nor with Python.

TensorFlow runs whatever a graph holds, and some operations read and write any file (TensorFlow's SECURITY.md:
"models are programs"). So an export from somewhere else is looked through before it is used.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

FORBIDDEN = frozenset(
    {"WriteFile", "ReadFile", "MatchingFiles", "PrintV2", "CreateSummaryFileWriter", "WriteRawProtoSummary"}
    | {"PyFunc", "PyFuncStateless", "EagerPyFunc", "Save", "SaveSlices", "TFRecordReaderV2", "TextLineReaderV2"}
    | {"FixedLengthRecordReaderV2", "WholeFileReaderV2", "TextLineDataset", "TFRecordDataset", "SaveDatasetV2"}
    | {"LoadDataset", "CacheDatasetV2", "DebugIdentityV2", "DebugNumericSummaryV2", "CompileAndRun"}
)
OF_CHECKPOINTS = frozenset({"SaveV2", "MergeV2Checkpoints", "RestoreV2"})
"""Those with which TensorFlow loads the weights, which are no part of a prediction."""


def forbidden_in(graphs: Iterable[Any], also: frozenset[str] = frozenset()) -> str | None:
    """The first operation of some graphs and their functions that must not be there, or None.

    Args:
        graphs: GraphDefs of TensorFlow.
        also: further operations that must not be there.
    """
    for graph in graphs:
        functions = (node for function in graph.library.function for node in function.node_def)
        for node in (*graph.node, *functions):
            if node.op in FORBIDDEN or node.op in also:
                return str(node.op)
    return None
