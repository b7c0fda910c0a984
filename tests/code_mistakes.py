"""Mistakes in the code of a scenario, by area: a changed line, and the line and reason of the expected message."""

from __future__ import annotations

from dataclasses import dataclass

# ruff: noqa: E501  (code and messages are quoted as they are)

GOOD = '''
from __future__ import annotations
import dataclasses
import math
import random as python_random
from pathlib import Path
import numpy as np
from tfaip_like import *

class Files:
    """Images by their index."""
    def __init__(self, count):
        self.count = count
    def __len__(self):
        return self.count
    def __getitem__(self, index):
        random = np.random.default_rng(index)
        image = random.integers(0, 255, (4, 4, 1)).astype("uint8")
        return Sample({"image": image}, {"label": np.int32(index % 3), "size": np.float32(index)})

class Scale(Processor):
    """Bytes to floats."""
    def process(self, sample, random):
        image = sample.inputs["image"].astype("float32") / 255
        return dataclasses.replace(sample, inputs={"image": image})

class Images(Data):
    """Small images."""
    processors: list[Processor] = [Scale()]
    inputs = {"image": Spec((4, 4, 1))}
    targets = {"label": Spec((), "int32"), "size": Spec(())}
    def source(self, mode):
        return Files(40)

class Net(Model):
    """A network."""
    units: int = 4
    """Neurons."""
    def build(self, inputs):
        x = keras.layers.Flatten()(inputs["image"])
        x = keras.layers.Dense(self.units, activation="relu")(x)
        p = keras.layers.Dense(3, activation="softmax")(x)
        return {"p": p}
    def loss(self, inputs, targets, outputs):
        loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])
        return {"ce": loss}
    def metrics(self, inputs, targets, outputs):
        return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}

class Count(Evaluator):
    """Counts errors."""
    def evaluate(self, samples):
        errors = 0
        for sample in samples:
            errors += sample.outputs["p"].argmax() != sample.targets["label"]
        return {"errors": float(errors)}

class Mine(Scenario):
    """Mine."""
    data: Data = Images()
    model: Model = Net()
    evaluator: Evaluator | None = Count()
'''


@dataclass(frozen=True)
class Mistake:
    """What an author writes wrong, and what the program answers."""

    changes: dict[str, str]
    """Pieces of the good scenario, and what stands there instead."""
    line: str
    """The line that is shown; nothing for a file that cannot be read as Python."""
    reason: str
    """How the text below it begins."""
    flags: str = ""


# fmt: off  (a mistake is a line)

NETWORK = {
    "no weights": Mistake(
        {
            'x = keras.layers.Dense(self.units, activation="relu")(x)': "",
            'p = keras.layers.Dense(3, activation="softmax")(x)': "p = ops.softmax(x[:, :3])",
        },
        'return {"p": p}',
        "Net.build: the network has no trainable weights",
    ),
    "all layers frozen": Mistake(
        {
            'keras.layers.Dense(self.units, activation="relu")': "keras.layers.Dense(self.units, trainable=False)",
            'keras.layers.Dense(3, activation="softmax")': "keras.layers.Dense(3, trainable=False)",
        },
        'return {"p": p}',
        "Net.build: the network has no trainable weights",
    ),
    "conv on uint8": Mistake(
        {
            'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1), "uint8")}',
            "processors: list[Processor] = [Scale()]": "processors: list[Processor] = []",
            'x = keras.layers.Flatten()(inputs["image"])': 'x = keras.layers.Flatten()(keras.layers.Conv2D(4, 3)(inputs["image"]))',
        },
        'x = keras.layers.Flatten()(keras.layers.Conv2D(4, 3)(inputs["image"]))',
        "Conv2D 'conv2d': ValueError: Incompatible type conversion requested to type uint8 for `tf.Variable of type",
    ),
    "conv wrong rank": Mistake(
        {
            'x = keras.layers.Flatten()(inputs["image"])': 'x = keras.layers.Flatten()(keras.layers.Conv1D(4, 3)(inputs["image"]))'
        },
        'x = keras.layers.Flatten()(keras.layers.Conv1D(4, 3)(inputs["image"]))',
        "ValueError: Kernel shape must have the same length as input, but received kernel of shape (3, 1, 4) and input",
    ),
    "conv kernel too large": Mistake(
        {
            'x = keras.layers.Flatten()(inputs["image"])': 'x = keras.layers.Flatten()(keras.layers.Conv2D(4, 9)(inputs["image"]))'
        },
        'x = keras.layers.Flatten()(keras.layers.Conv2D(4, 9)(inputs["image"]))',
        "ValueError: Computed output size would be zero or negative. Received `inputs shape=(None, 4, 4, 1)`, `kernel",
    ),
    "pool too large": Mistake(
        {
            'x = keras.layers.Flatten()(inputs["image"])': 'x = keras.layers.Flatten()(keras.layers.MaxPool2D(9)(inputs["image"]))'
        },
        'x = keras.layers.Flatten()(keras.layers.MaxPool2D(9)(inputs["image"]))',
        "ValueError: Computed output size would be zero or negative. Received: `inputs.shape=[None 4 4 1]`,",
    ),
    "lstm wrong rank": Mistake(
        {
            'x = keras.layers.Flatten()(inputs["image"])': 'x = keras.layers.Flatten()(keras.layers.LSTM(4)(inputs["image"]))'
        },
        'x = keras.layers.Flatten()(keras.layers.LSTM(4)(inputs["image"]))',
        "ValueError: Input 0 with name 'None' of layer 'lstm' is incompatible with the layer: expected ndim=3, found",
    ),
    "wrong units float": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = keras.layers.Dense(2.5)(x)"},
        "x = keras.layers.Dense(2.5)(x)",
        "ValueError: Received an invalid value for `units`, expected a positive integer. Received: units=2.5",
    ),
    "wrong units none": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = keras.layers.Dense(None)(x)"},
        "x = keras.layers.Dense(None)(x)",
        "ValueError: Received an invalid value for `units`, expected a positive integer. Received: units=None",
    ),
    "negative units": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = keras.layers.Dense(-3)(x)"},
        "x = keras.layers.Dense(-3)(x)",
        "ValueError: Received an invalid value for `units`, expected a positive integer. Received: units=-3",
    ),
    "misspelt activation": Mistake(
        {
            'x = keras.layers.Dense(self.units, activation="relu")(x)': 'x = keras.layers.Dense(4, activation="rellu")(x)'
        },
        'x = keras.layers.Dense(4, activation="rellu")(x)',
        "ValueError: Could not interpret activation function identifier: rellu",
    ),
    "misspelt layer": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = keras.layers.Dens(4)(x)"},
        "x = keras.layers.Dens(4)(x)",
        "AttributeError: module 'keras.layers' has no attribute 'Dens'",
    ),
    "misspelt argument": Mistake(
        {
            'x = keras.layers.Dense(self.units, activation="relu")(x)': 'x = keras.layers.Dense(4, activations="relu")(x)'
        },
        'x = keras.layers.Dense(4, activations="relu")(x)',
        "ValueError: Unrecognized keyword arguments passed to Dense: {'activations': 'relu'}",
    ),
    "layer given a list": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = keras.layers.Dense(4)([x, x])"},
        "x = keras.layers.Dense(4)([x, x])",
        'ValueError: Layer "dense" expects 1 input(s), but it received 2 input tensors. Inputs received: [<KerasTensor',
    ),
    "layer given the dict": Mistake(
        {'x = keras.layers.Flatten()(inputs["image"])': "x = keras.layers.Dense(4)(inputs)"},
        "x = keras.layers.Dense(4)(inputs)",
        "KeyError: -1",
    ),
    "concatenate one": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = keras.layers.Concatenate()(x)"},
        "x = keras.layers.Concatenate()(x)",
        "ValueError: A `Concatenate` layer should be called on a list of at least 1 input. Received:",
    ),
    "concatenate other shapes": Mistake(
        {
            'x = keras.layers.Dense(self.units, activation="relu")(x)': 'x = keras.layers.Concatenate()([x, inputs["image"]])'
        },
        'x = keras.layers.Concatenate()([x, inputs["image"]])',
        "ValueError: A `Concatenate` layer requires inputs with matching shapes except for the concatenation axis.",
    ),
    "add other shapes": Mistake(
        {
            'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = keras.layers.Add()([x, keras.layers.Dense(7)(x)])"
        },
        "x = keras.layers.Add()([x, keras.layers.Dense(7)(x)])",
        "ValueError: Inputs have incompatible shapes. Received shapes (16,) and (7,)",
    ),
    "missing input key": Mistake(
        {'x = keras.layers.Flatten()(inputs["image"])': 'x = keras.layers.Flatten()(inputs["img"])'},
        'x = keras.layers.Flatten()(inputs["img"])',
        "KeyError: 'img'",
    ),
    "undefined name": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = layers.Dense(self.units)(x)"},
        "x = layers.Dense(self.units)(x)",
        "NameError: name 'layers' is not defined",
    ),
    "attribute that is not": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = keras.layers.Dense(self.unit)(x)"},
        "x = keras.layers.Dense(self.unit)(x)",
        "AttributeError: 'Net' object has no attribute 'unit'",
    ),
    "layer not called": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = keras.layers.Dense(4)"},
        'p = keras.layers.Dense(3, activation="softmax")(x)',
        "ValueError: Only input tensors may be passed as positional arguments. The following argument value should be",
    ),
    "layer class": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = keras.layers.Dense(x)"},
        "x = keras.layers.Dense(x)",
        "ValueError: Received an invalid value for `units`, expected a positive integer. Received: units=<KerasTensor",
    ),
    "returns layer": Mistake(
        {'return {"p": p}': 'return {"p": keras.layers.Dense(3)}'},
        'return {"p": keras.layers.Dense(3)}',
        "Net.build returned 'p' as a Dense; it must return named tensors: {'name': tensor, ...}",
    ),
    "returns none": Mistake(
        {'return {"p": p}': "pass"},
        "def build(self, inputs):",
        "Net.build returned a NoneType; it must return named tensors: {'name': tensor, ...}",
    ),
    "returns tensor": Mistake(
        {'return {"p": p}': "return p"},
        "return p",
        "Net.build returned a KerasTensor; it must return named tensors: {'name': tensor, ...}",
    ),
    "returns numpy": Mistake(
        {'return {"p": p}': 'return {"p": np.zeros(3)}'},
        'return {"p": np.zeros(3)}',
        "Net.build returned 'p' as a ndarray; it must return named tensors: {'name': tensor, ...}",
    ),
    "returns Model": Mistake(
        {'return {"p": p}': 'return keras.Model(inputs, {"p": p})'},
        'return keras.Model(inputs, {"p": p})',
        "Net.build returned a Functional; it must return named tensors: {'name': tensor, ...}",
    ),
    "output named differently": Mistake(
        {'return {"p": p}': 'return {"q": p}'},
        'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])',
        "KeyError: 'p'",
    ),
    "reshape": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = keras.layers.Reshape((3, 3))(x)"},
        "x = keras.layers.Reshape((3, 3))(x)",
        "ValueError: The total size of the tensor must be unchanged. Received: input_shape=(16,), target_shape=(3, 3)",
    ),
    "tf function on symbol": Mistake(
        {
            'x = keras.layers.Dense(self.units, activation="relu")(x)': "import tensorflow as tf\n        x = tf.nn.relu(x)"
        },
        "x = tf.nn.relu(x)",
        "ValueError: A KerasTensor cannot be used as input to a TensorFlow function. A KerasTensor is a symbolic",
    ),
    "np function on symbol": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = np.sqrt(x)"},
        "x = np.sqrt(x)",
        "ValueError: A KerasTensor is symbolic: it's a placeholder for a shape an a dtype. It doesn't have any actual",
    ),
    "np.array of symbol": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = keras.layers.Dense(4)(np.array(x))"},
        "x = keras.layers.Dense(4)(np.array(x))",
        "ValueError: A KerasTensor is symbolic: it's a placeholder for a shape an a dtype. It doesn't have any actual",
    ),
    "if tensor": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "if x[0, 0] > 0:\n            x = x * 2"},
        "if x[0, 0] > 0:",
        "TypeError: A symbolic KerasTensor cannot be used as a boolean.",
    ),
    "for over tensor": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "for row in x:\n            pass"},
        "for row in x:",
        "NotImplementedError: Iterating over a symbolic KerasTensor is not supported.",
    ),
    "len of tensor": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = x * len(x)"},
        "x = x * len(x)",
        "TypeError: object of type 'KerasTensor' has no len()",
    ),
    "float of tensor": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = x * float(x[0, 0])"},
        "x = x * float(x[0, 0])",
        "ValueError: A KerasTensor is symbolic: it's a placeholder for a shape an a dtype. It doesn't have any actual",
    ),
    "matmul shapes": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = ops.matmul(x, ops.ones((7, 3)))"},
        "x = ops.matmul(x, ops.ones((7, 3)))",
        "ValueError: Inner dimensions (`x1.shape[-1]` and `x2.shape[-2]`) must be equal, but received `x1.shape=(None,",
    ),
    "add int and float tensor": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = ops.bitwise_and(x, 3)"},
        "x = ops.bitwise_and(x, 3)",
        "AttributeError: 'int' object has no attribute 'dtype'",
    ),
    "no dependence on inputs": Mistake(
        {'return {"p": p}': 'return {"p": keras.ops.ones((1, 3))}'},
        'return {"p": keras.ops.ones((1, 3))}',
        "Net.build returned 'p' as an EagerTensor; it must return named tensors: {'name': tensor, ...}",
    ),
    "fixed batch size": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = ops.reshape(x, (16, -1))"},
        'p = keras.layers.Dense(3, activation="softmax")(x)',
        "ValueError: Shapes used to initialize variables must be fully-defined (no `None` dimensions). Received:",
    ),
    "mean over batch": Mistake(
        {'return {"p": p}': 'return {"p": ops.mean(p, axis=0)}'},
        'return {"p": ops.mean(p, axis=0)}',
        "Net.build: output 'p' has no batch axis (shape (3,)); outputs need one row per sample, scalars of a whole batch",
    ),
    "self.x =": Mistake(
        {
            'x = keras.layers.Dense(self.units, activation="relu")(x)': "self.hidden = keras.layers.Dense(self.units)\n        x = self.hidden(x)"
        },
        "self.hidden = keras.layers.Dense(self.units)",
        "FrozenInstanceError: cannot assign to field 'hidden'",
    ),
    "duplicate layer names": Mistake(
        {
            'x = keras.layers.Dense(self.units, activation="relu")(x)': 'x = keras.layers.Dense(4, name="a")(x)',
            'p = keras.layers.Dense(3, activation="softmax")(x)': 'p = keras.layers.Dense(3, name="a")(x)',
        },
        'p = keras.layers.Dense(3, name="a")(x)',
        "Net.build: two layers are named 'a'; choose different names",
    ),
    "duplicate layer names in a graph": Mistake(
        {
            "class Net(Model):\n": 'class Part(Graph):\n    n: int = 3\n    def build(self, x):\n        x = keras.layers.Dense(3, name="a")(x)\n        return keras.layers.Dense(self.n, name="a")(x)\n\nclass Net(Model):\n',
            "units: int = 4": "units: int = 4\n    part: Graph = Part()",
            'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = self.part.build(x)",
        },
        'return keras.layers.Dense(self.n, name="a")(x)',
        "Net.build: two layers of the graph 'part' are named 'a'; choose different names",
    ),
    "layer named like an input": Mistake(
        {'p = keras.layers.Dense(3, activation="softmax")(x)': 'p = keras.layers.Dense(3, name="image")(x)'},
        'p = keras.layers.Dense(3, name="image")(x)',
        "Net.build: an input and a layer are named 'image'; choose different names",
    ),
    "layer name with slash": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': 'x = keras.layers.Dense(4, name="a/b")(x)'},
        'x = keras.layers.Dense(4, name="a/b")(x)',
        "ValueError: Argument `name` must be a string and cannot contain character `/`. Received: name=a/b (of type",
    ),
    "dropout above 1": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = keras.layers.Dropout(2)(x)"},
        "x = keras.layers.Dropout(2)(x)",
        "ValueError: Invalid value received for argument `rate`. Expected a float value between 0 and 1. Received:",
    ),
    "python random layer name": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = keras.layers.Dense(4, name=3)(x)"},
        "x = keras.layers.Dense(4, name=3)(x)",
        "ValueError: Argument `name` must be a string and cannot contain character `/`. Received: name=3 (of type",
    ),
    "layer created in loss": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], keras.layers.Dense(3)(outputs["p"]))'
        },
        'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], keras.layers.Dense(3)(outputs["p"]))',
        "ValueError: tf.function only supports singleton tf.Variables created on the first call. Make sure the",
    ),
    "custom layer raises": Mistake(
        {
            "class Net(Model):\n": "class Mine1(keras.layers.Layer):\n    def call(self, x):\n        raise RuntimeError('no way')\n\nclass Net(Model):\n",
            'x = keras.layers.Dense(self.units, activation="relu")(x)': 'x = keras.layers.Dense(self.units, activation="relu")(x)\n        x = Mine1()(x)',
        },
        "raise RuntimeError('no way')",
        "RuntimeError: no way",
    ),
    "custom layer typo in call": Mistake(
        {
            "class Net(Model):\n": "class Mine1(keras.layers.Layer):\n    def call(self, x):\n        return x + self.wight\n\nclass Net(Model):\n",
            'x = keras.layers.Dense(self.units, activation="relu")(x)': 'x = keras.layers.Dense(self.units, activation="relu")(x)\n        x = Mine1()(x)',
        },
        "return x + self.wight",
        "AttributeError: 'Mine1' object has no attribute 'wight'",
    ),
    "custom layer no super init": Mistake(
        {
            "class Net(Model):\n": "class Mine1(keras.layers.Layer):\n    def __init__(self):\n        self.d = keras.layers.Dense(3)\n    def call(self, x):\n        return self.d(x)\n\nclass Net(Model):\n",
            'x = keras.layers.Dense(self.units, activation="relu")(x)': 'x = keras.layers.Dense(self.units, activation="relu")(x)\n        x = Mine1()(x)',
        },
        "x = Mine1()(x)",
        "RuntimeError: In layer 'Mine1', you forgot to call `super().__init__()` as the first statement in the",
    ),
    "custom layer weight in call": Mistake(
        {
            "class Net(Model):\n": "class Mine1(keras.layers.Layer):\n    def call(self, x):\n        w = self.add_weight(shape=(3,))\n        return x * w[0]\n\nclass Net(Model):\n",
            'x = keras.layers.Dense(self.units, activation="relu")(x)': 'x = keras.layers.Dense(self.units, activation="relu")(x)\n        x = Mine1()(x)',
        },
        "w = self.add_weight(shape=(3,))",
        "ValueError: You cannot add new elements of state (variables or sub-layers) to a layer that is already built.",
    ),
    "custom layer no build": Mistake(
        {
            "class Net(Model):\n": "class Mine1(keras.layers.Layer):\n    def call(self, x):\n        return x * self.w\n\nclass Net(Model):\n",
            'x = keras.layers.Dense(self.units, activation="relu")(x)': 'x = keras.layers.Dense(self.units, activation="relu")(x)\n        x = Mine1()(x)',
        },
        "return x * self.w",
        "AttributeError: 'Mine1' object has no attribute 'w'",
    ),
    "custom layer returns none": Mistake(
        {
            "class Net(Model):\n": "class Mine1(keras.layers.Layer):\n    def call(self, x):\n        x * 2\n\nclass Net(Model):\n",
            'x = keras.layers.Dense(self.units, activation="relu")(x)': 'x = keras.layers.Dense(self.units, activation="relu")(x)\n        x = Mine1()(x)',
        },
        'p = keras.layers.Dense(3, activation="softmax")(x)',
        "ValueError: Inputs to a layer should be tensors. Got 'None' (of type <class 'NoneType'>) as input for layer",
    ),
    "custom layer wrong output shape": Mistake(
        {
            "class Net(Model):\n": "class Mine1(keras.layers.Layer):\n    def call(self, x):\n        return x * 2\n    def compute_output_shape(self, s):\n        return (s[0], 9)\n\nclass Net(Model):\n",
            'x = keras.layers.Dense(self.units, activation="relu")(x)': 'x = keras.layers.Dense(self.units, activation="relu")(x)\n        x = Mine1()(x)',
        },
        'p = keras.layers.Dense(3, activation="softmax")(x)',
        "Dense 'dense_1': ValueError: Input 0 with name 'None' of layer 'dense_1' is incompatible with the layer:",
    ),
    "custom layer wrong signature": Mistake(
        {
            "class Net(Model):\n": "class Mine1(keras.layers.Layer):\n    def call(self):\n        return 3\n\nclass Net(Model):\n",
            'x = keras.layers.Dense(self.units, activation="relu")(x)': 'x = keras.layers.Dense(self.units, activation="relu")(x)\n        x = Mine1()(x)',
        },
        "x = Mine1()(x)",
        "TypeError: too many positional arguments",
    ),
    "custom layer raises only when run": Mistake(
        {
            "class Net(Model):\n": "class Mine1(keras.layers.Layer):\n    def call(self, x):\n        return ops.reshape(x, (ops.shape(x)[0] * 2, 3))\n\nclass Net(Model):\n",
            'x = keras.layers.Dense(self.units, activation="relu")(x)': 'x = keras.layers.Dense(self.units, activation="relu")(x)\n        x = Mine1()(x)',
        },
        "return ops.reshape(x, (ops.shape(x)[0] * 2, 3))",
        "InvalidArgumentError: Input to reshape is a tensor with 64 values, but the requested shape has 96",
    ),
    "custom layer numpy inside": Mistake(
        {
            "class Net(Model):\n": "class Mine1(keras.layers.Layer):\n    def call(self, x):\n        return np.sqrt(x)\n\nclass Net(Model):\n",
            'x = keras.layers.Dense(self.units, activation="relu")(x)': 'x = keras.layers.Dense(self.units, activation="relu")(x)\n        x = Mine1()(x)',
        },
        "return np.sqrt(x)",
        "NotImplementedError: Cannot convert a symbolic tf.Tensor (Placeholder:0) to a numpy array.",
    ),
    "custom layer py if": Mistake(
        {
            "class Net(Model):\n": "class Mine1(keras.layers.Layer):\n    def call(self, x):\n        if ops.sum(x) > 0:\n            return x\n        return -x\n\nclass Net(Model):\n",
            'x = keras.layers.Dense(self.units, activation="relu")(x)': 'x = keras.layers.Dense(self.units, activation="relu")(x)\n        x = Mine1()(x)',
        },
        "if ops.sum(x) > 0:",
        "OperatorNotAllowedInGraphError: Using a symbolic `tf.Tensor` as a Python `bool` is not allowed.",
    ),
    "layer lambda error": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = keras.layers.Lambda(lambda t: t.nothing)(x)"},
        "x = keras.layers.Lambda(lambda t: t.nothing)(x)",
        "AttributeError: 'SymbolicTensor' object has no attribute 'nothing'",
    ),
    "super build": Mistake(
        {'return {"p": p}': "return super().build(inputs)"},
        "return super().build(inputs)",
        "Net.build returned a NoneType; it must return named tensors: {'name': tensor, ...}",
    ),
    "data flow division by zero": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = keras.layers.Dense(self.units // 0)(x)"},
        "x = keras.layers.Dense(self.units // 0)(x)",
        "ZeroDivisionError: integer division or modulo by zero",
    ),
    "nested function error": Mistake(
        {
            "class Net(Model):\n": "def block(x, units):\n    return keras.layers.Conv2D(units, 3)(x)\n\nclass Net(Model):\n",
            'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = block(x, 3)",
        },
        "return keras.layers.Conv2D(units, 3)(x)",
        "ValueError: Input 0 with name 'None' of layer 'conv2d' is incompatible with the layer: expected min_ndim=4,",
    ),
    "list of units": Mistake(
        {"units: int = 4": "units: list[int] = [4]"},
        'x = keras.layers.Dense(self.units, activation="relu")(x)',
        "ValueError: Received an invalid value for `units`, expected a positive integer. Received: units=[4]",
    ),
}

