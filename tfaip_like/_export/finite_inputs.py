"""Detection of inputs that must be finite because the network does not handle missing values.

The outputs of an export do not show it: on a CPU, TensorFlow's relu and max operations turn NaN into 0. The gradients
do (NaN times 0 is NaN), which is why training stops at such a sample.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfaip_like._keras_ext.random_states import preserve_network_state
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._sample import without_texts
from tfaip_like.modeling._network import Networks, input_names, select_inputs

logger = logging.getLogger(__name__)

NUM_PROBE_SAMPLES = 2
"""Few, as the network runs eagerly, which is slow for recurrent layers."""


def find_finite_inputs(networks: Networks, example: Batch) -> list[str]:
    """Return the names of the float inputs in which NaN makes outputs or gradients NaN.

    Inputs that contain NaN in the example are excluded: the network is trained with them.

    Args:
        networks: Networks of the model.
        example: Batch of real samples.
    """
    batch = example.rows(0, min(NUM_PROBE_SAMPLES, len(example)))
    names = []
    try:
        with preserve_network_state(networks.training):
            if not _has_finite_outputs_and_gradients(networks.training, batch, batch.inputs):
                return []
            for name in input_names(networks.exported):
                array = np.array(batch.inputs[name])
                if array.size and np.issubdtype(array.dtype, np.floating) and np.isfinite(example.inputs[name]).all():
                    array.reshape(-1)[::2] = np.nan  # half of them, for networks that impute the mean
                    if not _has_finite_outputs_and_gradients(networks.training, batch, {**batch.inputs, name: array}):
                        names.append(name)
    except Exception as error:  # of layers that only run in a compiled step
        logger.debug("cannot determine which inputs must be finite: %s", error)
        return []
    return names


def _has_finite_outputs_and_gradients(network: keras.Model, batch: Batch, inputs: Mapping[str, Any]) -> bool:
    arrays = {**without_texts(batch.targets), **inputs}
    tensors = {name: keras.ops.convert_to_tensor(array) for name, array in arrays.items()}
    if keras.backend.backend() != "tensorflow":  # whose relu and max operations propagate NaN
        return _are_finite(network(select_inputs(tensors, network), training=False))
    import tensorflow as tf

    weights = [weight.value for weight in network.weights if keras.backend.is_float_dtype(weight.dtype)]
    with tf.GradientTape() as tape:
        tape.watch(weights)
        outputs = network(select_inputs(tensors, network), training=False)
        floats = [tensor for tensor in outputs.values() if keras.backend.is_float_dtype(tensor.dtype.name)]
        total = sum(tf.reduce_sum(tf.cast(tensor, "float32")) for tensor in floats)
    if not floats:
        return True
    gradients = [getattr(g, "values", g) for g in tape.gradient(total, weights) if g is not None]
    return _are_finite(outputs) and _are_finite(dict(enumerate(gradients)))


def _are_finite(tensors: Mapping[Any, Any]) -> bool:
    arrays = (np.asarray(keras.ops.convert_to_numpy(tensor)) for tensor in tensors.values())
    return all(np.isfinite(array.astype("float32")).all() for array in arrays if "float" in array.dtype.name)
