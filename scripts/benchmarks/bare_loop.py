"""Benchmark of the trainer against a bare compiled loop, on TensorFlow and on JAX, and against plain Keras.

All sides train the same network (784 - 128 - 10, Adam, float32) on the same 60,000 images of 28x28 random pixels in
batches of 16, shuffled, and average the loss and the accuracy over the epoch. A bare loop is what remains without a
framework: a compiled function trains on a stack of 64 batches, which are in order in memory before the clock starts;
the weights are updated by the formula of Adam. Our side does all that a run does by default: it shuffles, checks each
step, and records the norm of the gradients. Each side runs in a separate process, the sides in turn; the first epoch
of a process, which compiles, is not counted.

    python scripts/benchmarks/bare_loop.py [ROUNDS]
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from typing import Any

if sys.argv[1:2] and sys.argv[1].endswith("jax"):
    os.environ["KERAS_BACKEND"] = "jax"

import numpy as np
from interleaved import medians
from small_mlp import BATCH, EPOCHS, SAMPLES, arrays, ours, plain

STEPS_PER_CALL = 64
STEPS = SAMPLES // BATCH
LEARNING_RATE, BETA_1, BETA_2, EPSILON = 1e-3, 0.9, 0.999, 1e-7


def initial_weights() -> list[np.ndarray[Any, Any]]:
    """Return the weights and biases of both layers."""
    random = np.random.default_rng(0)
    shapes = ((784, 128), (128,), (128, 10), (10,))
    return [
        (random.normal(0, 0.05, shape) if len(shape) > 1 else np.zeros(shape)).astype("float32") for shape in shapes
    ]


def measure_loop(train: Any) -> list[float]:
    """Return the seconds of each epoch.

    Args:
        train: trains on a stack of images and one of labels; returns a function that waits for the result.
    """
    images, labels = arrays()
    order = np.random.default_rng(0).permutation(SAMPLES)
    arrays_in_order = images[order].reshape(STEPS, BATCH, 784), labels[order].reshape(STEPS, BATCH)
    executions = [stack_of(arrays_in_order, first) for first in range(0, STEPS, STEPS_PER_CALL)]
    seconds = []
    for _ in range(EPOCHS):
        start = time.perf_counter()
        for stack, count in executions:
            wait = train(*stack, count)
        wait()
        seconds.append(time.perf_counter() - start)
    return seconds


def stack_of(arrays: Sequence[np.ndarray[Any, Any]], first: int) -> tuple[list[np.ndarray[Any, Any]], np.int32]:
    """Return the batches of an execution, padded with zeros, and their number."""
    count = min(STEPS_PER_CALL, STEPS - first)
    stack = [np.zeros((STEPS_PER_CALL, *array.shape[1:]), array.dtype) for array in arrays]
    for padded, array in zip(stack, arrays, strict=True):
        padded[:count] = array[first : first + count]
    return stack, np.int32(count)


def bare_tensorflow() -> list[float]:
    """Return the seconds of each epoch of a bare loop on TensorFlow."""
    import tensorflow as tf

    weights = [tf.Variable(weight) for weight in initial_weights()]
    first, second = ([tf.Variable(tf.zeros_like(weight)) for weight in weights] for _ in range(2))
    step, loss_sum, correct = (tf.Variable(0.0) for _ in range(3))

    @tf.function(jit_compile=True)
    def run(images: Any, labels: Any, count: Any) -> Any:
        def body(index: Any) -> Any:
            with tf.GradientTape() as tape:
                hidden = tf.nn.relu(images[index] @ weights[0] + weights[1])
                logits = hidden @ weights[2] + weights[3]
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels[index], logits)
                loss = tf.reduce_mean(losses)
            step.assign_add(1.0)
            rate = LEARNING_RATE * tf.sqrt(1 - BETA_2**step) / (1 - BETA_1**step)
            for weight, m, v, gradient in zip(weights, first, second, tape.gradient(loss, weights), strict=True):
                m.assign_add((gradient - m) * (1 - BETA_1))
                v.assign_add((gradient * gradient - v) * (1 - BETA_2))
                weight.assign_sub(rate * m / (tf.sqrt(v) + EPSILON))
            loss_sum.assign_add(loss)
            hits = tf.equal(tf.argmax(logits, 1, tf.int32), labels[index])
            correct.assign_add(tf.reduce_sum(tf.cast(hits, tf.float32)))
            return (index + 1,)

        tf.while_loop(lambda index: index < count, body, (0,), parallel_iterations=1)
        return loss_sum.read_value()

    return measure_loop(lambda images, labels, count: run(tf.constant(images), tf.constant(labels), count).numpy)


def bare_jax() -> list[float]:
    """Return the seconds of each epoch of a bare loop on JAX."""
    import jax
    from jax import numpy as jnp

    weights = [jnp.asarray(weight) for weight in initial_weights()]
    zeros = [jnp.zeros_like(weight) for weight in weights]
    state = (weights, zeros, [jnp.zeros_like(weight) for weight in weights], *(jnp.float32(0) for _ in range(3)))

    def compute_loss(weights: Any, images: Any, labels: Any) -> tuple[Any, Any]:
        hidden = jax.nn.relu(images @ weights[0] + weights[1])
        logits = hidden @ weights[2] + weights[3]
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)
        return -jnp.mean(chosen), jnp.sum(logits.argmax(1) == labels)

    def run(state: Any, images: Any, labels: Any, count: Any) -> Any:
        def body(carry: Any) -> Any:
            index, (weights, first, second, step, loss_sum, correct) = carry
            compute = jax.value_and_grad(compute_loss, has_aux=True)
            (loss, hits), gradients = compute(weights, images[index], labels[index])
            step = step + 1
            rate = LEARNING_RATE * jnp.sqrt(1 - BETA_2**step) / (1 - BETA_1**step)
            first = [m + (g - m) * (1 - BETA_1) for m, g in zip(first, gradients, strict=True)]
            second = [v + (g * g - v) * (1 - BETA_2) for v, g in zip(second, gradients, strict=True)]
            moments = zip(weights, first, second, strict=True)
            weights = [weight - rate * m / (jnp.sqrt(v) + EPSILON) for weight, m, v in moments]
            return index + 1, (weights, first, second, step, loss_sum + loss, correct + hits)

        return jax.lax.while_loop(lambda carry: carry[0] < count, body, (0, state))[1]

    compiled = jax.jit(run, donate_argnums=0)

    def train(images: Any, labels: Any, count: Any) -> Any:
        nonlocal state
        state = compiled(state, images, labels, count)
        return state[4].block_until_ready

    return measure_loop(train)


def main() -> None:
    """Print the epoch times of each round, the medians and their ratios."""
    sides = {
        "bare tensorflow": bare_tensorflow,
        "ours tensorflow": ours,
        "bare jax": bare_jax,
        "ours jax": ours,
        "plain tensorflow": plain,
    }
    seconds = medians(__doc__, sides)
    print(*(f"{side:17} median {median:.3f} s an epoch" for side, median in seconds.items()), sep="\n")
    for backend in ("tensorflow", "jax"):
        print(f"ratio ours / bare on {backend}: {seconds[f'ours {backend}'] / seconds[f'bare {backend}']:.2f}")
    print(f"ratio ours / plain Keras on tensorflow: {seconds['ours tensorflow'] / seconds['plain tensorflow']:.2f}")


if __name__ == "__main__":
    main()