DATA = {
    "wrong shape": Mistake(
        {
            'image = random.integers(0, 255, (4, 4, 1)).astype("uint8")': 'image = random.integers(0, 255, (4, 5, 1)).astype("uint8")'
        },
        'return dataclasses.replace(sample, inputs={"image": image})',
        "training sample 0 of Images: input 'image' has shape (4, 5, 1), but its Spec says (4, 4, 1)",
    ),
    "wrong shape from processor": Mistake(
        {
            'return dataclasses.replace(sample, inputs={"image": image})': 'return dataclasses.replace(sample, inputs={"image": image[:, :2]})'
        },
        'return dataclasses.replace(sample, inputs={"image": image[:, :2]})',
        "training sample 0 of Images: input 'image' has shape (4, 2, 1), but its Spec says (4, 4, 1)",
    ),
    "spec shape list": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec([4, 4, 1])}'},
        'inputs = {"image": Spec([4, 4, 1])}',
        "TypeError: Spec([4, 4, 1]): the shape must be a tuple of lengths, such as (28, 28), (None, 3) or ()",
    ),
    "spec shape int": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec(4)}'},
        'inputs = {"image": Spec(4)}',
        "TypeError: Spec(4): the shape must be a tuple of lengths, such as (28, 28), (None, 3) or ()",
    ),
    "spec shape strings": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec(("4", "4"))}'},
        'inputs = {"image": Spec(("4", "4"))}',
        "TypeError: Spec(('4', '4')): the shape must be a tuple of lengths, such as (28, 28), (None, 3) or ()",
    ),
    "spec shape float": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4., 4., 1.))}'},
        'inputs = {"image": Spec((4., 4., 1.))}',
        "TypeError: Spec((4.0, 4.0, 1.0)): the shape must be a tuple of lengths, such as (28, 28), (None, 3) or ()",
    ),
    "spec negative": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((-1, 4, 1))}'},
        'inputs = {"image": Spec((-1, 4, 1))}',
        "TypeError: Spec((-1, 4, 1)): the shape must be a tuple of lengths, such as (28, 28), (None, 3) or ()",
    ),
    "spec args swapped": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec("float32", (4, 4, 1))}'},
        'inputs = {"image": Spec("float32", (4, 4, 1))}',
        "TypeError: Spec('float32'): the shape must be a tuple of lengths, such as (28, 28), (None, 3) or ()",
    ),
    "spec with batch axis": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((None, 4, 4, 1))}'},
        'return dataclasses.replace(sample, inputs={"image": image})',
        "training sample 0 of Images: input 'image' has shape (4, 4, 1), but its Spec says (any, 4, 4, 1)",
    ),
    'spec dtype "complex64"': Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1), "complex64")}'},
        'x = keras.layers.Dense(self.units, activation="relu")(x)',
        "Dense 'dense': InvalidArgumentError: Value for attr 'T' of complex64 is not in the list of allowed values:",
    ),
    'spec dtype "datetime64[s]"': Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1), "datetime64[s]")}'},
        'inputs = {"image": Spec((4, 4, 1), "datetime64[s]")}',
        "TypeError: Spec(..., 'datetime64[s]'): unsupported dtype; expected one of float32, float16, bfloat16,",
    ),
    'spec dtype "object"': Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1), "object")}'},
        'inputs = {"image": Spec((4, 4, 1), "object")}',
        "TypeError: Spec(..., 'object'): unsupported dtype; expected one of float32, float16, bfloat16, float64,",
    ),
    'spec dtype "U5"': Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1), "U5")}'},
        'inputs = {"image": Spec((4, 4, 1), "U5")}',
        "TypeError: Spec(..., 'U5'): unsupported dtype; expected one of float32, float16, bfloat16, float64,",
    ),
    'spec dtype "longdouble"': Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1), "longdouble")}'},
        'inputs = {"image": Spec((4, 4, 1), "longdouble")}',
        "TypeError: Spec(..., 'longdouble'): unsupported dtype; expected one of float32, float16, bfloat16, float64,",
    ),
    'spec dtype "uint64"': Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1), "uint64")}'},
        'return dataclasses.replace(sample, inputs={"image": image})',
        "training sample 0 of Images: input 'image' has dtype float32, which cannot be cast to the uint64 of its Spec",
    ),
    "spec dtype int": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1), int)}'},
        'inputs = {"image": Spec((4, 4, 1), int)}',
        "TypeError: Spec(..., int): ambiguous dtype; use int32 or int64",
    ),
    "spec dtype bool": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1), bool)}'},
        'return dataclasses.replace(sample, inputs={"image": image})',
        "training sample 0 of Images: input 'image' has dtype float32, which cannot be cast to the bool of its Spec",
    ),
    'spec dtype "float"': Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1), "float")}'},
        'inputs = {"image": Spec((4, 4, 1), "float")}',
        "TypeError: Spec(..., float): ambiguous dtype; use float32 or float64",
    ),
    'spec dtype "string"': Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1), "string")}'},
        'inputs = {"image": Spec((4, 4, 1), "string")}',
        "TypeError: Spec(..., 'string'): unsupported dtype; expected one of float32, float16, bfloat16, float64,",
    ),
    'spec dtype "str"': Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1), "str")}'},
        'inputs = {"image": Spec((4, 4, 1), "str")}',
        "TypeError: Spec(..., 'str'): unsupported dtype; expected one of float32, float16, bfloat16, float64,",
    ),
    "spec dtype None": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1), None)}'},
        'inputs = {"image": Spec((4, 4, 1), None)}',
        "TypeError: Spec(..., None): unsupported dtype; expected one of float32, float16, bfloat16, float64,",
    ),
    "spec dtype 3": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1), 3)}'},
        'inputs = {"image": Spec((4, 4, 1), 3)}',
        "TypeError: Spec(..., 3): unsupported dtype; expected one of float32, float16, bfloat16, float64,",
    ),
    'spec dtype "int4"': Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1), "int4")}'},
        'inputs = {"image": Spec((4, 4, 1), "int4")}',
        "TypeError: Spec(..., 'int4'): unsupported dtype; expected one of float32, float16, bfloat16, float64,",
    ),
    'spec dtype "S3"': Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1), "S3")}'},
        'inputs = {"image": Spec((4, 4, 1), "S3")}',
        "TypeError: Spec(..., 'S3'): unsupported dtype; expected one of float32, float16, bfloat16, float64,",
    ),
    'spec dtype "void"': Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1), "void")}'},
        'inputs = {"image": Spec((4, 4, 1), "void")}',
        "TypeError: Spec(..., 'void'): unsupported dtype; expected one of float32, float16, bfloat16, float64,",
    ),
    'spec dtype np.dtype("i4,f4")': Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1), np.dtype("i4,f4"))}'},
        'inputs = {"image": Spec((4, 4, 1), np.dtype("i4,f4"))}',
        "TypeError: Spec(..., dtype([('f0', '<i4'), ('f1', '<f4')])): unsupported dtype; expected one of float32,",
    ),
    'spec dtype "timedelta64"': Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1), "timedelta64")}'},
        'inputs = {"image": Spec((4, 4, 1), "timedelta64")}',
        "TypeError: Spec(..., 'timedelta64'): unsupported dtype; expected one of float32, float16, bfloat16, float64,",
    ),
    "padding wrong": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1), "float32", padding="x")}'},
        'inputs = {"image": Spec((4, 4, 1), "float32", padding="x")}',
        "TypeError: Spec(..., padding='x'): must be a number",
    ),
    "padding None": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1), "float32", padding=None)}'},
        'inputs = {"image": Spec((4, 4, 1), "float32", padding=None)}',
        "TypeError: Spec(..., padding=None): must be a number",
    ),
    "inputs list": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': "inputs = [Spec((4, 4, 1))]"},
        "inputs = [Spec((4, 4, 1))]",
        "Images.inputs is a list, expected {'name': Spec(shape, dtype), ...}",
    ),
    "inputs is Spec": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': "inputs = Spec((4, 4, 1))"},
        "inputs = Spec((4, 4, 1))",
        "Images.inputs is a Spec, expected {'name': Spec(shape, dtype), ...}",
    ),
    "inputs missing": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': ""},
        "class Images(Data):",
        "Images must define `inputs`: {'name': Spec(shape, dtype)}",
    ),
    "inputs annotated": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs: dict = {"image": Spec((4, 4, 1))}'},
        "class Images(Data):",
        "TypeError: Images.inputs: Data has a method of this name; write `inputs = ...` without a type",
    ),
    "inputs method": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'def inputs(self):\n        return {"image": Spec((4, 4, 1))}'},
        'return {"image": Spec((4, 4, 1))}',
        "Images.inputs must be a property: add @property",
    ),
    "inputs property typo": Mistake(
        {
            'inputs = {"image": Spec((4, 4, 1))}': '@property\n    def inputs(self):\n        return {"image": Spec((self.size, 4, 1))}'
        },
        'return {"image": Spec((self.size, 4, 1))}',
        "AttributeError: 'Images' object has no attribute 'size'",
    ),
    "inputs key int": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': "inputs = {3: Spec((4, 4, 1))}"},
        "inputs = {3: Spec((4, 4, 1))}",
        "Images.inputs: 3 is Spec(shape=(4, 4, 1), dtype='float32', padding=0), expected 'name': Spec(shape, dtype)",
    ),
    "inputs named other": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"img": Spec((4, 4, 1))}'},
        'return dataclasses.replace(sample, inputs={"image": image})',
        "training sample 0 of Images: input 'img' is missing (available: image)",
    ),
    "target named other": Mistake(
        {'targets = {"label": Spec((), "int32"), "size": Spec(())}': 'targets = {"lable": Spec((), "int32")}'},
        'return dataclasses.replace(sample, inputs={"image": image})',
        "training sample 0 of Images: target 'lable' is missing (available: label, size)",
    ),
    "stop iteration in getitem": Mistake(
        {'image = random.integers(0, 255, (4, 4, 1)).astype("uint8")': "image = next(iter([]))"},
        "image = next(iter([]))",
        "StopIteration:",
    ),
    "stop iteration in processor": Mistake(
        {'image = sample.inputs["image"].astype("float32") / 255': "image = next(iter([]))"},
        "image = next(iter([]))",
        "StopIteration:",
    ),
    "stop iteration in source": Mistake(
        {"return Files(40)": "next(iter([]))\n        return Files(40)"}, "next(iter([]))", "StopIteration:"
    ),
    "stop iteration in iter source": Mistake(
        {
            "class Scale": "\nclass Gen:\n    def __iter__(self):\n        for i in range(40):\n            yield Files(40)[i]\nclass Scale",
            "yield Files(40)[i]": "yield next(iter([]))",
            "return Files(40)": "return Gen()",
        },
        "yield next(iter([]))",
        "StopIteration:",
        flags="--trainer.samples_per_epoch 32",
    ),
    "error in iter source": Mistake(
        {
            "class Scale": "\nclass Gen:\n    def __iter__(self):\n        for i in range(40):\n            yield Files(40)[i]\nclass Scale",
            "yield Files(40)[i]": "yield Files(40)[i] if i < 20 else 1 / 0",
            "return Files(40)": "return Gen()",
        },
        "yield Files(40)[i] if i < 20 else 1 / 0",
        "ZeroDivisionError: division by zero",
        flags="--trainer.samples_per_epoch 32",
    ),
    "source returns dict": Mistake(
        {"return Files(40)": 'return {"image": np.zeros((40, 4, 4, 1))}'},
        'return {"image": np.zeros((40, 4, 4, 1))}',
        "Images.source(Mode.TRAIN) returned a dict; return an iterable or random-access source (a list of",
    ),
    "source returns dict of samples": Mistake(
        {"return Files(40)": "return {i: Files(40)[i] for i in range(40)}"},
        "return {i: Files(40)[i] for i in range(40)}",
        "Images.source(Mode.TRAIN) returned a dict; return an iterable or random-access source (a list of",
    ),
    "source returns tuple of arrays": Mistake(
        {"return Files(40)": "return np.zeros((40, 4, 4, 1)), np.zeros(40)"},
        "return np.zeros((40, 4, 4, 1)), np.zeros(40)",
        "training sample 0 of Images is a ndarray, expected Sample(inputs=..., targets=...) or (x, y)",
    ),
    "source returns array": Mistake(
        {"return Files(40)": "return np.zeros((40, 4, 4, 1))"},
        "return np.zeros((40, 4, 4, 1))",
        "training sample 0 of Images is a ndarray, expected Sample(inputs=..., targets=...) or (x, y)",
    ),
    "source returns frame": Mistake(
        {"return Files(40)": 'import pandas\n        return pandas.DataFrame({"image": [1, 2]})'},
        "import pandas",
        "ModuleNotFoundError: No module named 'pandas'",
    ),
    "source returns none": Mistake(
        {"return Files(40)": "pass"},
        "def source(self, mode):",
        "Images.source(Mode.TRAIN) returned None; training requires samples",
    ),
    "source returns str": Mistake(
        {"return Files(40)": 'return "data"'},
        'return "data"',
        "Images.source(Mode.TRAIN) returned a str; return an iterable or random-access source (a list of",
    ),
    "source returns int": Mistake(
        {"return Files(40)": "return 40"},
        "return 40",
        "Images.source(Mode.TRAIN) returned an int; return an iterable or random-access source (a list of",
    ),
    "source returns class": Mistake(
        {"return Files(40)": "return Files"},
        "return Files",
        "Images.source(Mode.TRAIN) returned the class Files; return an instance: Files(...)",
    ),
    "source returns Sample": Mistake(
        {"return Files(40)": "return Files(40)[0]"},
        "return Files(40)[0]",
        "Images.source(Mode.TRAIN) returned a Sample; return an iterable or random-access source (a list of",
    ),
    "source returns list of tuples": Mistake(
        {"return Files(40)": "return [(Files(40)[i].inputs, 3) for i in range(40)]"},
        "return [(Files(40)[i].inputs, 3) for i in range(40)]",
        "Images.source(Mode.TRAIN): an item has an int for the targets label, size; expected a mapping, or a tuple in",
    ),
    "source returns list of dicts": Mistake(
        {"return Files(40)": 'return [{"image": 3, "label": 2}] * 40'},
        'return [{"image": 3, "label": 2}] * 40',
        "training sample 0 of Images is a dict, expected Sample(inputs=..., targets=...) or (x, y)",
    ),
    "source returns empty list": Mistake(
        {"return Files(40)": "return []"},
        "return []",
        "Images.source(Mode.TRAIN) returned an empty source; training requires samples",
    ),
    "source wrong signature": Mistake(
        {"def source(self, mode):": "def source(self):"},
        "def source(self):",
        "Images.source is called with (self, mode); it takes (self)",
    ),
    "source without self": Mistake(
        {"def source(self, mode):": "def source(mode):"},
        "def source(mode):",
        "Images.source is called with (self, mode); it takes (mode)",
    ),
    "source misspelt": Mistake(
        {"def source(self, mode):": "def sources(self, mode):"},
        "data: Data = Images()",
        "TypeError: Can't instantiate abstract class Images with abstract method source",
    ),
    "source open missing file": Mistake(
        {"return Files(40)": 'open("nowhere.csv")'},
        'open("nowhere.csv")',
        "FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.csv'",
    ),
    "source np.load missing file": Mistake(
        {"return Files(40)": 'np.load("nowhere.npz")'},
        'np.load("nowhere.npz")',
        "FileNotFoundError: [Errno 2] No such file or directory: 'nowhere.npz'",
    ),
    "source returns for validation none typo": Mistake(
        {"return Files(40)": 'return Files(40) if mode == "train" else None'},
        'return Files(40) if mode == "train" else None',
        "Images.source(Mode.TRAIN) returned None; training requires samples",
    ),
    "keyerror in getitem": Mistake(
        {'image = random.integers(0, 255, (4, 4, 1)).astype("uint8")': 'image = {}["a"]'},
        'image = {}["a"]',
        "KeyError: 'a'",
    ),
    "filenotfound in getitem": Mistake(
        {'image = random.integers(0, 255, (4, 4, 1)).astype("uint8")': 'image = np.load(f"image_{index}.npy")'},
        'image = np.load(f"image_{index}.npy")',
        "FileNotFoundError: [Errno 2] No such file or directory: 'image_0.npy'",
    ),
    "indexerror in getitem": Mistake(
        {'image = random.integers(0, 255, (4, 4, 1)).astype("uint8")': "image = [][index]"},
        "image = [][index]",
        "IndexError: list index out of range",
    ),
    "getitem returns none": Mistake(
        {'return Sample({"image": image}, {"label": np.int32(index % 3), "size": np.float32(index)})': "pass"},
        "def __getitem__(self, index):",
        "training sample 0 of Images is a NoneType, expected Sample(inputs=..., targets=...) or (x, y)",
    ),
    "getitem returns tuple": Mistake(
        {
            'return Sample({"image": image}, {"label": np.int32(index % 3), "size": np.float32(index)})': "return image, 3"
        },
        "return image, 3",
        "Images.source(Mode.TRAIN): an item has an int for the targets label, size; expected a mapping, or a tuple in",
    ),
    "getitem returns dict": Mistake(
        {
            'return Sample({"image": image}, {"label": np.int32(index % 3), "size": np.float32(index)})': 'return {"image": image}'
        },
        'return {"image": image}',
        "training sample 0 of Images is a dict, expected Sample(inputs=..., targets=...) or (x, y)",
    ),
    "getitem slices wrong": Mistake(
        {
            'return Sample({"image": image}, {"label": np.int32(index % 3), "size": np.float32(index)})': 'return [Sample({"image": image}, {})]'
        },
        'return [Sample({"image": image}, {})]',
        "training sample 0 of Images is a list, expected Sample(inputs=..., targets=...) or (x, y)",
    ),
    "len float": Mistake(
        {"return self.count": "return self.count / 2"},
        "return self.count / 2",
        "TypeError: 'float' object cannot be interpreted as an integer",
    ),
    "len negative": Mistake(
        {"return self.count": "return -self.count"}, "return -self.count", "ValueError: __len__() should return >= 0"
    ),
    "len none": Mistake(
        {"return self.count": "pass"},
        "def __len__(self):",
        "TypeError: 'NoneType' object cannot be interpreted as an integer",
    ),
    "len too long": Mistake(
        {
            "random = np.random.default_rng(index)": "random = np.random.default_rng(list(range(40))[index])",
            "return self.count": "return 100",
        },
        "random = np.random.default_rng(list(range(40))[index])",
        "IndexError: list index out of range",
    ),
    "sample without targets": Mistake(
        {
            'return Sample({"image": image}, {"label": np.int32(index % 3), "size": np.float32(index)})': 'return Sample({"image": image})'
        },
        'return dataclasses.replace(sample, inputs={"image": image})',
        "training sample 0 of Images: target 'label' is missing (available: none)",
    ),
    "sample inputs array": Mistake(
        {
            'return Sample({"image": image}, {"label": np.int32(index % 3), "size": np.float32(index)})': 'return Sample(image, {"label": 1})'
        },
        'return Sample(image, {"label": 1})',
        "TypeError: Sample(inputs=...): expected named arrays, {'name': array}, got a ndarray",
    ),
    "sample label string": Mistake(
        {
            'return Sample({"image": image}, {"label": np.int32(index % 3), "size": np.float32(index)})': 'return Sample({"image": image}, {"label": "cat", "size": np.float32(index)})'
        },
        'return dataclasses.replace(sample, inputs={"image": image})',
        "training sample 0 of Images: target 'label' has dtype <U3, which cannot be cast to the int32 of its Spec",
    ),
    "sample label none": Mistake(
        {
            'return Sample({"image": image}, {"label": np.int32(index % 3), "size": np.float32(index)})': 'return Sample({"image": image}, {"label": None, "size": np.float32(index)})'
        },
        'return dataclasses.replace(sample, inputs={"image": image})',
        "training sample 0 of Images: target 'label' has dtype object, which cannot be cast to the int32 of its Spec",
    ),
    "sample label float": Mistake(
        {
            'return Sample({"image": image}, {"label": np.int32(index % 3), "size": np.float32(index)})': 'return Sample({"image": image}, {"label": 1.5, "size": np.float32(index)})'
        },
        'return dataclasses.replace(sample, inputs={"image": image})',
        "training sample 0 of Images: target 'label' has dtype float64, which cannot be cast to the int32 of its Spec",
    ),
    "sample label one-hot": Mistake(
        {
            'return Sample({"image": image}, {"label": np.int32(index % 3), "size": np.float32(index)})': 'return Sample({"image": image}, {"label": np.eye(3)[1], "size": np.float32(index)})'
        },
        'return dataclasses.replace(sample, inputs={"image": image})',
        "training sample 0 of Images: target 'label' has shape (3,), but its Spec says ()",
    ),
    "sample label negative": Mistake(
        {
            'return Sample({"image": image}, {"label": np.int32(index % 3), "size": np.float32(index)})': 'return Sample({"image": image}, {"label": -1, "size": np.float32(index)})'
        },
        'return {"ce": loss}',
        "Net.loss: 'ce' is nan for each sample of the first batch: label -1 is out of range for 3 classes (0..2)",
    ),
    "sample label huge": Mistake(
        {
            'return Sample({"image": image}, {"label": np.int32(index % 3), "size": np.float32(index)})': 'return Sample({"image": image}, {"label": 2 ** 40, "size": np.float32(index)})'
        },
        'return dataclasses.replace(sample, inputs={"image": image})',
        "training sample 0 of Images: target 'label' has values out of the range of the int32 of its Spec",
    ),
    "sample kwargs wrong": Mistake(
        {
            'return Sample({"image": image}, {"label": np.int32(index % 3), "size": np.float32(index)})': 'return Sample(input={"image": image})'
        },
        'return Sample(input={"image": image})',
        "TypeError: Sample.__init__() got an unexpected keyword argument 'input'",
    ),
    "arraysource lengths": Mistake(
        {
            "return Files(40)": 'return ArraySource({"image": np.zeros((40, 4, 4, 1))}, {"label": np.zeros(39), "size": np.zeros(40)})'
        },
        'return ArraySource({"image": np.zeros((40, 4, 4, 1))}, {"label": np.zeros(39), "size": np.zeros(40)})',
        "ArraySource: arrays differ in their number of rows (image: 40, label: 39, size: 40)",
    ),
    "arraysource scalar": Mistake(
        {"return Files(40)": 'return ArraySource({"image": 3.0}, {})'},
        'return ArraySource({"image": 3.0}, {})',
        "array 'image' is a scalar; its first axis must be the sample axis",
    ),
    "arraysource list": Mistake(
        {"return Files(40)": "return ArraySource([np.zeros((40, 4, 4, 1))])"},
        "return ArraySource([np.zeros((40, 4, 4, 1))])",
        "ArraySource(inputs=...): expected named arrays, {'name': array}, got a list",
    ),
    "arraysource array": Mistake(
        {"return Files(40)": "return ArraySource(np.zeros((40, 4, 4, 1)), np.zeros(40))"},
        "return ArraySource(np.zeros((40, 4, 4, 1)), np.zeros(40))",
        "ArraySource(inputs=...): expected named arrays, {'name': array}, got a ndarray",
    ),
    "arraysource ragged": Mistake(
        {"return Files(40)": 'return ArraySource({"image": [[1, 2], [3]]}, {})'},
        'return ArraySource({"image": [[1, 2], [3]]}, {})',
        "array 'image' is not an array (setting an array element with a sequence.",
    ),
    "arraysource objects": Mistake(
        {
            "return Files(40)": 'return ArraySource({"image": np.array([None] * 40)}, {"label": np.zeros(40), "size": np.zeros(40)})'
        },
        'image = sample.inputs["image"].astype("float32") / 255',
        "AttributeError: 'NoneType' object has no attribute 'astype'",
    ),
    "arraysource nothing": Mistake(
        {"return Files(40)": "return ArraySource({}, {})"},
        "return ArraySource({}, {})",
        "ArraySource: arrays differ in their number of rows (no arrays)",
    ),
    "processor returns tuple": Mistake(
        {'return dataclasses.replace(sample, inputs={"image": image})': "return image, 3"},
        "return image, 3",
        "Scale.process returned a tuple, expected a Sample or None",
    ),
    "processor returns dict": Mistake(
        {'return dataclasses.replace(sample, inputs={"image": image})': 'return {"image": image}'},
        'return {"image": image}',
        "Scale.process returned a dict, expected a Sample or None",
    ),
    "processor returns ndarray": Mistake(
        {'return dataclasses.replace(sample, inputs={"image": image})': "return image"},
        "return image",
        "Scale.process returned a ndarray, expected a Sample or None",
    ),
    "processor returns none": Mistake(
        {'return dataclasses.replace(sample, inputs={"image": image})': "pass"},
        "def process(self, sample, random):",
        "100 consecutive training samples of Images were dropped,",
    ),
    "processor forgets targets": Mistake(
        {'return dataclasses.replace(sample, inputs={"image": image})': 'return Sample({"image": image})'},
        'return Sample({"image": image})',
        "training sample 0 of Images: target 'label' is missing (available: none)",
    ),
    "processor modifies in place": Mistake(
        {
            'image = sample.inputs["image"].astype("float32") / 255': 'sample.inputs["image"][:] = 0\n        image = sample.inputs["image"].astype("float32") / 255'
        },
        'sample.inputs["image"][:] = 0',
        "ValueError: assignment destination is read-only",
    ),
    "processor assigns attribute": Mistake(
        {
            'image = sample.inputs["image"].astype("float32") / 255': 'sample.inputs = {"image": 3}\n        image = sample.inputs["image"].astype("float32") / 255'
        },
        'sample.inputs = {"image": 3}',
        "FrozenInstanceError: cannot assign to field 'inputs'",
    ),
    "processor wrong key": Mistake(
        {'image = sample.inputs["image"].astype("float32") / 255': 'image = sample.inputs["img"]'},
        'image = sample.inputs["img"]',
        "KeyError: 'img'",
    ),
    "processor wrong attribute": Mistake(
        {'image = sample.inputs["image"].astype("float32") / 255': 'image = sample.input["image"]'},
        'image = sample.input["image"]',
        "AttributeError: 'Sample' object has no attribute 'input'",
    ),
    "processor wrong signature": Mistake(
        {"def process(self, sample, random):": "def process(self, sample):"},
        "def process(self, sample):",
        "Scale.process is called with (self, sample, random); it takes (self, sample)",
    ),
    "processor misspelt": Mistake(
        {"def process(self, sample, random):": "def proces(self, sample, random):"},
        "processors: list[Processor] = [Scale()]",
        "TypeError: Can't instantiate abstract class Scale with abstract method process",
    ),
    "processor yields": Mistake(
        {'return dataclasses.replace(sample, inputs={"image": image})': "yield sample"},
        "yield sample",
        "Scale.process returned a generator, expected a Sample or None",
    ),
    "processor stores state": Mistake(
        {
            'image = sample.inputs["image"].astype("float32") / 255': 'self.count = 3\n        image = sample.inputs["image"].astype("float32") / 255'
        },
        "self.count = 3",
        "FrozenInstanceError: cannot assign to field 'count'",
    ),
    "processor class in list": Mistake(
        {"[Scale()]": "[Scale]"},
        "processors: list[Processor] = [Scale]",
        "--data.processors: expected an instance, got class Scale; did you mean Scale()?",
    ),
    "processor function in list": Mistake(
        {"[Scale()]": "[lambda sample: sample]"},
        "processors: list[Processor] = [lambda sample: sample]",
        "--data.processors: expected a Processor, got a function",
    ),
    "processor not list": Mistake(
        {"list[Processor] = [Scale()]": "list[Processor] = Scale()"},
        "processors: list[Processor] = Scale()",
        "--data.processors: expected ",
    ),
    "processor random misuse": Mistake(
        {
            'image = sample.inputs["image"].astype("float32") / 255': 'image = sample.inputs["image"].astype("float32") / 255\n        image = image + random.rand(4)'
        },
        "image = image + random.rand(4)",
        "AttributeError: 'Generator' object has no attribute 'rand'",
    ),
    "processor random module": Mistake(
        {
            'image = sample.inputs["image"].astype("float32") / 255': 'image = sample.inputs["image"].astype("float32") / 255\n        image = image + random.randint(1, 2)'
        },
        "image = image + random.randint(1, 2)",
        "AttributeError: 'Generator' object has no attribute 'randint'",
    ),
    "processor zero division": Mistake(
        {
            'image = sample.inputs["image"].astype("float32") / 255': 'image = sample.inputs["image"].astype("float32") / 255\n        image = image / (0 if False else int(0))\n        1 / 0'
        },
        "1 / 0",
        "ZeroDivisionError: division by zero",
    ),
    "processor syntaxless attr": Mistake(
        {
            'image = sample.inputs["image"].astype("float32") / 255': 'image = sample.inputs["image"].astype("float32") / 255\n        image.rezise(3)'
        },
        "image.rezise(3)",
        "AttributeError: 'numpy.ndarray' object has no attribute 'rezise'",
    ),
    "error in data worker": Mistake(
        {'image = sample.inputs["image"].astype("float32") / 255': 'image = sample.inputs["image"] / [][0]'},
        'image = sample.inputs["image"] / [][0]',
        "IndexError: list index out of range",
        flags="--train.num_processes 1 --trainer.sanity_check false",
    ),
    "class_label error": Mistake(
        {
            "return Files(40)": 'return Files(40)\n    def class_label(self, sample):\n        return sample.targets["lable"]'
        },
        'return sample.targets["lable"]',
        "KeyError: 'lable'",
        flags="--train.balance sample",
    ),
    "class_label unhashable": Mistake(
        {
            "return Files(40)": 'return Files(40)\n    def class_label(self, sample):\n        return sample.targets["label"][None]'
        },
        'return sample.targets["label"][None]',
        "TypeError: unhashable type: 'numpy.ndarray'",
        flags="--train.balance sample",
    ),
    "length error": Mistake(
        {
            'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((None, 4, 1))}',
            'x = keras.layers.Flatten()(inputs["image"])': 'x = keras.layers.GlobalAveragePooling2D()(inputs["image"])',
            "return Files(40)": 'return Files(40)\n    def length(self, sample):\n        return sample.inputs["img"].shape[0]',
        },
        'return sample.inputs["img"].shape[0]',
        "KeyError: 'img'",
        flags="--train.buckets 2",
    ),
    "length str": Mistake(
        {
            'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((None, 4, 1))}',
            'x = keras.layers.Flatten()(inputs["image"])': 'x = keras.layers.GlobalAveragePooling2D()(inputs["image"])',
            "return Files(40)": 'return Files(40)\n    def length(self, sample):\n        return "long"',
        },
        'return "long"',
        "ValueError: invalid literal for int() with base 10: 'long'",
        flags="--train.buckets 2",
    ),
    "pipeline returns none": Mistake(
        {"return Files(40)": "return Files(40)\n    def pipeline(self, mode):\n        pass"},
        "def pipeline(self, mode):",
        "Images.pipeline returned None, expected [MyProcessor(), ...]",
    ),
    "pipeline returns class": Mistake(
        {"return Files(40)": "return Files(40)\n    def pipeline(self, mode):\n        return [Scale]"},
        "return [Scale]",
        "Images.pipeline returned <class 'my.Scale'>, expected [MyProcessor(), ...]",
    ),
    "post pipeline broken": Mistake(
        {"return Files(40)": "return Files(40)\n    def post_pipeline(self, mode):\n        return [3]"},
        "return [3]",
        "Images.post_pipeline returned 3, expected [MyProcessor(), ...]",
    ),
    "print in source mutable": Mistake(
        {"return Files(40)": "self.cache = Files(40)\n        return self.cache"},
        "self.cache = Files(40)",
        "FrozenInstanceError: cannot assign to field 'cache'",
    ),
    "describe error": Mistake(
        {
            "def __len__(self):\n        return self.count": "def __len__(self):\n        return self.count\n    def describe(self, index):\n        return self.names[index]\n"
        },
        "return self.names[index]",
        "AttributeError: 'Files' object has no attribute 'names'",
        flags="--train.num_processes 0",
    ),
    "describe error with bad": Mistake(
        {
            "def __len__(self):\n        return self.count": "def __len__(self):\n        return self.count\n    def describe(self, index):\n        return self.names[index]\n",
            'image = random.integers(0, 255, (4, 4, 1)).astype("uint8")': "image = 1 / 0",
        },
        "return self.names[index]",
        "AttributeError: 'Files' object has no attribute 'names'",
    ),
}

