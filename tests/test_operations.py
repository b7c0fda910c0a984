"""What a network may hold: an allow-list, checked against all operations of this TensorFlow and against Keras."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from tensorflow.compiler.mlir.stablehlo import stablehlo
from tensorflow.core.framework.op_def_pb2 import OpDef, OpList
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.client import pywrap_tf_session

from tfaip_like import UsageError
from tfaip_like._export.allowed_operations import ALLOWED_OPERATIONS, OPERATION_GROUPS
from tfaip_like._export.exported_model import load_export
from tfaip_like._export.graph_inspection import find_forbidden_operation
from tfaip_like._export.layout import VERSIONS_FORMAT, Versions


@cache
def registered() -> dict[str, OpDef]:
    """Return all operations of this TensorFlow, by their names."""
    listed = pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())
    return {operation.name: operation for operation in OpList.FromString(listed).op}


DANGEROUS = re.compile(
    r"File|Dataset|Iterator|Reader|Dump|Print|PyFunc|Summary|Debug|Save(?!d)|Restore|Checkpoint|Send|Recv|Rpc|Socket|Sql"
    r"|BigQuery|Bigtable|Gcs|Lmdb|LMDB|Remote|Host(?!el)|Feed|TPU|Tpu|Collective|Nccl|Queue|Barrier|Stage|Session|Abort"
    r"|CustomCall|Launch|ImmutableConst|LoadAndRemap|GenerateVocab|Record|Snapshot.|Mutex|Heartbeat|Export(?!V2)|Import(?!V2)"
)
"""In the names of operations that reach beyond their tensors."""
NOT_DANGEROUS = {"XlaOptimizationBarrier"}
REACHING_ARGUMENT = re.compile(r"file|path$|dir$|address|server|target_name|database|url|hostname|query", re.IGNORECASE)
STATE_IN_MEMORY = re.compile(
    r"Variable|VarHandle|VarIs|^Resource(Gather|Scatter|Strided)|Table|Random|Rng|Normal|Uniform|Multinomial|Poisson|Shuffle"
    r"|Sampler|SampleDistorted|NonDeterministicInts|CudnnRNN|TensorArray|Assert|CheckNumerics|^(Stateful)?(Partitioned|If|While|Case)"
    r"|DeviceIndex|DisableCopyOnRead|DestroyResource|DeepCopy|Empty|Xla(If|While)|StatefulPartitionedCall"
)
"""What operations with a state may be, if they are allowed."""


def test_no_operation_that_reaches_beyond_its_tensors_is_allowed() -> None:
    found = registered()
    assert len(found) > 1500
    dangerous = {name for name in found if DANGEROUS.search(name)} - NOT_DANGEROUS
    assert {"ReadFile", "WriteFile", "DumpTensor", "PyFuncStateless", "MatchingFiles", "Recv", "PrintV2"} <= dangerous
    assert not dangerous & ALLOWED_OPERATIONS
    for name, operation in found.items():
        arguments = [part.name for part in (*operation.input_arg, *operation.attr)]
        reaching = [argument for argument in arguments if REACHING_ARGUMENT.search(argument)]
        assert not (reaching and name in ALLOWED_OPERATIONS), (name, reaching)


def test_an_allowed_operation_with_a_state_keeps_it_in_memory() -> None:
    found = registered()
    stateful = [name for name in ALLOWED_OPERATIONS if name in found and found[name].is_stateful]
    assert [name for name in stateful if not STATE_IN_MEMORY.search(name)] == []


def test_each_allowed_operation_exists_in_exactly_one_group() -> None:
    names = [name for group in OPERATION_GROUPS.values() for name in group.split()]
    assert len(names) == len(set(names))
    missing = [name for name in names if name not in registered()]
    assert missing == []


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a SavedModel with a table, control flow, a custom gradient and random numbers."""
    path = tmp_path_factory.mktemp("saved") / "serve"
    vocabulary = path.parent / "words.txt"
    vocabulary.write_text("a\nb\n")
    text = keras.Input((3,), dtype="string", name="text")
    number = keras.Input((6, 4), name="number")
    indices = layers.StringLookup(vocabulary=str(vocabulary))(text)
    x = layers.Embedding(8, 4)(indices)
    y = layers.Bidirectional(layers.LSTM(3, dropout=0.5))(number)
    out = layers.Dense(2, name="p")(layers.Concatenate()([layers.Flatten()(x), layers.Dropout(0.5)(y)]))
    keras.Model([text, number], out).export(str(path), verbose=False)
    return path


