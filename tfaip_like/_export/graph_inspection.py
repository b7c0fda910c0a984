"""The operations in a SavedModel: a network has no business with files, networks or Python.

TensorFlow runs whatever a graph holds, and some operations read and write any file (TensorFlow's SECURITY.md:
"models are programs"). Loading is enough: it runs the functions that initialise tables. So an export is inspected
before TensorFlow sees it, and only operations that are known to be harmless are accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tfaip_like._export.allowed_operations import ALLOWED_OPERATIONS

_CHECKPOINT_OPERATIONS = frozenset({"SaveV2", "MergeV2Checkpoints", "RestoreV2", "ShardedFilename"})
"""Save and restore the weights. They are allowed only in the two functions that TensorFlow itself adds for that."""

_TABLE_FROM_FILE = "InitializeTableFromTextFileV2"
"""Reads a vocabulary. It is allowed only for an asset of the same SavedModel."""

_EMBEDDED_MODULE = "XlaCallModule"
"""Runs a StableHLO module: what a network on JAX becomes."""

_ALLOWED_CUSTOM_CALLS = re.compile(
    r"(lapack|blas|cusolver|cublas|cusparse|cuda|hipsolver|hipblas|hipsparse|hip)_\w+_ffi"  # linear algebra
    r"|(cu|hip)_threefry2x32(_ffi)?"  # random numbers
    r"|Sharding|SPMDFullToShardShape|SPMDShardToFullShape|annotate_device_placement|shape_assertion"
    r"|Eigh|Qr|ProductOfElementaryHouseholderReflectors|LuDecomposition|ApproxTopK|TopK|AllocateBuffer"
    r"|stablehlo\.dynamic_(approx_top_k|reduce_window|rng_bit_generator|top_k)|mhlo\.(topk|erf)"
)
"""The calls out of StableHLO whose meaning is fixed (jax.export lists them as stable), without those that call back
into Python or TensorFlow or that bring their own machine code (Pallas kernels)."""

_HOST_EXCHANGE_OPERATIONS = ("send", "recv", "infeed", "outfeed")
"""Operations of StableHLO that exchange data with the host."""


_OPERATION_LINE = re.compile(r'(?:%[^"=]* = )?"vhlo\.(\w+)"\((.*)')
"""A line of a module: results and name of an operation. Within a text of MLIR, a quotation mark is written as \\22."""

_STRUCTURE_LINE = re.compile(r"module\b.* \{$|vhlo\.func_v1 @.* \{$|\^\w+(\(.*\))?:$|\}")
"""A line of a module without an operation: where a module, a function or a block begins or ends."""


def find_forbidden_operation(meta_graph: Any) -> str | None:
    """Return the first operation that an export must not hold, or None.

    All functions are inspected, whoever refers to them: by an attribute, as a gradient, or from the object graph.

    Args:
        meta_graph: as in `saved_model.pb`.
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
    """Return the names of the files that a SavedModel reads from its folder `assets`."""
    return [str(asset.filename) for asset in meta_graph.asset_file_def]


def _find_saver_functions(meta_graph: Any) -> set[str]:
    """Return the functions that save and load the weights: only the saver's own two operations call them."""
    graph, objects = meta_graph.graph_def, meta_graph.object_graph_def
    saver = {meta_graph.saver_def.save_tensor_name.split(":")[0], meta_graph.saver_def.restore_op_name}
    saver_calls = {name for node in graph.node if node.name in saver for name in _called_functions(node)}
    elsewhere = [node for node in graph.node if node.name not in saver]
    inner = [node for nodes in _function_nodes(graph).values() for node in nodes]
    others = {name for node in (*elsewhere, *inner) for name in _called_functions(node)}
    others |= {gradient.gradient_func for gradient in graph.library.gradient}
    others |= {gradient.gradient_func for gradient in graph.library.registered_gradients}
    return saver_calls - others - set(objects.concrete_functions)  # what objects call may run when they are loaded


def _function_nodes(graph: Any) -> dict[str, Any]:
    """Return the operations of each function of a graph, by its name."""
    definitions = graph.library.function  # TensorFlow's own name for where a GraphDef keeps them
    return {function.signature.name: function.node_def for function in definitions}


def _called_functions(node: Any) -> Iterator[str]:
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (function.name for function in value.list.func)


def _find_asset_arguments(meta_graph: Any) -> dict[str, set[str]]:
    """Return, for each function that nothing but the loader calls, its arguments that are paths of assets."""
    graph, objects = meta_graph.graph_def, meta_graph.object_graph_def
    called = {name for nodes in _function_nodes(graph).values() for node in nodes for name in _called_functions(node)}
    found = {}
    for function in graph.library.function:
        name = function.signature.name
        if name in called or name not in objects.concrete_functions:
            continue
        # Captured values are the last arguments.
        captured = objects.concrete_functions[name].bound_inputs
        arguments = [argument.name for argument in function.signature.input_arg]
        pairs = zip(arguments[len(arguments) - len(captured) :], captured, strict=False)
        found[name] = {argument for argument, node in pairs if objects.nodes[node].WhichOneof("kind") == "asset"}
    return found


def _reads_asset(node: Any, assets: set[str] | tuple[()]) -> bool:
    return len(node.input) > 1 and node.input[1] in assets


def _find_forbidden_call(node: Any) -> str | None:
    """Return what an embedded StableHLO module must not call, or None."""
    if node.attr["function_list"].list.func:
        return f"{_EMBEDDED_MODULE} that calls TensorFlow"
    operations = _parse_module(node.attr["module"].s)
    if operations is None:
        return f"{_EMBEDDED_MODULE} that cannot be inspected"
    for name, rest in operations:
        if name.startswith("custom_call"):
            targets = re.findall(r'call_target_name = #vhlo\.string_v1<"([^"]*)">', rest) or [""]
            for target in targets:
                if not _ALLOWED_CUSTOM_CALLS.fullmatch(target):
                    return f"custom call {target} in {_EMBEDDED_MODULE}"
        if name.startswith(_HOST_EXCHANGE_OPERATIONS):
            return f"{name} in {_EMBEDDED_MODULE}"
    return None


def _parse_module(module: bytes) -> list[tuple[str, str]] | None:
    """Return the operations of a serialised StableHLO module, each with the text that follows its name."""
    if not module.startswith(b"ML\xefR"):  # the text of a module, which has short forms
        return None
    try:
        from tensorflow.compiler.mlir.stablehlo import stablehlo
        from tensorflow.python import pywrap_mlir

        stablehlo.deserialize_portable_artifact_str(module)  # raises for what is no portable StableHLO
        # VHLO, in which it is stored, has no short forms: all operations are written as `"vhlo.add_v1"(...)`.
        text = pywrap_mlir.ExperimentalRunPassPipeline(module, "strip-debuginfo", False)
    except Exception:  # another version of TensorFlow, or a damaged module
        return None
    text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    if not all(_OPERATION_LINE.match(line) or _STRUCTURE_LINE.match(line) for line in lines):
        return None
    return [(match[1], match[2]) for match in map(_OPERATION_LINE.match, lines) if match]