LOSS = {
    "loss (n,1)": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = (targets["size"] - outputs["p"][:, :1]) ** 2'
        },
        'return {"ce": loss}',
        "Net.loss: 'ce' has shape (16, 16) for a batch of 16; expected a scalar or shape (16,); reduce",
    ),
    "loss squared n against n1 mean": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = ops.mean((targets["size"] - outputs["p"][:, :1]) ** 2)'
        },
        'loss = ops.mean((targets["size"] - outputs["p"][:, :1]) ** 2)',
        "(batch,) and (batch, 1) broadcast to (batch, batch), which combines each sample with all others",
    ),
    "metric n against n1 mean": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'return {"mae": ops.mean(ops.abs(targets["size"] - outputs["p"][:, :1]))}'
        },
        'return {"mae": ops.mean(ops.abs(targets["size"] - outputs["p"][:, :1]))}',
        "(batch,) and (batch, 1) broadcast to (batch, batch), which combines each sample with all others",
    ),
    "loss missing target": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = keras.losses.sparse_categorical_crossentropy(targets["lable"], outputs["p"])'
        },
        'loss = keras.losses.sparse_categorical_crossentropy(targets["lable"], outputs["p"])',
        "KeyError: 'lable'",
    ),
    "loss missing output": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["q"])'
        },
        'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["q"])',
        "KeyError: 'q'",
    ),
    "loss missing input": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])\n        loss = loss + inputs["img"]'
        },
        'loss = loss + inputs["img"]',
        "KeyError: 'img'",
    ),
    "loss swapped": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = keras.losses.sparse_categorical_crossentropy(outputs["p"], targets["label"])'
        },
        'loss = keras.losses.sparse_categorical_crossentropy(outputs["p"], targets["label"])',
        "ValueError: Argument `output` must have rank (ndim) `target.ndim - 1`. Received: target.shape=(16, 3),",
    ),
    "loss object": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': "loss = keras.losses.SparseCategoricalCrossentropy()"
        },
        'return {"ce": loss}',
        "Net.loss: 'ce' is a SparseCategoricalCrossentropy, not a tensor; use a function such as",
    ),
    "loss string": Mistake(
        {'return {"ce": loss}': 'return {"ce": "sparse_categorical_crossentropy"}'},
        'return {"ce": "sparse_categorical_crossentropy"}',
        "Net.loss: 'ce' is a str, not a tensor; use a function such as",
    ),
    "loss none": Mistake(
        {'return {"ce": loss}': "pass"},
        "def loss(self, inputs, targets, outputs):",
        "Net.loss returned a NoneType; it must return {'name': tensor, ...}",
    ),
    "loss tensor": Mistake(
        {'return {"ce": loss}': "return loss"},
        "return loss",
        "Net.loss returned an EagerTensor; it must return {'name': tensor, ...}",
    ),
    "loss tuple": Mistake(
        {'return {"ce": loss}': 'return {"ce": (loss, 1.0)}'},
        'return {"ce": (loss, 1.0)}',
        "Net.loss: 'ce' is a tuple, not a tensor; use a function such as",
    ),
    "loss dict none": Mistake(
        {'return {"ce": loss}': 'return {"ce": None}'},
        'return {"ce": None}',
        "Net.loss: 'ce' is a NoneType, not a tensor; use a function such as",
    ),
    "loss float": Mistake(
        {'return {"ce": loss}': 'return {"ce": 1.0}'},
        'return {"ce": 1.0}',
        "Net.loss: 'ce' is a float, not a tensor; use a function such as",
    ),
    "loss numpy": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = np.mean(np.array(outputs["p"]), axis=1)'
        },
        'loss = np.mean(np.array(outputs["p"]), axis=1)',
        "NotImplementedError: Cannot convert a symbolic tf.Tensor (",
    ),
    "loss numpy func": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = np.mean(outputs["p"], axis=1)'
        },
        'loss = np.mean(outputs["p"], axis=1)',
        "NotImplementedError: Cannot convert a symbolic tf.Tensor (",
    ),
    "loss int": Mistake(
        {'return {"ce": loss}': 'return {"ce": ops.cast(loss, "int32")}'},
        'return {"ce": ops.cast(loss, "int32")}',
        "Net.loss does not depend on any trainable weight",
    ),
    "loss bool": Mistake(
        {'return {"ce": loss}': 'return {"ce": loss > 0}'},
        'return {"ce": loss > 0}',
        "Net.loss does not depend on any trainable weight",
    ),
    "loss nan": Mistake(
        {'return {"ce": loss}': 'return {"ce": loss * float("nan")}'},
        'return {"ce": loss * float("nan")}',
        "Net.loss: 'ce' is nan for each sample of the first batch, although its data are finite; check for a division by 0",
    ),
    "loss log of zero": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = ops.log(targets["size"] * 0) + ops.mean(outputs["p"], axis=1)'
        },
        'return {"ce": loss}',
        "Net.loss: 'ce' is -inf for each sample of the first batch, although its data are finite; check for a division by 0",
    ),
    "loss constant": Mistake(
        {'return {"ce": loss}': 'return {"ce": ops.zeros_like(loss)}'},
        'return {"ce": ops.zeros_like(loss)}',
        "Net.loss does not depend on any trainable weight",
    ),
    "loss without network": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = ops.cast(targets["label"], "float32")'
        },
        'return {"ce": loss}',
        "Net.loss does not depend on any trainable weight",
    ),
    "loss named loss": Mistake(
        {'return {"ce": loss}': 'return {"loss": loss}'},
        'return {"loss": loss}',
        "Net: 'loss' is reserved by the trainer and cannot be the name of a loss or metric",
    ),
    "loss named val": Mistake(
        {'return {"ce": loss}': 'return {"val_ce": loss}'},
        'return {"val_ce": loss}',
        "Net: 'val_ce' is reserved by the trainer and cannot be the name of a loss or metric",
    ),
    "loss name int": Mistake(
        {'return {"ce": loss}': "return {3: loss}"},
        "return {3: loss}",
        "Net.loss: 3 is not a valid name; it must return {'name': tensor, ...}",
    ),
    "loss name empty": Mistake(
        {'return {"ce": loss}': 'return {"": loss}'},
        'return {"": loss}',
        "Net.loss: '' is not a valid name; it must return {'name': tensor, ...}",
    ),
    "loss wrong dtype mix": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = targets["label"] * outputs["p"][:, 0]'
        },
        'loss = targets["label"] * outputs["p"][:, 0]',
        "InvalidArgumentError: cannot compute Mul as input #1(zero-based) was expected to be a int32 tensor but is a",
    ),
    "loss misspelt function": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = keras.losses.crossentropy(targets["label"], outputs["p"])'
        },
        'loss = keras.losses.crossentropy(targets["label"], outputs["p"])',
        "AttributeError: module 'keras.losses' has no attribute 'crossentropy'",
    ),
    "loss wrong kind": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = keras.losses.categorical_crossentropy(targets["label"], outputs["p"])'
        },
        'loss = keras.losses.categorical_crossentropy(targets["label"], outputs["p"])',
        "ValueError: Arguments `target` and `output` must have the same rank (ndim). Received: target.shape=(16,),",
    ),
    "loss binary shapes": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = keras.losses.binary_crossentropy(targets["label"], outputs["p"])'
        },
        'loss = keras.losses.binary_crossentropy(targets["label"], outputs["p"])',
        "ValueError: Arguments `target` and `output` must have the same rank (ndim). Received: target.shape=(16,),",
    ),
    "loss python if": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])\n        if ops.mean(loss) > 1:\n            loss = loss * 2'
        },
        "if ops.mean(loss) > 1:",
        "OperatorNotAllowedInGraphError: Using a symbolic `tf.Tensor` as a Python `bool` is not allowed.",
    ),
    "loss float()": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])\n        loss = loss * float(ops.mean(loss))'
        },
        "loss = loss * float(ops.mean(loss))",
        "TypeError: float() argument must be a string or a real number, not 'SymbolicTensor'",
    ),
    "loss .numpy()": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])\n        loss.numpy()'
        },
        "loss.numpy()",
        "AttributeError: 'SymbolicTensor' object has no attribute 'numpy'",
    ),
    "loss append self": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])\n        self.losses.append(loss)'
        },
        "self.losses.append(loss)",
        "AttributeError: 'Net' object has no attribute 'losses'",
    ),
    "loss wrong sig": Mistake(
        {"def loss(self, inputs, targets, outputs):": "def loss(self, targets, outputs):"},
        "def loss(self, targets, outputs):",
        "Net.loss is called with (self, inputs, targets, outputs); it takes (self, targets, outputs)",
    ),
    "loss keras sig": Mistake(
        {"def loss(self, inputs, targets, outputs):": "def loss(self, y_true, y_pred):"},
        "def loss(self, y_true, y_pred):",
        "Net.loss is called with (self, inputs, targets, outputs); it takes (self, y_true, y_pred)",
    ),
    "loss parameters swapped": Mistake(
        {"def loss(self, inputs, targets, outputs):": "def loss(self, inputs, outputs, targets):"},
        "def loss(self, inputs, outputs, targets):",
        "Net.loss is called with (self, inputs, targets, outputs); it takes (self, inputs, outputs, targets)",
    ),
    "loss fewer": Mistake(
        {"def loss(self, inputs, targets, outputs):": "def loss(inputs, targets, outputs):"},
        "def loss(inputs, targets, outputs):",
        "Net.loss is called with (self, inputs, targets, outputs); it takes (inputs, targets, outputs)",
    ),
    "loss misspelt": Mistake(
        {"def loss(self": "def losses(self"},
        "model: Model = Net()",
        "TypeError: Can't instantiate abstract class Net with abstract method loss",
    ),
    "loss zero division": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])\n        loss = loss / (self.units - 4) / 0'
        },
        'return {"ce": loss}',
        "Net.loss: 'ce' is inf for each sample of the first batch, although its data are finite; check for a division by 0",
    ),
    "loss py zero division": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])\n        1 / 0'
        },
        "1 / 0",
        "ZeroDivisionError: division by zero",
    ),
    "loss index out of range": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])\n        loss = loss * outputs["p"][:, 7]'
        },
        'loss = loss * outputs["p"][:, 7]',
        "InvalidArgumentError: slice index 7 of dimension 1 out of bounds.",
    ),
    "loss gather": Mistake(
        {
            'loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])': 'loss = ops.take_along_axis(outputs["p"], targets["size"][:, None], axis=1)[:, 0]'
        },
        'loss = ops.take_along_axis(outputs["p"], targets["size"][:, None], axis=1)[:, 0]',
        "InvalidArgumentError: indices[0,0] = ",
    ),
    "metric object": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'return {"accuracy": keras.metrics.SparseCategoricalAccuracy()}'
        },
        'return {"accuracy": keras.metrics.SparseCategoricalAccuracy()}',
        "Net.metrics: 'accuracy' is a metric object; return it from `make_metrics`, and the arguments",
    ),
    "metric object updated": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'm = keras.metrics.SparseCategoricalAccuracy()\n        m.update_state(targets["label"], outputs["p"])\n        return {"accuracy": m.result()}'
        },
        "m = keras.metrics.SparseCategoricalAccuracy()",
        "ValueError: tf.function only supports singleton tf.Variables created on the first call. Make sure the",
    ),
    "metric string": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'return ["accuracy"]'
        },
        'return ["accuracy"]',
        "Net.metrics returned a list; it must return {'name': tensor, ...}",
    ),
    "metric none": Mistake(
        {'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': "pass"},
        "def metrics(self, inputs, targets, outputs):",
        "Net.metrics returned a NoneType; it must return {'name': tensor, ...}",
    ),
    "metric python number": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'return {"a": 1.0}'
        },
        'return {"a": 1.0}',
        "Net.metrics: 'a' is a float, not a tensor; use a function such as",
    ),
    "metric sklearn": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'from sklearn.metrics import f1_score\n        return {"f1": f1_score(targets["label"], outputs["p"])}'
        },
        'return {"f1": f1_score(targets["label"], outputs["p"])}',
        "ValueError: Classification metrics can't handle a mix of multiclass and continuous-multioutput targets",
    ),
    "metric reserved": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'return {"lr": targets["size"]}'
        },
        'return {"lr": targets["size"]}',
        "Net: 'lr' is reserved by the trainer and cannot be the name of a loss or metric",
    ),
    "metric misspelt": Mistake(
        {"def metrics(self": "def metric(self"},
        'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}',
        "Net.metric is never used; did you mean metrics? (start the names of helpers with _)",
    ),
    "metric keyerror": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["lable"], outputs["p"])}'
        },
        'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["lable"], outputs["p"])}',
        "KeyError: 'lable'",
    ),
    "metric 2d": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'return {"a": outputs["p"]}'
        },
        'return {"a": outputs["p"]}',
        "Net.metrics: 'a' has shape (16, 3) for a batch of 16; expected a scalar or shape (16,); reduce",
    ),
}