def meta_graph_of(path: Path) -> MetaGraphDef:
    return SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs[0]


def test_every_operation_that_is_not_allowed_is_rejected_at_any_place(saved: Path) -> None:
    whole = meta_graph_of(saved)
    assert find_forbidden_operation(whole) is None
    functions = {function.signature.name: function for function in whole.graph_def.library.function}
    nodes = [node for function in functions.values() for node in function.node_def]
    called = {value.func.name for node in nodes for value in node.attr.values()}
    of_table = next(name for name in functions if "initializer" in name)
    body = next(name for name in functions if name in called)
    saver = next(name for name, function in functions.items() if any(node.op == "SaveV2" for node in function.node_def))
    places: list[Any] = [whole.graph_def.node, *(functions[name].node_def for name in (of_table, body, saver))]
    rejected = sorted(set(registered()) - ALLOWED_OPERATIONS - {"XlaCallModule"})
    everywhere = {*rejected[::20], "SaveV2", "MergeV2Checkpoints", "RestoreV2", "ShardedFilename", "WriteFile"}
    for name in rejected:
        for place in places if name in everywhere else places[:1]:
            if place is places[-1] and name in ("SaveV2", "MergeV2Checkpoints", "RestoreV2", "ShardedFilename"):
                continue
            node = place.add()
            node.op = name
            assert find_forbidden_operation(whole) == name
            del place[-1]
    assert find_forbidden_operation(whole) is None


def test_the_operations_of_the_saver_are_allowed_to_the_saver_alone(saved: Path) -> None:
    whole = meta_graph_of(saved)
    library = whole.graph_def.library
    saver = next(f for f in library.function if any(node.op == "SaveV2" for node in f.node_def))
    for call in ("function", "gradient", "registered", "object"):
        changed = MetaGraphDef.FromString(whole.SerializeToString())
        functions = changed.graph_def.library
        if call == "function":
            caller = next(f for f in functions.function if f.signature.name != saver.signature.name)
            caller.node_def.add(op="PartitionedCall").attr["f"].func.name = saver.signature.name
        elif call == "gradient":
            functions.gradient.add(function_name="f", gradient_func=saver.signature.name)
        elif call == "registered":
            functions.registered_gradients.add(registered_op_type="g", gradient_func=saver.signature.name)
        else:
            changed.object_graph_def.concrete_functions[saver.signature.name].SetInParent()
        assert find_forbidden_operation(changed) in ("SaveV2", "ShardedFilename", "MergeV2Checkpoints"), call


def write_files(export: Path) -> None:
    """Write the files of an export next to its network."""
    for name in ("scenario_params.json", "metrics.json"):
        (export / name).write_text('{"format_version": 1}')
    VERSIONS_FORMAT.write(export / "versions.json", Versions({}, {}, (), {}, (0, 0)))


