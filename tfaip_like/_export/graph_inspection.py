"""Inspection of the operations in a SavedModel, which must not access files, sockets or Python.

TensorFlow runs any operation of a graph, and some operations read and write files (TensorFlow's SECURITY.md: "models
are programs"). Loading is enough: it runs the functions that initialize tables. Therefore an export is inspected before
TensorFlow loads it, and only operations that are known to be harmless are accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tfaip_like._export.allowed_operations import ALLOWED_OPERATIONS

_CHECKPOINT_OPERATIONS = frozenset({"SaveV2", "MergeV2Checkpoints", "RestoreV2", "ShardedFilename"})
"""Save and restore the weights; allowed only in the two functions that TensorFlow adds for this purpose."""

_TABLE_FROM_FILE = "InitializeTableFromTextFileV2"
"""Reads a vocabulary; allowed only for an asset of the same SavedModel."""

_EMBEDDED_MODULE = "XlaCallModule"
"""Runs a StableHLO module, to which networks on JAX are compiled."""

_ALLOWED_CUSTOM_CALLS = re.compile(
    r"(lapack|blas|cusolver|cublas|cusparse|cuda|hipsolver|hipblas|hipsparse|hip)_\w+_ffi"  # linear algebra
    r"|(cu|hip)_threefry2x32(_ffi)?"  # random numbers
    r"|Sharding|SPMDFullToShardShape|SPMDShardToFullShape|annotate_device_placement|shape_assertion"
    r"|Eigh|Qr|ProductOfElementaryHouseholderReflectors|LuDecomposition|ApproxTopK|TopK|AllocateBuffer"
    r"|stablehlo\.dynamic_(approx_top_k|reduce_window|rng_bit_generator|top_k)|mhlo\.(topk|erf)"
)
"""Custom calls of StableHLO with stable semantics (as listed by jax.export), except those that call back into Python or
TensorFlow or contain machine code (Pallas kernels)."""

_HOST_EXCHANGE_OPERATIONS = ("send", "recv", "infeed", "outfeed")
"""StableHLO operations that exchange data with the host."""


_OPERATION_LINE = re.compile(r'(?:%[^"=]* = )?"vhlo\.(\w+)"\((.*)')
"""Line with an operation: its results and name. MLIR strings escape quotation marks as \\22."""

_STRUCTURE_LINE = re.compile(r"module\b.* \{$|vhlo\.func_v1 @.* \{$|\^\w+(\(.*\))?:$|\}")
"""Line without an operation: the beginning or end of a module, function or block."""


def find_forbidden_operation(meta_graph: Any) -> str | None:
    """Return the first operation that an export must not contain, or None.

    All functions are inspected, however they are referenced: by an attribute, as a gradient, or from the object graph.

    Args:
        meta_graph: Meta graph of `saved_model.pb`.
    """
    graph = meta_graph.graph_def
    savers = _find_saver_functions(meta_graph)
    assets = _find_asset_arguments(meta_graph)
    for name, nodes in (("", graph.node), *_function_nodes(graph).items()):
        for node in nodes:
            if node.op in ALLOWED_OPERATIONS or (name in savers and node.op in _CHECKPOINT_OPERATIONS):
                continue
            if node.op == _TABLE_FROM_FILE and _reads_asset(node, assets.get(name, ())):
                continue
            problem = _find_forbidden_call(node) if node.op == _EMBEDDED_MODULE else str(node.op)
            if problem:
                return problem
    return None


def asset_filenames(meta_graph: Any) -> list[str]:
    """Return the names of the files that a SavedModel reads from its directory `assets`."""
    return [str(asset.filename) for asset in meta_graph.asset_file_def]


def _find_saver_functions(meta_graph: Any) -> set[str]:
    """Return the functions that save and load the weights: those called only by the two saver operations."""
    graph, objects = meta_graph.graph_def, meta_graph.object_graph_def
    saver = {meta_graph.saver_def.save_tensor_name.split(":")[0], meta_graph.saver_def.restore_op_name}
    saver_calls = {name for node in graph.node if node.name in saver for name in _called_functions(node)}
    elsewhere = [node for node in graph.node if node.name not in saver]
    inner = [node for nodes in _function_nodes(graph).values() for node in nodes]
    others = {name for node in (*elsewhere, *inner) for name in _called_functions(node)}
    others |= {gradient.gradient_func for gradient in graph.library.gradient}
    others |= {gradient.gradient_func for gradient in graph.library.registered_gradients}
    return saver_calls - others - set(objects.concrete_functions)  # functions of objects may run when these are loaded


def _function_nodes(graph: Any) -> dict[str, Any]:
    """Return the operations of each function of a graph by its name."""
    return {function.signature.name: function.node_def for function in graph.library.function}


def _called_functions(node: Any) -> Iterator[str]:
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)


def _find_asset_arguments(meta_graph: Any) -> dict[str, set[str]]:
    """Return the arguments that are asset paths, of each function that only the loader calls."""
    graph, objects = meta_graph.graph_def, meta_graph.object_graph_def
    called = {name for nodes in _function_nodes(graph).values() for node in nodes for name in _called_functions(node)}
    asset_arguments = {}
    for function in graph.library.function:
        name = function.signature.name
        if name in called or name not in objects.concrete_functions:
            continue
        # Captured values are the last arguments.
        captured = objects.concrete_functions[name].bound_inputs
        arguments = [argument.name for argument in function.signature.input_arg]
        pairs = zip(arguments[len(arguments) - len(captured) :], captured, strict=False)
        asset_arguments[name] = {
            argument for argument, node in pairs if objects.nodes[node].WhichOneof("kind") == "asset"
        }
    return asset_arguments


def _reads_asset(node: Any, assets: set[str] | tuple[()]) -> bool:
    return len(node.input) > 1 and node.input[1] in assets


def _find_forbidden_call(node: Any) -> str | None:
    """Return the first forbidden call of an embedded StableHLO module, or None."""
    if node.attr["function_list"].list.func:
        return f"{_EMBEDDED_MODULE} that calls TensorFlow"
    operations = _parse_module(node.attr["module"].s)
    if operations is None:
        return f"{_EMBEDDED_MODULE} that cannot be inspected"
    for name, attributes in operations:
        if name.startswith("custom_call"):
            targets = re.findall(r'call_target_name = #vhlo\.string_v1<"([^"]*)">', attributes) or [""]
            for target in targets:
                if not _ALLOWED_CUSTOM_CALLS.fullmatch(target):
                    return f"custom call {target} in {_EMBEDDED_MODULE}"
        if name.startswith(_HOST_EXCHANGE_OPERATIONS):
            return f"{name} in {_EMBEDDED_MODULE}"
    return None


def _parse_module(module: bytes) -> list[tuple[str, str]] | None:
    """Return the operations of a serialized StableHLO module, each with the text after its name; None if unreadable."""
    if not module.startswith(b"ML\xefR"):  # textual, which allows short forms
        return None
    try:
        from tensorflow.compiler.mlir.stablehlo import stablehlo
        from tensorflow.python import pywrap_mlir

        stablehlo.deserialize_portable_artifact_str(module)  # raises unless it is portable StableHLO
        # The stored dialect VHLO has no short forms: all operations are printed as `"vhlo.add_v1"(...)`.
        text = pywrap_mlir.ExperimentalRunPassPipeline(module, "strip-debuginfo", False)
    except Exception:  # another version of TensorFlow, or a corrupt module
        return None
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    if not all(_OPERATION_LINE.match(line) or _STRUCTURE_LINE.match(line) for line in lines):
        return None
    return [(match[1], match[2]) for match in map(_OPERATION_LINE.match, lines) if match]