EVALUATOR = {
    "ev typo": Mistake(
        {
            'errors += sample.outputs["p"].argmax() != sample.targets["label"]': 'errors += sample.outputs["p"].argmax() != sample.targets["lable"]'
        },
        'errors += sample.outputs["p"].argmax() != sample.targets["lable"]',
        "KeyError: 'lable'",
        flags="--trainer.force_eager true",
    ),
    "ev none": Mistake(
        {'return {"errors": float(errors)}': "pass"},
        "def evaluate(self, samples):",
        "Count.evaluate returned a NoneType; it must return {'name': number, ...}",
        flags="--trainer.force_eager true",
    ),
    "ev list": Mistake(
        {'return {"errors": float(errors)}': "return [float(errors)]"},
        "return [float(errors)]",
        "Count.evaluate returned a list; it must return {'name': number, ...}",
        flags="--trainer.force_eager true",
    ),
    "ev float": Mistake(
        {'return {"errors": float(errors)}': "return float(errors)"},
        "return float(errors)",
        "Count.evaluate returned a float; it must return {'name': number, ...}",
        flags="--trainer.force_eager true",
    ),
    "ev string value": Mistake(
        {'return {"errors": float(errors)}': 'return {"errors": "few"}'},
        'return {"errors": "few"}',
        "Count.evaluate: 'errors' is 'few'; expected a number or a summary of tfaip_like.summaries",
        flags="--trainer.force_eager true",
    ),
    "ev array": Mistake(
        {'return {"errors": float(errors)}': 'return {"errors": np.zeros(3)}'},
        'return {"errors": np.zeros(3)}',
        "Count.evaluate: 'errors' is array([0., 0., 0.]); expected a number or a summary of tfaip_like.summaries",
        flags="--trainer.force_eager true",
    ),
    "ev array 1": Mistake(
        {'return {"errors": float(errors)}': 'return {"errors": np.array([errors])}'},
        'return {"errors": np.array([errors])}',
        "Count.evaluate: 'errors' is array([",
        flags="--trainer.force_eager true",
    ),
    "ev zero of 0": Mistake(
        {'return {"errors": float(errors)}': 'count = 0\n        return {"errors": float(errors) / count}'},
        'return {"errors": float(errors) / count}',
        "ZeroDivisionError: float division by zero",
        flags="--trainer.force_eager true",
    ),
    "ev none val": Mistake(
        {'return {"errors": float(errors)}': 'return {"errors": None}'},
        'return {"errors": None}',
        "Count.evaluate: 'errors' is None; expected a number or a summary of tfaip_like.summaries",
        flags="--trainer.force_eager true",
    ),
    "ev dict": Mistake(
        {'return {"errors": float(errors)}': 'return {"errors": {"a": 1}}'},
        'return {"errors": {"a": 1}}',
        "Count.evaluate: 'errors' is {'a': 1}; expected a number or a summary of tfaip_like.summaries",
        flags="--trainer.force_eager true",
    ),
    "ev name int": Mistake(
        {'return {"errors": float(errors)}': "return {1: 2.0}"},
        "return {1: 2.0}",
        "Count.evaluate: 1 is not a valid name; it must return {'name': number, ...}",
        flags="--trainer.force_eager true",
    ),
    "ev name loss": Mistake(
        {'return {"errors": float(errors)}': 'return {"loss": 2.0}'},
        'return {"loss": 2.0}',
        "Count.evaluate: 'loss' is already a loss or metric of the model; choose another name",
        flags="--trainer.force_eager true",
    ),
    "ev name acc": Mistake(
        {'return {"errors": float(errors)}': 'return {"accuracy": 2.0}'},
        'return {"accuracy": 2.0}',
        "Count.evaluate: 'accuracy' is already a loss or metric of the model; choose another name",
        flags="--trainer.force_eager true",
    ),
    "ev yields": Mistake(
        {'return {"errors": float(errors)}': 'yield "errors", 1.0'},
        'yield "errors", 1.0',
        "Count.evaluate returned a generator; it must return {'name': number, ...}",
        flags="--trainer.force_eager true",
    ),
    "ev len": Mistake(
        {"errors = 0\n": "errors = 0\n        n = len(samples)\n"},
        "n = len(samples)",
        "TypeError: object of type 'generator' has no len()",
        flags="--trainer.force_eager true",
    ),
    "ev twice": Mistake(
        {"errors = 0\n": "errors = 0\n        list(samples)\n        assert [s for s in samples]\n"},
        "assert [s for s in samples]",
        "AssertionError:",
        flags="--trainer.force_eager true",
    ),
    "ev index": Mistake(
        {"errors = 0\n": "errors = 0\n        samples[0]\n"},
        "samples[0]",
        "TypeError: 'generator' object is not subscriptable",
        flags="--trainer.force_eager true",
    ),
    "ev mutates": Mistake(
        {'errors += sample.outputs["p"].argmax() != sample.targets["label"]': "sample.outputs = {}"},
        "sample.outputs = {}",
        "FrozenInstanceError: cannot assign to field 'outputs'",
        flags="--trainer.force_eager true",
    ),
    "ev wrong out": Mistake(
        {'errors += sample.outputs["p"].argmax() != sample.targets["label"]': 'sample.outputs["q"]'},
        'sample.outputs["q"]',
        "KeyError: 'q'",
        flags="--trainer.force_eager true",
    ),
    "ev wrong attr": Mistake(
        {'errors += sample.outputs["p"].argmax() != sample.targets["label"]': 'sample.output["p"]'},
        'sample.output["p"]',
        "AttributeError: 'Sample' object has no attribute 'output'",
        flags="--trainer.force_eager true",
    ),
    "ev sig": Mistake(
        {"def evaluate(self, samples):": "def evaluate(self, targets, outputs):"},
        "def evaluate(self, targets, outputs):",
        "Count.evaluate is called with (self, samples); it takes (self, targets, outputs)",
        flags="--trainer.force_eager true",
    ),
    "ev misspelt": Mistake(
        {"def evaluate(self": "def evalute(self"},
        "evaluator: Evaluator | None = Count()",
        "TypeError: Can't instantiate abstract class Count with abstract method evaluate",
        flags="--trainer.force_eager true",
    ),
    "ev raises StopIteration": Mistake(
        {'return {"errors": float(errors)}': "next(iter([]))"},
        "next(iter([]))",
        "StopIteration:",
        flags="--trainer.force_eager true",
    ),
    "ev self state": Mistake(
        {"errors = 0\n": "errors = 0\n        self.errors = 0\n"},
        "self.errors = 0",
        "FrozenInstanceError: cannot assign to field 'errors'",
        flags="--trainer.force_eager true",
    ),
    "ev label index": Mistake(
        {
            'errors += sample.outputs["p"].argmax() != sample.targets["label"]': 'errors += [0, 1][int(sample.targets["label"])]'
        },
        'errors += [0, 1][int(sample.targets["label"])]',
        "IndexError: list index out of range",
        flags="--trainer.force_eager true",
    ),
    "ev assert": Mistake(
        {'return {"errors": float(errors)}': 'assert errors < 0, "too many"'},
        'assert errors < 0, "too many"',
        "AssertionError: too many",
        flags="--trainer.force_eager true",
    ),
    "ev assert bare": Mistake(
        {'return {"errors": float(errors)}': "assert errors < 0"},
        "assert errors < 0",
        "AssertionError:",
        flags="--trainer.force_eager true",
    ),
    "ev recursion": Mistake(
        {'return {"errors": float(errors)}': "return self.evaluate([])"},
        "return self.evaluate([])",
        "RecursionError: maximum recursion depth exceeded",
        flags="--trainer.force_eager true",
    ),
    "ev class": Mistake(
        {"evaluator: Evaluator | None = Count()": "evaluator: Evaluator | None = Count"},
        "evaluator: Evaluator | None = Count",
        "--evaluator: expected an instance, got class Count; did you mean Count()?",
        flags="--trainer.force_eager true",
    ),
    "best of a value that is never measured": Mistake(
        {'    """A network."""': '    best = "val_acc", "max"'},
        'best = "val_acc", "max"',
        "Model.best refers to the unknown metric 'val_acc'; available: loss, ce, accuracy, val_loss, val_ce, val_accuracy, val_errors",
    ),
    "embedding of negative ids": Mistake(
        {
            'x = keras.layers.Flatten()(inputs["image"])': 'x = keras.layers.Flatten()(keras.layers.Embedding(10, 4)(inputs["image"] - 5))'
        },
        'return {"ce": loss}',
        "Net.loss: 'ce' is nan for each sample of the first batch: id -",
    ),
    "best wrong": Mistake(
        {'    """A network."""': '    best = "val_accuracy"'},
        "class Net(Model):",
        'TypeError: Net.best is \'val_accuracy\'; expected a pair like ("val_accuracy", "max")',
        flags="--trainer.force_eager true",
    ),
    "best annotated": Mistake(
        {'    """A network."""': '    best: tuple = ("val_accuracy", "max")'},
        "class Net(Model):",
        "TypeError: Net.best: Model has a constant of this name; write `best = ...` without a type",
        flags="--trainer.force_eager true",
    ),
    "summaries none": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}\n    def summaries(self, inputs, targets, outputs):\n        pass'
        },
        "def summaries(self, inputs, targets, outputs):",
        "Net.summaries returned a NoneType; it must return {'name': summary, ...}",
        flags="--trainer.force_eager true",
    ),
    "summaries array": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}\n    def summaries(self, inputs, targets, outputs):\n        return {"a": np.zeros(3)}'
        },
        'return {"a": np.zeros(3)}',
        "Net.summaries: 'a' is a ndarray; expected a summary of tfaip_like.summaries, such as Image(...)",
        flags="--trainer.force_eager true",
    ),
    "summaries raises": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}\n    def summaries(self, inputs, targets, outputs):\n        return {"a": outputs["q"]}'
        },
        'return {"a": outputs["q"]}',
        "KeyError: 'q'",
        flags="--trainer.force_eager true",
    ),
    "build_prediction none trained": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}\n    def build_prediction(self, inputs, trained):\n        return {"p": keras.layers.Dense(3)(keras.layers.Flatten()(inputs["image"]))}'
        },
        'return {"p": keras.layers.Dense(3)(keras.layers.Flatten()(inputs["image"]))}',
        "Net.build_prediction uses weights that are never trained (dense_2/kernel, dense_2/bias); reuse layers",
        flags="--trainer.force_eager true",
    ),
    "build_prediction missing layer": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}\n    def build_prediction(self, inputs, trained):\n        return {"p": trained.get_layer("nope")(inputs["image"])}'
        },
        'return {"p": trained.get_layer("nope")(inputs["image"])}',
        "ValueError: No such layer: nope. Existing layers are: ['image', 'flatten', 'dense', 'dense_1'].",
        flags="--trainer.force_eager true",
    ),
    "extra none": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}\n    def auxiliary_models(self, trained):\n        pass'
        },
        "def auxiliary_models(self, trained):",
        "Net.auxiliary_models returned a NoneType; it must return {'name': keras.Model(...), ...}",
        flags="--trainer.force_eager true",
    ),
    "extra bad": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}\n    def auxiliary_models(self, trained):\n        return {"a": 3}'
        },
        'return {"a": 3}',
        "Net.auxiliary_models returned 'a' as an int; it must return {'name': keras.Model(...), ...}",
        flags="--trainer.force_eager true",
    ),
    "feed_targets str": Mistake(
        {'    """A network."""': '    feed_targets = "label"'},
        'feed_targets = "label"',
        'Net.feed_targets: expected TEXT ..., got "label"',
        flags="--trainer.force_eager true",
    ),
    "feed_targets wrong": Mistake(
        {'    """A network."""': '    feed_targets = ("labell",)'},
        'feed_targets = ("labell",)',
        "Net.feed_targets: 'labell' must be a target of Images and not also an input (targets: label, size)",
        flags="--trainer.force_eager true",
    ),
}