def test_a_table_is_filled_from_an_asset_of_the_export_alone(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("mine\n")
    for change in ("constant", "called", "name"):
        copy = tmp_path / change
        shutil.copytree(saved, copy / "serve")
        write_files(copy)
        model = SavedModel.FromString((saved / "saved_model.pb").read_bytes())
        whole = model.meta_graphs[0]
        function = next(f for f in whole.graph_def.library.function if "initializer" in f.signature.name)
        [table] = [node for node in function.node_def if node.op == "InitializeTableFromTextFileV2"]
        if change == "constant":
            constant = function.node_def.add(name="path", op="Const")
            constant.attr["dtype"].type = tf.string.as_datatype_enum
            constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(str(tmp_path / "secret.txt")))
            table.input[1] = "path:output:0"
            message = "contains the operation InitializeTableFromTextFileV2"
        elif change == "called":
            caller = next(f for f in whole.graph_def.library.function if f.signature.name != function.signature.name)
            caller.node_def.add(op="PartitionedCall").attr["f"].func.name = function.signature.name
            message = "contains the operation InitializeTableFromTextFileV2"
        else:
            whole.asset_file_def[0].filename = "../../../secret.txt"
            message = "secret.txt: outside of the export"
        (copy / "serve" / "saved_model.pb").write_bytes(model.SerializeToString())
        with pytest.raises(UsageError, match=message):
            load_export(copy)


# Graphs that TensorFlow traces.


def writes(x: tf.Tensor) -> tf.Tensor:
    tf.io.write_file("stolen.txt", "mine")
    return x


def reads(x: tf.Tensor) -> tf.Tensor:
    return x + tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)


def prints(x: tf.Tensor) -> tf.Tensor:
    tf.print("\x1b[2J", x)
    return x


def lists(x: tf.Tensor) -> tf.Tensor:
    return x + tf.cast(tf.size(tf.io.matching_files("/*")), tf.float32)


def iterates(x: tf.Tensor) -> tf.Tensor:
    return x + tf.cast(tf.data.TextLineDataset("/etc/hostname").reduce(np.int64(0), lambda n, _: n + 1), tf.float32)


def calls_python(x: tf.Tensor) -> tf.Tensor:
    return tf.numpy_function(lambda y: y, [x], tf.float32)


@tf.custom_gradient
def with_gradient(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    return tf.identity(x), lambda upstream: writes(upstream)


HOSTILE = {
    "plain": writes,
    "in a branch": lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: writes(x), lambda: x),
    "in a loop": lambda x: tf.while_loop(lambda i, y: i < 2, lambda i, y: (i + 1, writes(y)), (0, x))[1],
    "in a case": lambda x: tf.switch_case(tf.cast(x[0], tf.int32), [lambda: x, lambda: reads(x)]),
    "in a map": lambda x: tf.map_fn(reads, x),
    "in nested functions": lambda x: tf.function(lambda y: tf.function(reads)(y))(x),
    "in XLA": lambda x: tf.function(writes, jit_compile=True)(x),
    "in the gradient": lambda x: tf.gradients(with_gradient(x), x)[0],
    "printed": prints,
    "listing": lists,
    "a dataset": iterates,
    "Python": calls_python,
}


@pytest.mark.parametrize("function", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_graph_is_rejected_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: Callable[[tf.Tensor], tf.Tensor]
) -> None:
    module = tf.Module()
    module.f = tf.function(lambda x: {"y": function(x)}, input_signature=[tf.TensorSpec((3,), tf.float32, "x")])
    tf.saved_model.save(module, str(tmp_path / "serve"), signatures={"serving_default": module.f})
    write_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="serve: contains the operation .*(\n|.)*--trust_code"):
        load_export(tmp_path)
    assert not (tmp_path / "stolen.txt").exists()
    assert set(load_export(tmp_path, trust_code=True).outputs) == {"y"}


# Modules of XLA.


def module_with(text: str) -> MetaGraphDef:
    artifact = stablehlo.serialize_portable_artifact_str(text, stablehlo.get_current_version())
    whole = MetaGraphDef()
    whole.graph_def.node.add(op="XlaCallModule").attr["module"].s = artifact
    return whole


