"""Execution of steps: XLA compilation and steps per execution.

Measured on two cores (a small MLP, 60,000 samples in batches of 16): one epoch of plain Keras takes
5.8 s; with XLA 4.7 s; with 32 steps per execution 2.7 s; with both 1.7 s; compiled as one loop 1.3 s.
"""

from __future__ import annotations

import time
import warnings

import keras

from tfaip_like._training.steps.training_model import TrainingModel, to_model_inputs
from tfaip_like._utils.errors import UsageError
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.settings import Trainer

MAX_STEPS_PER_EXECUTION = 256
MAX_STACK_BYTES = 16 * 2**20
"""Maximum size of the batches of one execution, of which several are in memory."""
TARGET_EXECUTION_S = 0.5
TRAIN_TO_PREDICT_COST_RATIO = 3
"""Cost of a training step in predictions: one forward and two backward passes."""


def compile_model(
    model: TrainingModel,
    optimizer: keras.optimizers.Optimizer,
    trainer: Trainer,
    loader: DataLoader,
    pads_lengths: bool = False,
) -> None:
    """Compile the training model for the backend.

    Args:
        model: training model.
        optimizer: optimizer, already built.
        trainer: its `jit_compile` and `force_eager` apply.
        loader: training loader.
        pads_lengths: whether batches of variable lengths are padded to a few shapes.

    Raises:
        UsageError: if `jit_compile` is requested but not supported, or no loss depends on any weight.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras only warns and disables XLA; checked below
        model.compile(
            optimizer=optimizer,
            jit_compile=_choose_jit_compile(model, trainer, loader.yields_stacked_steps or pads_lengths),
            run_eagerly=trainer.force_eager,
        )
    if not model.optimizer.built:  # Keras wraps it for float16; the loss scale is part of the state from the start
        model.optimizer.build(model.trainable_variables)
    if trainer.jit_compile and not model.jit_compile:
        raise UsageError("--trainer.jit_compile true: XLA does not support this model or device")


def is_xla_unsupported_error(error: Exception) -> bool:
    """Return whether the error of a first step means that XLA cannot compile an operation."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    markers = ("unsupported operations when trying to compile", "XLA", "tf2xla")
    return isinstance(error, tf.errors.OpError) and any(marker in str(error) for marker in markers)


def is_invalid_argument_error(error: Exception) -> bool:
    """Return whether a TensorFlow operation rejected a value."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return isinstance(error, tf.errors.InvalidArgumentError)


def _choose_jit_compile(model: TrainingModel, trainer: Trainer, has_few_shapes: bool) -> bool | str:
    backend = keras.backend.backend()
    if backend == "torch":
        if trainer.jit_compile:
            raise UsageError("--trainer.jit_compile true: not supported by the torch backend")
        return False
    if trainer.force_eager:
        return False
    if trainer.jit_compile is not None:
        return trainer.jit_compile
    if backend == "jax":
        return True
    # XLA recompiles for each new shape; with samples of many lengths it would do nothing else.
    return has_few_shapes and not has_conv_layers_on_cpu(model)


def has_conv_layers_on_cpu(model: TrainingModel) -> bool:
    """Return whether the network has convolutions and there is no GPU.

    In a loop over steps, XLA compiles convolutions to naive code on CPU. Measured on two cores (TensorFlow 2.21; two
    convolutions of 32 filters, 64 images of 28x28): a step takes 1.6 s, without XLA 0.02 s.
    """
    import tensorflow as tf

    layers = model.network._flatten_layers()  # includes nested layers, which Keras has no public access to
    convolves = any("Conv" in cls.__name__ for layer in layers for cls in type(layer).__mro__)
    return convolves and not tf.config.list_logical_devices("GPU")


def choose_steps_per_execution(model: TrainingModel, trainer: Trainer, loader: DataLoader, example: Batch) -> int:
    """Return the maximum number of steps per execution.

    Args:
        model: training model; it need not be compiled.
        trainer: its `steps_per_execution`, if set, applies.
        loader: training loader.
        example: its first batch.
    """
    if trainer.steps_per_execution is not None:
        return min(trainer.steps_per_execution, loader.steps_per_epoch)
    if trainer.force_eager or keras.backend.backend() == "torch":
        return 1
    step_seconds = TRAIN_TO_PREDICT_COST_RATIO * loader.accumulate * _measure_prediction_seconds(model, example)
    steps_by_time = int(TARGET_EXECUTION_S / step_seconds)
    steps_by_size = MAX_STACK_BYTES // max(1, loader.accumulate * example.nbytes())
    steps = min(MAX_STEPS_PER_EXECUTION, loader.steps_per_epoch, steps_by_time, steps_by_size)
    # A stack is built by a single data worker: many small ones keep all of them busy.
    return max(1, min(steps, loader.steps_per_task(steps)) if loader.yields_stacked_steps else steps)


def _measure_prediction_seconds(model: TrainingModel, example: Batch) -> float:
    """Measure an uncompiled prediction of one training batch."""
    inputs = to_model_inputs(example)
    model(inputs)  # warm-up
    start = time.perf_counter()
    for output in model(inputs).values():
        keras.ops.convert_to_numpy(output)  # waits for the device
    return time.perf_counter() - start