PACKAGING = {
    "typo at import": Mistake(
        {
            'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()': 'Scenari\nclass Mine(Scenario):\n    """Mine."""\n    data: Data = Images()'
        },
        "Scenari",
        "NameError: name 'Scenari' is not defined",
    ),
    "syntax": Mistake(
        {
            'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()': 'class Mine(Scenario)\n    """Mine."""\n    data: Data = Images()'
        },
        "class Mine(Scenario)",
        "SyntaxError: expected ':'",
    ),
    "indent": Mistake({"units: int = 4": "  units: int = 4"}, "units: int = 4", "IndentationError: unexpected indent"),
    "tabs": Mistake(
        {"    units: int = 4": "\tunits: int = 4"},
        "units: int = 4",
        "TabError: inconsistent use of tabs and spaces in indentation",
    ),
    "unclosed": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1)}'},
        'inputs = {"image": Spec((4, 4, 1)}',
        "SyntaxError: closing parenthesis '}' does not match opening parenthesis '('",
    ),
    "data extends keras": Mistake(
        {"class Net(Model)": "class Net(keras.Model)"}, "model: Model = Net()", "--model: expected a Model, got a Net"
    ),
    "data extends both": Mistake(
        {"class Net(Model)": "class Net(Model, keras.Model)"},
        "model: Model = Net()",
        "FrozenInstanceError: cannot assign to field '_lock'",
    ),
    "processor extends nothing": Mistake(
        {"class Scale(Processor)": "class Scale"},
        "processors: list[Processor] = [Scale()]",
        "--data.processors: expected a Processor, got a Scale",
    ),
    "source wrong base": Mistake(
        {"class Images(Data)": "class Images(Processor)"},
        "class Images(Processor):",
        "TypeError: Images.inputs has no type annotation, so it would not be a parameter: write `inputs: dict =",
    ),
    "dataclass on top": Mistake(
        {"class Net(Model)": "@dataclasses.dataclass\nclass Net(Model)"},
        "@dataclasses.dataclass",
        "TypeError: cannot inherit non-frozen dataclass from a frozen one",
    ),
    "frozen dataclass on top": Mistake(
        {"class Net(Model)": "@dataclasses.dataclass(frozen=True)\nclass Net(Model)"},
        "@dataclasses.dataclass(frozen=True)",
        "TypeError: Cannot overwrite attribute __setattr__ in class Net",
    ),
    "no annotation": Mistake(
        {"units: int = 4": "units = 4"},
        "class Net(Model):",
        "TypeError: Net.units has no type annotation, so it would not be a parameter: write `units: int = 4`, or",
    ),
    "no annotation list": Mistake(
        {"units: int = 4": "units: int = 4\n    sizes = [1, 2]"},
        "class Net(Model):",
        "TypeError: Net.sizes has no type annotation, so it would not be a parameter: write `sizes: list = [1, 2]`,",
    ),
    "annotation array": Mistake(
        {"units: int = 4": "units: int = 4\n    arr: np.ndarray = np.zeros(3)"},
        "class Net(Model):",
        "ValueError: mutable default <class 'numpy.ndarray'> for field arr is not allowed: use default_factory",
    ),
    "annotation callable": Mistake(
        {"units: int = 4": "units: int = 4\n    f: callable = max"},
        "f: callable = max",
        "--model.f: <built-in function callable> cannot be the type of a parameter; use str, Path, bool,",
    ),
    "annotation any": Mistake(
        {"units: int = 4": "units: int = 4\n    f: object = 3"},
        "f: object = 3",
        "--model.f: <class 'object'> cannot be the type of a parameter; use str, Path, bool, float, int, an Enum,",
    ),
    "annotation bare list": Mistake(
        {"units: int = 4": "units: int = 4\n    f: list = [3]"},
        "f: list = [3]",
        "--model.f: <class 'list'> cannot be the type of a parameter; use str, Path, bool, float, int, an Enum,",
    ),
    "annotation bare dict": Mistake(
        {"units: int = 4": "units: int = 4\n    f: dict = {}"},
        "f: dict = {}",
        "--model.f: <class 'dict'> cannot be the type of a parameter; use str, Path, bool, float, int, an Enum,",
    ),
    "annotation undefined": Mistake(
        {"units: int = 4": "units: Int = 4"},
        "model: Model = Net()",
        "--model: Net in my: the type of a parameter refers to 'Int', which is undefined at run time (imported under",
    ),
    "annotation string value": Mistake(
        {"units: int = 4": 'units: "number of units" = 4'},
        "model: Model = Net()",
        "--model: Net in my: cannot resolve the type of a parameter: SyntaxError: Forward reference must be an expression",
    ),
    "annotation value": Mistake(
        {"units: int = 4": "units: 4"},
        "units: 4",
        "--model.units: 4 cannot be the type of a parameter; use str, Path, bool, float, int, an Enum, Literal,",
    ),
    "wrong default type": Mistake(
        {"units: int = 4": 'units: int = "four"'},
        'units: int = "four"',
        "--model.units: expected an integer, got 'four'",
    ),
    "default none": Mistake(
        {"units: int = 4": "units: int = None"}, "units: int = None", "--model.units: expected an integer, got null"
    ),
    "collides method": Mistake(
        {"units: int = 4": 'units: int = 4\n    loss: str = "mse"'},
        "class Net(Model):",
        "TypeError: Net.loss: Model has a method of this name; choose another name",
    ),
    "collides flag": Mistake(
        {
            'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()': 'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()\n    help: str = ""'
        },
        "class Mine(Scenario):",
        "TypeError: Mine.help: --help is a flag of the commands; choose another name",
    ),
    "collides to_dict": Mistake(
        {"units: int = 4": "units: int = 4\n    to_dict: int = 3"},
        "class Net(Model):",
        "TypeError: Net.to_dict: Params has a method of this name; choose another name",
    ),
    "collides check": Mistake(
        {"units: int = 4": "units: int = 4\n    check: bool = True"},
        "class Net(Model):",
        "TypeError: Net.check: ParamsBase has a method of this name; choose another name",
    ),
    "reserved class": Mistake(
        {"units: int = 4": "units: int = 4\n    resources: int = 3"},
        "class Net(Model):",
        "TypeError: Net.resources: Params has a constant of this name; write `resources = ...` without a type",
    ),
    "init": Mistake(
        {"units: int = 4": "units: int = 4\n    def __init__(self):\n        self.a = 3"},
        "def __init__(self):",
        "Net.__init__: Params classes must not define __init__; declare parameters in the class body (units:",
    ),
    "init super": Mistake(
        {
            "units: int = 4": "units: int = 4\n    def __init__(self, **k):\n        super().__init__(**k)\n        self.layer = 3"
        },
        "def __init__(self, **k):",
        "Net.__init__: Params classes must not define __init__; declare parameters in the class body (units:",
    ),
    "post_init": Mistake(
        {"units: int = 4": "units: int = 4\n    def __post_init__(self):\n        self.a = 3"},
        "self.a = 3",
        "FrozenInstanceError: cannot assign to field 'a'",
    ),
    "positional": Mistake(
        {"Net()": "Net(4)"},
        "model: Model = Net(4)",
        "TypeError: Net.__init__() takes 1 positional argument but 2 were given",
    ),
    "wrong kw": Mistake(
        {"Net()": "Net(unit=4)"},
        "model: Model = Net(unit=4)",
        "TypeError: Net.__init__() got an unexpected keyword argument 'unit'",
    ),
    "wrong value": Mistake(
        {"Net()": "Net(units=4.5)"}, "model: Model = Net(units=4.5)", "--model.units: expected an integer, got 4.5"
    ),
    "data not instance": Mistake(
        {"data: Data = Images()": "data: Data = Images"},
        "data: Data = Images",
        "--data: expected an instance, got class Images; did you mean Images()?",
    ),
    "model is data": Mistake(
        {"model: Model = Net()": "model: Model = Images()"},
        "model: Model = Images()",
        "--model: expected a Model, got an Images",
    ),
    "field misspelt": Mistake(
        {"evaluator: Evaluator | None = Count()": "evalutor: Evaluator | None = Count()"},
        "evalutor: Evaluator | None = Count()",
        "Mine.evalutor is never used; did you mean evaluator? (start the names of helpers with _)",
    ),
    "trainer dict": Mistake(
        {
            'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()': 'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()\n    trainer: dict = {"epochs": 3}'
        },
        'trainer: dict = {"epochs": 3}',
        "--trainer: <class 'dict'> cannot be the type of a parameter; use str, Path, bool, float, int, an Enum,",
    ),
    "trainer value": Mistake(
        {
            'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()': 'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()\n    trainer = Trainer(epoch=3)'
        },
        "trainer = Trainer(epoch=3)",
        "NameError: name 'Trainer' is not defined",
    ),
    "trainer import": Mistake(
        {
            'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()': 'from tfaip_like.settings import Trainer\nclass Mine(Scenario):\n    """Mine."""\n    data: Data = Images()\n    trainer = Trainer(epoch=3)'
        },
        "trainer = Trainer(epoch=3)",
        "TypeError: Trainer.__init__() got an unexpected keyword argument 'epoch'",
    ),
    "relative import": Mistake(
        {"import math": "from . import helpers"},
        "from . import helpers",
        "ImportError: attempted relative import with no known parent package",
    ),
    "relative import2": Mistake(
        {"import math": "from .helpers import f"},
        "from .helpers import f",
        "ImportError: attempted relative import with no known parent package",
    ),
    "missing package": Mistake(
        {"import math": "import torchvision_not"},
        "import torchvision_not",
        "'torchvision_not' is not installed; install it with pip",
    ),
    "missing name": Mistake(
        {"import math": "from math import squareroot"},
        "from math import squareroot",
        "ImportError: cannot import name 'squareroot' from 'math'",
    ),
    "missing tfaip name": Mistake(
        {"import math": "from tfaip_like import Trainerr"},
        "from tfaip_like import Trainerr",
        "ImportError: cannot import name 'Trainerr' from 'tfaip_like' (",
    ),
    "missing submodule": Mistake(
        {"import math": "import tfaip_like.nothing"},
        "import tfaip_like.nothing",
        "'tfaip_like.nothing' is not installed; install it with pip",
    ),
    "import exits": Mistake(
        {"import math": "import sys; sys.exit()"},
        "import sys; sys.exit()",
        "the module calls sys.exit when imported",
    ),
    "import circular": Mistake(
        {"import math": "import my\nmy.Mine"},
        "my.Mine",
        "AttributeError: partially initialized module 'my' has no attribute 'Mine' (most likely due to a circular",
    ),
    "missing loss": Mistake(
        {"    def loss(self": "    def _loss(self"},
        "model: Model = Net()",
        "TypeError: Can't instantiate abstract class Net with abstract method loss",
    ),
    "missing build": Mistake(
        {"    def build(self": "    def make(self"},
        "model: Model = Net()",
        "TypeError: Can't instantiate abstract class Net with abstract method build",
    ),
    "train_step": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}\n    def train_step(self, batch):\n        pass'
        },
        "def train_step(self, batch):",
        "Net.train_step is never used; --trainer, --optimizer and --learning_rate configure training, `loss`",
    ),
    "call": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}\n    def call(self, x):\n        pass'
        },
        "def call(self, x):",
        "Net.call is never used; define the network in `build` (start the names of helpers with _)",
    ),
    "forward": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}\n    def forward(self, x):\n        pass'
        },
        "def forward(self, x):",
        "Net.forward is never used; define the network in `build` (start the names of helpers with _)",
    ),
    "compile": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}\n    def compile(self, x):\n        pass'
        },
        "def compile(self, x):",
        "Net.compile is never used; --trainer, --optimizer and --learning_rate configure training, `loss` defines",
    ),
    "misspelt hook": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}\n    def build_predictions(self, x, trained):\n        pass'
        },
        "def build_predictions(self, x, trained):",
        "Net.build_predictions is never used; did you mean build_prediction? (start the names of helpers with _)",
    ),
    "data typo hook": Mistake(
        {"return Files(40)": "return Files(40)\n    def pipelines(self, mode):\n        return []"},
        "return []",
        "Images.pipelines is never used; did you mean pipeline? (start the names of helpers with _)",
    ),
    "check wrong": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}\n    def check(self):\n        raise ValueError("units too few")'
        },
        'raise ValueError("units too few")',
        "ValueError: units too few",
    ),
    "check typo": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}\n    def check(self):\n        self.require(self.unit > 3, "units", "few")'
        },
        'self.require(self.unit > 3, "units", "few")',
        "AttributeError: 'Net' object has no attribute 'unit'",
    ),
    "check assert": Mistake(
        {
            'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': 'return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}\n    def check(self):\n        assert self.units > 9'
        },
        "assert self.units > 9",
        "AssertionError:",
    ),
    "prepared none": Mistake(
        {
            'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()': 'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()\n    def adapt(self, train, folder):\n        pass'
        },
        "def adapt(self, train, folder):",
        "Mine.adapt returned a NoneType; it must return dataclasses.replace(self, ...)",
    ),
    "prepared typo": Mistake(
        {
            'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()': 'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()\n    def adapt(self, train, folder):\n        return dataclasses.replace(self, dat=3)'
        },
        "return dataclasses.replace(self, dat=3)",
        "TypeError: Mine.__init__() got an unexpected keyword argument 'dat'",
    ),
    "prepared other class": Mistake(
        {
            'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()': 'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()\n    def adapt(self, train, folder):\n        return self.model'
        },
        "return self.model",
        "Mine.adapt returned a Net; it must return dataclasses.replace(self, ...)",
    ),
    "prepare misspelt": Mistake(
        {
            'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()': 'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()\n    def adapts(self, train, folder):\n        return self'
        },
        "return self",
        "Mine.adapts is never used; did you mean adapt? (start the names of helpers with _)",
    ),
    "lav_sources none": Mistake(
        {
            'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()': 'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()\n    def lav_sources(self):\n        pass'
        },
        "def lav_sources(self):",
        "Mine.lav_sources returned a NoneType; it must return {'name': source, ...}",
        flags="--trainer.lav_every_n 1",
    ),
    "lav_sources list": Mistake(
        {
            'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()': 'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()\n    def lav_sources(self):\n        return [Files(40)]'
        },
        "return [Files(40)]",
        "Mine.lav_sources returned a list; it must return {'name': source, ...}",
        flags="--trainer.lav_every_n 1",
    ),
    "scenario source sig": Mistake(
        {
            'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()': 'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()\n    def source(self):\n        return []'
        },
        "def source(self):",
        "Mine.source is called with (self, mode); it takes (self)",
    ),
    "modes": Mistake(
        {'"""Bytes to floats."""': "modes = Mode.TRAIN"},
        "modes = Mode.TRAIN",
        '--data.processors.0.modes: expected (TRAIN | EVALUATE | PREDICT) ..., got "TRAIN"',
    ),
    "recursion import": Mistake(
        {
            'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()': 'def f(): return f()\nf()\nclass Mine(Scenario):\n    """Mine."""\n    data: Data = Images()'
        },
        "def f(): return f()",
        "RecursionError: maximum recursion depth exceeded",
    ),
    "undefined in class body": Mistake(
        {
            'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()': 'class Mine(Scenario):\n    """Mine."""\n    data: Data = Imagess()'
        },
        "data: Data = Imagess()",
        "NameError: name 'Imagess' is not defined",
    ),
    "attribute error in body": Mistake(
        {"units: int = 4": "units: int = math.foo"},
        "units: int = math.foo",
        "AttributeError: module 'math' has no attribute 'foo'",
    ),
    "enum default": Mistake(
        {"units: int = 4": "units: int = Mode.TRAIN"},
        "units: int = Mode.TRAIN",
        "--model.units: expected an integer, got 'TRAIN'",
    ),
    "literal default": Mistake(
        {
            "import math": "import math\nfrom typing import Literal",
            "units: int = 4": 'units: int = 4\n    kind: Literal["a", "b"] = "c"',
        },
        'kind: Literal["a", "b"] = "c"',
        '--model.kind: expected one of a, b, got "c"',
    ),
    "tuple default": Mistake(
        {"units: int = 4": "units: int = 4\n    pair: tuple[int, int] = (1, 2, 3)"},
        "pair: tuple[int, int] = (1, 2, 3)",
        "--model.pair: expected 2 values (INT INT), got 3",
    ),
    "non-ascii null": Mistake(
        {"units: int = 4": "units: int = 4\x00"}, "", "SyntaxError: source code string cannot contain null bytes"
    ),
    "optional none": Mistake(
        {"units: int = 4": "units: int = 4\n    opt: int | str | Model = 3"},
        "opt: int | str | Model = 3",
        "--model.opt: int | str | tfaip_like.modeling._model.Model cannot be the type of a parameter: it mixes Params with plain",
    ),
    "dict int keys": Mistake(
        {"units: int = 4": "units: int = 4\n    s: dict[int, int] = {1: 2}"},
        "s: dict[int, int] = {1: 2}",
        "--model.s: dict[int, int] cannot be the type of a parameter: dict keys must be str",
    ),
    "type var": Mistake(
        {"units: int = 4": "units: int = 4\n    s: type = int"},
        "s: type = int",
        "--model.s: <class 'type'> cannot be the type of a parameter; use str, Path, bool, float, int, an Enum,",
    ),
}

