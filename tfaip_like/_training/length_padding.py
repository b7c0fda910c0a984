"""Padding of batches to a few lengths, so that the step can be compiled for each of their shapes.

XLA compiles a program for each shape; batches of samples of many lengths have as many shapes. Their losses do not
depend on padding if the network and the losses use masks, which is measured.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from tfaip_like._keras_ext.random_states import preserve_network_state
from tfaip_like._training.steps.compilation import has_conv_layers_on_cpu
from tfaip_like._training.steps.training_model import TrainingModel, to_model_inputs
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.data._sample import Arrays, Spec
from tfaip_like.settings import Trainer

logger = logging.getLogger(__name__)

MIN_LENGTH = 8
MIN_STEPS = 500
"""Minimum number of steps of a run that outweigh compiling some programs (seconds each)."""
NOISE_ATTRIBUTES = ("rate", "stddev", "dropout", "recurrent_dropout")
"""Attributes of Keras layers that turn random noise off if they are 0."""

PadFunction = Callable[[int], int]


def round_up_length(length: int) -> int:
    """Return the smallest of 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, ... that is not below a length.

    These are four lengths for each power of two: from a length of 8 on, at most a fifth of a batch is padding.

    Example:
        >>> [round_up_length(length) for length in (3, 9, 33, 100, 130)]
        [8, 10, 40, 112, 160]
    """
    if length <= MIN_LENGTH:
        return MIN_LENGTH
    step = 1 << ((length - 1).bit_length() - 3)
    return -(-length // step) * step


class LengthPadding:
    """Padding of the variable axes of batches.

    Args:
        inputs: specification of each input.
        targets: specification of each target.
    """

    def __init__(self, inputs: Mapping[str, Spec], targets: Mapping[str, Spec]):
        self._inputs = inputs
        self._targets = targets

    def __call__(self, batch: Batch, round_up: PadFunction = round_up_length) -> Batch:
        """Return a batch with its variable axes padded at their ends."""
        return replace(
            batch,
            inputs=_pad_arrays(batch.inputs, self._inputs, round_up),
            targets=_pad_arrays(batch.targets, self._targets, round_up),
        )


def choose_padding(model: TrainingModel, trainer: Trainer, loader: DataLoader, example: Batch) -> bool:
    """Return whether to pad batches of variable lengths and compile the step for each shape.

    The choice does not depend on the speed of the machine: compiled programs round differently.

    Args:
        model: training model; it need not be compiled.
        trainer: its `jit_compile`, `force_eager` and `epochs` apply.
        loader: training loader.
        example: its first batch.
    """
    backend = keras.backend.backend()
    specs = loader.samples.specs
    if all(spec.is_static for spec in specs) or any(spec.is_text for spec in specs) or backend == "torch":
        return False
    if trainer.force_eager or trainer.jit_compile is False:
        return False
    if backend == "tensorflow" and trainer.jit_compile is None:
        is_short = trainer.epochs * loader.steps_per_epoch < MIN_STEPS
        if is_short or loader.accumulate > 1 or has_conv_layers_on_cpu(model):
            return False
    padding = LengthPadding(loader.samples.inputs, loader.samples.targets)
    if not _is_neutral(padding, model, example):
        logger.info("variable lengths: not padded to fewer shapes, because padding changes the losses or the outputs")
        return False
    logger.info(
        "variable lengths: batches are padded to lengths such as 64, 80, 96, 112 and 128, and the step is compiled for "
        "each; --trainer.jit_compile false turns both off"
    )
    return True


def _pad_arrays(arrays: Arrays, specs: Mapping[str, Spec], round_up: PadFunction) -> dict[str, npt.NDArray[Any]]:
    return {name: _pad_array(array, specs[name], round_up) for name, array in arrays.items()}


def _pad_array(array: npt.NDArray[Any], spec: Spec, round_up: PadFunction) -> npt.NDArray[Any]:
    lengths = [
        size if fixed is not None else round_up(size) for size, fixed in zip(array.shape[1:], spec.shape, strict=True)
    ]
    shape = (len(array), *lengths)
    if shape == array.shape:
        return array
    padded = np.full(shape, spec.padding, array.dtype)
    padded[tuple(map(slice, array.shape))] = array
    return padded


def _is_neutral(padding: LengthPadding, model: TrainingModel, example: Batch) -> bool:
    """Return whether a padded batch has the outputs, losses, metrics and statistics of the batch itself."""
    padded = padding(example, lambda length: round_up_length(length + 1))
    with _disable_noise(model.network):
        before = _evaluate(model, example)
        try:
            after = _evaluate(model, padded)
        except Exception as error:  # the network or a loss may require this length
            logger.debug("evaluating a padded batch failed: %s", error)
            return False
        finally:
            model.reset_metrics()
    return all(_agree(value, after[name]) for name, value in before.items())


def _evaluate(model: TrainingModel, batch: Batch) -> dict[str, npt.NDArray[Any]]:
    """Return outputs, losses, metrics, and the non-trainable variables after a training pass of the network."""
    model.reset_metrics()
    with preserve_network_state(model.network):
        outputs, loss = model.evaluate_batch(to_model_inputs(batch), training=True)
        values = {
            "loss": loss,
            **{f"output {name}": output for name, output in outputs.items()},
            **{f"metric {name}": value for name, value in model.metric_results().items()},
            **{f"variable {v.path}": v.value for v in model.network.non_trainable_variables if _is_float(v.dtype)},
        }
        return {name: np.asarray(keras.ops.convert_to_numpy(value)) for name, value in values.items()}


def _agree(value: npt.NDArray[Any], padded: npt.NDArray[Any]) -> bool:
    if value.ndim != padded.ndim or any(size > other for size, other in zip(value.shape, padded.shape, strict=True)):
        return False
    cut = padded[tuple(map(slice, value.shape))]
    if not _is_float(value.dtype.name):
        return bool((cut == value).all())
    tolerance = 1e-4 if value.dtype.itemsize >= 4 else 1e-2
    value, cut = value.astype("float64"), cut.astype("float64")
    return np.allclose(cut, value, tolerance, tolerance * float(np.abs(value).max(initial=0)), equal_nan=True)


def _is_float(dtype: str) -> bool:
    return "float" in dtype


@contextmanager
def _disable_noise(network: keras.Model) -> Iterator[None]:
    """Disable the noise of Keras' layers (dropout), which depends on the shape."""
    layers = [
        layer
        for layer in network._flatten_layers()  # includes nested layers, which Keras has no public access to
        if type(layer).__module__.startswith("keras.")
    ]
    changed = [
        (layer, name, getattr(layer, name))
        for layer in layers
        for name in NOISE_ATTRIBUTES
        if isinstance(vars(layer).get(name), float)  # the dropout of a recurrent layer is a property of its cell
    ]
    try:
        for layer, name, _ in changed:
            setattr(layer, name, 0.0)
        yield
    finally:
        for layer, name, value in changed:
            setattr(layer, name, value)
