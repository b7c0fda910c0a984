"""How steps are executed: compiled or not, and how many at once.

Measured on two cores (a small MLP, 60,000 samples in batches of 16): one epoch of plain Keras takes
5.8 s; with XLA 4.7 s; with 32 steps per execution 2.7 s; with both 1.7 s; compiled as one loop 1.3 s.
"""

from __future__ import annotations

import time
import warnings

import keras

from tfaip_like._training.steps.training_model import TrainingModel, to_model_inputs
from tfaip_like._utils.errors import UsageError
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.settings import Trainer

MAX_STEPS_PER_EXECUTION = 64
TARGET_EXECUTION_S = 0.5
TRAIN_TO_PREDICT_COST_RATIO = 3
"""A training step computes about as much as three predictions: forward, and backward twice."""


def compile_model(
    model: TrainingModel, optimizer: keras.optimizers.Optimizer, trainer: Trainer, loader: DataLoader
) -> None:
    """Compiles the training model as the trainer's parameters say.

    Raises:
        UsageError: when `jit_compile` is asked for and not supported.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns and goes on without XLA; we tell below
        model.compile(
            optimizer=optimizer,
            jit_compile=_choose_jit_compile(model, trainer, loader),
            run_eagerly=trainer.force_eager,
        )
    if not model.optimizer.built:  # Keras wraps it for float16; the loss scale belongs to the state from the start
        model.optimizer.build(model.trainable_variables)
    if trainer.jit_compile and not model.jit_compile:
        raise UsageError("--trainer.jit_compile true: a layer of this model, or this device, cannot be compiled by XLA")


def is_xla_unsupported_error(error: Exception) -> bool:
    """Return whether an error of the first step says that XLA cannot compile an operation."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    signs = ("unsupported operations when trying to compile", "XLA", "tf2xla")
    return isinstance(error, tf.errors.OpError) and any(sign in str(error) for sign in signs)


def is_invalid_argument_error(error: Exception) -> bool:
    """Return whether an operation of TensorFlow raised because of a value."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return isinstance(error, tf.errors.InvalidArgumentError)


def _choose_jit_compile(model: TrainingModel, trainer: Trainer, loader: DataLoader) -> bool | str:
    backend = keras.backend.backend()
    if backend == "torch":
        if trainer.jit_compile:
            raise UsageError("--trainer.jit_compile true: Keras cannot compile on torch; leave it out")
        return False
    if trainer.force_eager:
        return False
    if trainer.jit_compile is not None:
        return trainer.jit_compile
    if backend == "jax":
        return True
    # XLA compiles anew for each shape: with samples of many lengths that is all it would ever do.
    return loader.yields_stacked_steps and not _has_conv_layers_on_cpu(model)


def _has_conv_layers_on_cpu(model: TrainingModel) -> bool:
    """Return whether XLA would compute convolutions without a GPU.

    In a loop over steps it does so in the plainest way. Measured on two cores (TensorFlow 2.21; two convolutions of 32
    filters, 64 images of 28x28): a step takes 1.6 s, without XLA 0.02 s.
    """
    import tensorflow as tf

    layers = model.network._flatten_layers()  # also those within others, which Keras lists nowhere in public
    convolves = any("Conv" in cls.__name__ for layer in layers for cls in type(layer).__mro__)
    return convolves and not tf.config.list_logical_devices("GPU")


def choose_steps_per_execution(model: TrainingModel, trainer: Trainer, loader: DataLoader) -> int:
    """The most steps in an execution.

    Raises:
        UsageError: when several are asked for and not supported.
    """
    if trainer.steps_per_execution is not None:
        if trainer.steps_per_execution > 1 and keras.backend.backend() != "tensorflow":
            raise UsageError("--trainer.steps_per_execution: only the tensorflow backend runs several steps at once")
        return min(trainer.steps_per_execution, loader.steps_per_epoch)
    if trainer.force_eager or keras.backend.backend() != "tensorflow":
        return 1
    step_seconds = TRAIN_TO_PREDICT_COST_RATIO * loader.accumulate * _measure_prediction_seconds(model, loader)
    most = min(MAX_STEPS_PER_EXECUTION, loader.steps_per_epoch, int(TARGET_EXECUTION_S / step_seconds))
    # A stack is made by one data process: many small ones keep all of them busy.
    return max(1, min(most, loader.steps_per_task(most)) if loader.yields_stacked_steps else most)


def _measure_prediction_seconds(model: TrainingModel, loader: DataLoader) -> float:
    """The time of one prediction on a training batch, without compiling anything."""
    fed = to_model_inputs(loader.batch(0))
    model(fed)  # the first one also sets things up
    begin = time.perf_counter()
    for output in model(fed).values():
        keras.ops.convert_to_numpy(output)  # waits for the device
    return time.perf_counter() - begin