DOCUMENTED = {
    "sequential returned": Mistake(
        {'return {"p": p}': "return keras.Sequential([keras.layers.Dense(3)])(x)"},
        "return keras.Sequential([keras.layers.Dense(3)])(x)",
        "Net.build returned a KerasTensor; it must return named tensors: {'name': tensor, ...}",
    ),
    "inputs attribute": Mistake(
        {'x = keras.layers.Flatten()(inputs["image"])': "x = keras.layers.Flatten()(inputs.image)"},
        "x = keras.layers.Flatten()(inputs.image)",
        "AttributeError: 'dict' object has no attribute 'image'",
    ),
    "output none": Mistake(
        {'return {"p": p}': 'return {"p": p, "q": None}'},
        'return {"p": p, "q": None}',
        "Net.build returned 'q' as a NoneType; it must return named tensors: {'name': tensor, ...}",
    ),
    "output is input shape list": Mistake(
        {'return {"p": p}': 'return {"p": p, "q": [p]}'},
        'return {"p": p, "q": [p]}',
        "Net.build returned 'q' as a list; it must return named tensors: {'name': tensor, ...}",
    ),
    "spec dtype name": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec((4, 4, 1), dtype=uint8)}'},
        'inputs = {"image": Spec((4, 4, 1), dtype=uint8)}',
        "NameError: name 'uint8' is not defined",
    ),
    "spec keyword": Mistake(
        {'inputs = {"image": Spec((4, 4, 1))}': 'inputs = {"image": Spec(size=(4, 4, 1))}'},
        'inputs = {"image": Spec(size=(4, 4, 1))}',
        "TypeError: Spec.__init__() got an unexpected keyword argument 'size'",
    ),
    "replace typo": Mistake(
        {
            'return dataclasses.replace(sample, inputs={"image": image})': 'return dataclasses.replace(sample, input={"image": image})'
        },
        'return dataclasses.replace(sample, input={"image": image})',
        "TypeError: Sample.__init__() got an unexpected keyword argument 'input'",
    ),
    "replace inputs array": Mistake(
        {
            'return dataclasses.replace(sample, inputs={"image": image})': "return dataclasses.replace(sample, inputs=image)"
        },
        "return dataclasses.replace(sample, inputs=image)",
        "TypeError: Sample(inputs=...): expected named arrays, {'name': array}, got a ndarray",
    ),
    "mode typo": Mistake(
        {"return Files(40)": "return Files(40) if mode is Mode.TRAINING else None"},
        "return Files(40) if mode is Mode.TRAINING else None",
        "AttributeError: TRAINING",
    ),
    "mode call": Mistake(
        {"return Files(40)": "return Files(40) if mode.TRAIN() else None"},
        "return Files(40) if mode.TRAIN() else None",
        "TypeError: 'Mode' object is not callable",
    ),
    "modes typo": Mistake(
        {"processors: list[Processor] = [Scale()]": "processors: list[Processor] = [Scale(modes=(Mode.TRAINING,))]"},
        "processors: list[Processor] = [Scale(modes=(Mode.TRAINING,))]",
        "AttributeError: TRAINING",
    ),
    "stream raises": Mistake(
        {
            "import math": "import math\nfrom tfaip_like.settings import *\nfrom tfaip_like.optimizers import *\nfrom tfaip_like.schedules import *\nfrom tfaip_like.data import *",
            "class Scale(Processor)": "from tfaip_like.data._processors import StreamProcessor\nclass Cut(StreamProcessor):\n    def process_group(self, samples, random):\n        for s in samples:\n            yield s.nothing\n\nclass Scale(Processor)",
            "[Scale()]": "[Scale(), Cut()]",
        },
        "yield s.nothing",
        "AttributeError: 'Sample' object has no attribute 'nothing'",
    ),
    "stream next": Mistake(
        {
            "import math": "import math\nfrom tfaip_like.settings import *\nfrom tfaip_like.optimizers import *\nfrom tfaip_like.schedules import *\nfrom tfaip_like.data import *",
            "class Scale(Processor)": "from tfaip_like.data._processors import StreamProcessor\nclass Cut(StreamProcessor):\n    def process_group(self, samples, random):\n        for s in samples:\n            yield next(iter([]))\n\nclass Scale(Processor)",
            "[Scale()]": "[Scale(), Cut()]",
        },
        "yield next(iter([]))",
        "StopIteration:",
    ),
    "stream only process": Mistake(
        {
            "import math": "import math\nfrom tfaip_like.settings import *\nfrom tfaip_like.optimizers import *\nfrom tfaip_like.schedules import *\nfrom tfaip_like.data import *",
            "class Scale(Processor)": "from tfaip_like.data._processors import StreamProcessor\nclass Cut(StreamProcessor):\n    def process(self, sample, random):\n        return sample\n\nclass Scale(Processor)",
            "[Scale()]": "[Scale(), Cut()]",
        },
        "processors: list[Processor] = [Scale(), Cut()]",
        "TypeError: Can't instantiate abstract class Cut with abstract method process_group",
    ),
    "best wrong mode": Mistake(
        {'    """A network."""': '    best = "val_accuracy", "higher"'},
        "class Net(Model):",
        "TypeError: Net.best is ('val_accuracy', 'higher'); expected a pair like (\"val_accuracy\", \"max\")",
    ),
    "loss_weights list": Mistake(
        {'    """A network."""': "    loss_weights = [1.0]"},
        "loss_weights = [1.0]",
        "--model.loss_weights: expected NAME=FLOAT ..., got [1.0]",
    ),
    "dropout text": Mistake(
        {'x = keras.layers.Dense(self.units, activation="relu")(x)': 'x = keras.layers.Dropout("0.5")(x)'},
        'x = keras.layers.Dropout("0.5")(x)',
        "TypeError: '<=' not supported between instances of 'int' and 'str'",
    ),
    "optimizer text": Mistake(
        {
            "import math": "import math\nfrom tfaip_like.settings import *\nfrom tfaip_like.optimizers import *\nfrom tfaip_like.schedules import *\nfrom tfaip_like.data import *",
            'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()': 'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()\n    optimizer: Optimizer = "adam"',
        },
        'optimizer: Optimizer = "adam"',
        "--optimizer: expected an Optimizer, got a str",
    ),
    "optimizer keras": Mistake(
        {
            "import math": "import math\nfrom tfaip_like.settings import *\nfrom tfaip_like.optimizers import *\nfrom tfaip_like.schedules import *\nfrom tfaip_like.data import *",
            'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()': 'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()\n    optimizer: Optimizer = keras.optimizers.Adam()',
        },
        "optimizer: Optimizer = keras.optimizers.Adam()",
        "--optimizer: expected an Optimizer, got an Adam",
    ),
    "optimizer typo kw": Mistake(
        {
            "import math": "import math\nfrom tfaip_like.settings import *\nfrom tfaip_like.optimizers import *\nfrom tfaip_like.schedules import *\nfrom tfaip_like.data import *",
            'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()': 'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()\n    optimizer: Optimizer = Adam(learning_rate=0.1)',
        },
        "optimizer: Optimizer = Adam(learning_rate=0.1)",
        "TypeError: Adam.__init__() got an unexpected keyword argument 'learning_rate'",
    ),
    "schedule number": Mistake(
        {
            "import math": "import math\nfrom tfaip_like.settings import *\nfrom tfaip_like.optimizers import *\nfrom tfaip_like.schedules import *\nfrom tfaip_like.data import *",
            'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()': 'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()\n    learning_rate: Schedule = 0.01',
        },
        "learning_rate: Schedule = 0.01",
        "--learning_rate: expected a Schedule, got a float",
    ),
    "early stopping number": Mistake(
        {
            "import math": "import math\nfrom tfaip_like.settings import *\nfrom tfaip_like.optimizers import *\nfrom tfaip_like.schedules import *\nfrom tfaip_like.data import *",
            'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()': 'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()\n    early_stopping: EarlyStopping = 5',
        },
        "early_stopping: EarlyStopping = 5",
        "--early_stopping: expected an EarlyStopping, got an int",
    ),
    "graph without build": Mistake(
        {
            "import math": "import math\nfrom tfaip_like.settings import *\nfrom tfaip_like.optimizers import *\nfrom tfaip_like.schedules import *\nfrom tfaip_like.data import *",
            "class Net(Model):\n": "class Part(Graph):\n    n: int = 3\n\nclass Net(Model):\n",
            "units: int = 4": "units: int = 4\n    part: Graph = Part()",
        },
        "part: Graph = Part()",
        "TypeError: Can't instantiate abstract class Part with abstract method build",
    ),
    "graph returns none": Mistake(
        {
            "import math": "import math\nfrom tfaip_like.settings import *\nfrom tfaip_like.optimizers import *\nfrom tfaip_like.schedules import *\nfrom tfaip_like.data import *",
            "class Net(Model):\n": "class Part(Graph):\n    n: int = 3\n    def build(self, x):\n        keras.layers.Dense(3)(x)\n\nclass Net(Model):\n",
            "units: int = 4": "units: int = 4\n    part: Graph = Part()",
            'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = self.part.build(x)",
        },
        'p = keras.layers.Dense(3, activation="softmax")(x)',
        "ValueError: Inputs to a layer should be tensors. Got 'None' (of type <class 'NoneType'>) as input for layer",
    ),
    "graph not called": Mistake(
        {
            "import math": "import math\nfrom tfaip_like.settings import *\nfrom tfaip_like.optimizers import *\nfrom tfaip_like.schedules import *\nfrom tfaip_like.data import *",
            "class Net(Model):\n": "class Part(Graph):\n    n: int = 3\n    def build(self, x):\n        return keras.layers.Dense(3)(x)\n\nclass Net(Model):\n",
            "units: int = 4": "units: int = 4\n    part: Graph = Part()",
            'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = self.part(x)",
        },
        "x = self.part(x)",
        "TypeError: 'Part' object is not callable",
    ),
    "numpy missing": Mistake(
        {"import numpy as np\n": ""}, "random = np.random.default_rng(index)", "NameError: name 'np' is not defined"
    ),
    "sample positional": Mistake(
        {
            'return Sample({"image": image}, {"label": np.int32(index % 3), "size": np.float32(index)})': "return Sample(image, index % 3)"
        },
        "return Sample(image, index % 3)",
        "TypeError: Sample(inputs=...): expected named arrays, {'name': array}, got a ndarray",
    ),
    "self data in model": Mistake(
        {
            'x = keras.layers.Dense(self.units, activation="relu")(x)': "x = keras.layers.Dense(len(self.data.targets))(x)"
        },
        "x = keras.layers.Dense(len(self.data.targets))(x)",
        "AttributeError: 'Net' object has no attribute 'data'",
    ),
    "static source": Mistake(
        {"    def source(self, mode):": "    @staticmethod\n    def source(self, mode):"},
        "def source(self, mode):",
        "Images.source is called with (self, mode); it takes (self, mode)",
    ),
    "loss text": Mistake(
        {
            '    def loss(self, inputs, targets, outputs):\n        loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])\n        return {"ce": loss}': '    loss = "mse"'
        },
        'loss = "mse"',
        "Net.loss must be a method: def loss(self, inputs, targets, outputs)",
    ),
    "metrics list": Mistake(
        {
            '    def metrics(self, inputs, targets, outputs):\n        return {"accuracy": keras.metrics.sparse_categorical_accuracy(targets["label"], outputs["p"])}': '    metrics = ["accuracy"]'
        },
        'metrics = ["accuracy"]',
        "Net.metrics must be a method: def metrics(self, inputs, targets, outputs)",
    ),
    "evaluator function": Mistake(
        {
            'class Mine(Scenario):\n    """Mine."""\n    data: Data = Images()': 'def count(samples):\n    return {}\n\nclass Mine(Scenario):\n    """Mine."""\n    data: Data = Images()',
            "evaluator: Evaluator | None = Count()": "evaluator: Evaluator | None = count",
        },
        "return {}",
        "--evaluator: expected an Evaluator, got a function",
    ),
    "target one too many dims": Mistake(
        {
            'targets = {"label": Spec((), "int32"), "size": Spec(())}': 'targets = {"label": Spec((1,), "int32"), "size": Spec(())}'
        },
        'return dataclasses.replace(sample, inputs={"image": image})',
        "training sample 0 of Images: target 'label' has shape (), but its Spec says (1,)",
    ),
    "kwargs param": Mistake(
        {"units: int = 4": "units: int = 4\n    extra: dict[str, object] = {}"},
        "extra: dict[str, object] = {}",
        "--model.extra: <class 'object'> cannot be the type of a parameter; use str, Path, bool, float, int, an Enum,",
    ),
    "keyword lambda": Mistake(
        {"units: int = 4": "units: int = 4\n    lambda: int = 3"},
        "lambda: int = 3",
        "SyntaxError: cannot assign to lambda",
    ),
    "data file relative": Mistake(
        {"return Files(40)": 'return [line for line in open("data.txt")]'},
        'return [line for line in open("data.txt")]',
        "FileNotFoundError: [Errno 2] No such file or directory: 'data.txt'",
    ),
    "division in class": Mistake(
        {"units: int = 4": "units: int = 1 / 0"}, "units: int = 1 / 0", "ZeroDivisionError: division by zero"
    ),
    "evaluator ravel": Mistake(
        {'errors += sample.outputs["p"].argmax() != sample.targets["label"]': 'errors += float(sample.outputs["p"])'},
        'errors += float(sample.outputs["p"])',
        "TypeError: only 0-dimensional arrays can be converted to Python scalars",
    ),
    "print of sample": Mistake(
        {'return dataclasses.replace(sample, inputs={"image": image})': "return print(sample)"},
        "return print(sample)",
        "100 consecutive training samples of Images were dropped,",
    ),
    "image pil": Mistake(
        {
            'image = sample.inputs["image"].astype("float32") / 255': 'from PIL import Image\n        image = Image.open("none.png")'
        },
        'image = Image.open("none.png")',
        "FileNotFoundError: [Errno 2] No such file or directory: 'none.png'",
    ),
    "crop too large": Mistake(
        {
            'return dataclasses.replace(sample, inputs={"image": image})': 'return dataclasses.replace(sample, inputs={"image": image[10:]})'
        },
        'return dataclasses.replace(sample, inputs={"image": image[10:]})',
        "training sample 0 of Images: input 'image' has shape (0, 4, 1), but its Spec says (4, 4, 1)",
    ),
    "reshape in processor": Mistake(
        {'image = sample.inputs["image"].astype("float32") / 255': 'image = sample.inputs["image"].reshape(3, 3)'},
        'image = sample.inputs["image"].reshape(3, 3)',
        "ValueError: cannot reshape array of size 16 into shape (3,3)",
    ),
    "dtype in processor": Mistake(
        {'image = sample.inputs["image"].astype("float32") / 255': 'image = sample.inputs["image"].astype("floatt")'},
        'image = sample.inputs["image"].astype("floatt")',
        "TypeError: data type 'floatt' not understood",
    ),
    "empty image": Mistake(
        {
            'image = random.integers(0, 255, (4, 4, 1)).astype("uint8")': 'image = random.integers(0, 255, (0, 4, 1)).astype("uint8")'
        },
        'return dataclasses.replace(sample, inputs={"image": image})',
        "training sample 0 of Images: input 'image' has shape (0, 4, 1), but its Spec says (4, 4, 1)",
    ),
    "modes string": Mistake(
        {"processors: list[Processor] = [Scale()]": 'processors: list[Processor] = [Scale(modes="train")]'},
        'processors: list[Processor] = [Scale(modes="train")]',
        "--data.processors.0.modes: expected (TRAIN | EVALUATE | PREDICT) ..., got",
    ),
    "stream returns none": Mistake(
        {
            "import math": "import math\nfrom tfaip_like.settings import *\nfrom tfaip_like.optimizers import *\nfrom tfaip_like.schedules import *\nfrom tfaip_like.data import *",
            "class Scale(Processor)": "from tfaip_like.data._processors import StreamProcessor\nclass Cut(StreamProcessor):\n    def process_group(self, samples, random):\n        pass\n\nclass Scale(Processor)",
            "[Scale()]": "[Scale(), Cut()]",
        },
        "def process_group(self, samples, random):",
        "TypeError: 'NoneType' object is not iterable",
    ),
    "stream returns list of arrays": Mistake(
        {
            "import math": "import math\nfrom tfaip_like.settings import *\nfrom tfaip_like.optimizers import *\nfrom tfaip_like.schedules import *\nfrom tfaip_like.data import *",
            "class Scale(Processor)": "from tfaip_like.data._processors import StreamProcessor\nclass Cut(StreamProcessor):\n    def process_group(self, samples, random):\n        return [s.inputs for s in samples]\n\nclass Scale(Processor)",
            "[Scale()]": "[Scale(), Cut()]",
        },
        "return [s.inputs for s in samples]",
        "Cut.process_group yielded a dict, expected a Sample",
    ),
    "lambda loss": Mistake(
        {
            '    def loss(self, inputs, targets, outputs):\n        loss = keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])\n        return {"ce": loss}': "    loss = keras.losses.sparse_categorical_crossentropy"
        },
        "loss = keras.losses.sparse_categorical_crossentropy",
        "Net.loss is keras.src.losses.losses.sparse_categorical_crossentropy; expected def loss(self, inputs, targets, outputs)",
    ),
}

# fmt: on

AREAS = {
    "network": NETWORK,
    "data": DATA,
    "loss": LOSS,
    "evaluator": EVALUATOR,
    "packaging": PACKAGING,
    "documented": DOCUMENTED,
}
"""The last are by readers of the documents who have not seen the code."""