FUNCTION = "module {{ func.func @main(%a: tensor<2xf32>) -> tensor<2xf32> {{ {} return %r : tensor<2xf32> }} }}"
CALL = '%r = stablehlo.custom_call @{}(%a) {{backend_config = "{}"}} : (tensor<2xf32>) -> tensor<2xf32>\n'
FALSE_NAME = 'call_target_name = #vhlo.string_v1<\\"Qr\\">'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("%r = stablehlo.add %a, %a : tensor<2xf32>\n", None),
        (CALL.format("Qr", ""), None),
        (CALL.format("lapack_sgeqrf_ffi", ""), None),
        (CALL.format("xla_ffi_python_cpu_callback", ""), "custom call xla_ffi_python_cpu_callback in XlaCallModule"),
        (CALL.format("tf.call_tf_function", ""), "custom call tf.call_tf_function in XlaCallModule"),
        (CALL.format("system", FALSE_NAME), "custom call system in XlaCallModule"),
        (
            '%t = stablehlo.create_token : !stablehlo.token\n%s = "stablehlo.outfeed"(%a, %t) {outfeed_config = ""} : '
            "(tensor<2xf32>, !stablehlo.token) -> !stablehlo.token\n%r = stablehlo.negate %a : tensor<2xf32>\n",
            "outfeed_v1 in XlaCallModule",
        ),
        (
            "%p = stablehlo.constant dense<true> : tensor<i1>\n%r = \"stablehlo.if\"(%p) ({ "
            + CALL.format("evil", "").replace("%r", "%c")
            + "stablehlo.return %c : tensor<2xf32> }, { stablehlo.return %a : tensor<2xf32> }) : "
            "(tensor<i1>) -> tensor<2xf32>\n",
            "custom call evil in XlaCallModule",
        ),
    ],
)  # fmt: skip
def test_calls_out_of_an_xla_module_are_rejected(text: str, problem: str | None) -> None:
    assert find_forbidden_operation(module_with(FUNCTION.format(text))) == problem


def test_an_xla_module_that_cannot_be_inspected_is_rejected() -> None:
    for module in (b"", b"ML\xefR rubbish", FUNCTION.format(CALL.format("evil", "")).encode()):
        whole = MetaGraphDef()
        whole.graph_def.node.add(op="XlaCallModule").attr["module"].s = module
        assert find_forbidden_operation(whole) == "XlaCallModule that cannot be inspected"
    calling = module_with(FUNCTION.format("%r = stablehlo.negate %a : tensor<2xf32>\n"))
    calling.graph_def.node[0].attr["function_list"].list.func.add(name="f")
    assert find_forbidden_operation(calling) == "XlaCallModule that calls TensorFlow"


EXPORT_ON_JAX = """
import keras
from keras import layers, ops
i = keras.Input((8, 8, 3))
x = layers.BatchNormalization()(layers.Conv2D(4, 3)(i))
p = layers.Dense(3, activation="softmax")(layers.GRU(4)(layers.Reshape((36, 4))(layers.Dropout(0.5)(x))))
q = ops.sum(ops.qr(ops.reshape(i, (-1, 24, 8)))[0], axis=(1, 2))
keras.Model(i, [p, q]).export("exported", verbose=False)
"""


@pytest.mark.slow
def test_a_network_on_jax_is_accepted(tmp_path: Path) -> None:
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    subprocess.run(
        [sys.executable, "-c", EXPORT_ON_JAX], cwd=tmp_path, check=True, capture_output=True, env=environment
    )
    assert find_forbidden_operation(meta_graph_of(tmp_path / "exported")) is None


# Networks of Keras.

FLOATS, SEQUENCE, IMAGE, SOUND = (((4,), "float32"), ((6, 4), "float32"), ((8, 8, 3), "float32"), ((64,), "float32"))
TEXT, INTEGERS = (((1,), "string"), ((3,), "int32"))


def lengths(x: Any) -> Any:
    return ops.sum(ops.ones_like(x[..., 0], "int32"), axis=1)


LAYERS: dict[str, tuple[tuple[tuple[int, ...], str], Callable[[Any], Any]]] = {
    "normalization": (FLOATS, lambda x: layers.Normalization(mean=0.0, variance=1.0)(x)),
    "discretization": (FLOATS, lambda x: layers.Discretization([0.0, 1.0])(x)),
    "spectral": (FLOATS, lambda x: layers.SpectralNormalization(layers.Dense(3))(x)),
    "lstm": (SEQUENCE, lambda x: layers.LSTM(3, recurrent_dropout=0.1)(x)),
    "bidirectional": (SEQUENCE, lambda x: layers.Bidirectional(layers.GRU(3, return_sequences=True))(x)),
    "masked": (SEQUENCE, lambda x: layers.LSTM(3)(layers.Masking()(x))),
    "convlstm": (SEQUENCE, lambda x: layers.ConvLSTM1D(2, 2)(layers.Reshape((2, 3, 4))(x))),
    "attention": (SEQUENCE, lambda x: layers.MultiHeadAttention(2, 2)(x, x)),
    "grouped": (SEQUENCE, lambda x: layers.GroupQueryAttention(2, 2, 1)(x, x)),
    "distributed": (SEQUENCE, lambda x: layers.TimeDistributed(layers.Dense(2))(x)),
    "ctc": (SEQUENCE, lambda x: ops.ctc_decode(x, lengths(x))[0]),
    "beam": (SEQUENCE, lambda x: ops.ctc_decode(x, lengths(x), strategy="beam_search")[0]),
    "image": (IMAGE, lambda x: layers.Resizing(6, 6)(layers.CenterCrop(7, 7)(x))),
    "augmented": (IMAGE, lambda x: layers.RandomRotation(0.2)(layers.RandomZoom(0.2)(x), training=True)),
    "flipped": (IMAGE, lambda x: layers.RandomFlip()(layers.RandomContrast(0.2)(x), training=True)),
    "depthwise": (IMAGE, lambda x: layers.SeparableConv2D(2, 2)(layers.DepthwiseConv2D(2)(x))),
    "transposed": (IMAGE, lambda x: layers.Conv2DTranspose(2, 2)(layers.MaxPooling2D(2)(x))),
    "strings": (TEXT, lambda x: layers.StringLookup(vocabulary=["a", "b"], output_mode="multi_hot")(x)),
    "inverse": (INTEGERS, lambda x: layers.StringLookup(vocabulary=["a", "b"], invert=True)(x)),
    "words": (TEXT, lambda x: layers.TextVectorization(vocabulary=["a", "b c"], ngrams=2)(x)),
    "tf_idf": (TEXT, lambda x: layers.TextVectorization(vocabulary=["a"], idf_weights=[1.0], output_mode="tf_idf")(x)),
    "hashed": (TEXT, lambda x: layers.Hashing(8, salt=[1, 2])(x)),
    "crossed": (INTEGERS, lambda x: layers.HashedCrossing(8)((x[:, :1], x[:, 1:2]))),
    "lookup": (INTEGERS, lambda x: layers.IntegerLookup(vocabulary=[1, 2])(x)),
    "categories": (INTEGERS, lambda x: layers.CategoryEncoding(8, output_mode="count")(x)),
    "embedded": (INTEGERS, lambda x: layers.GRU(2)(layers.Embedding(8, 4, mask_zero=True)(x))),
    "mel": (SOUND, lambda x: layers.MelSpectrogram(sequence_length=8, fft_length=16, sequence_stride=4)(x)),
    "stft": (SOUND, lambda x: layers.STFTSpectrogram(frame_length=16, frame_step=8, fft_length=16)(x[..., None])),
}  # fmt: skip


@pytest.mark.slow
def test_layers_of_keras_are_accepted(tmp_path: Path) -> None:
    inputs = {str(kind): keras.Input(kind[0], dtype=kind[1]) for kind, _ in LAYERS.values()}
    outputs = {name: layer(inputs[str(kind)]) for name, (kind, layer) in LAYERS.items()}
    keras.Model(list(inputs.values()), outputs).export(str(tmp_path / "exported"), verbose=False)
    assert find_forbidden_operation(meta_graph_of(tmp_path / "exported")) is None
