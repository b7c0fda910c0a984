"""Search for a learning rate (`--learning_rate.find`): a range test, whose rate grows with each step.

Source: Smith, Cyclical Learning Rates for Training Neural Networks, 2017, https://arxiv.org/abs/1506.01186.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence

import keras
import numpy as np
from keras.optimizers.schedules import ExponentialDecay

from tfaip_like._training.component_builder import build_components
from tfaip_like._training.devices import Devices
from tfaip_like._training.steps.example_checks import NON_FINITE
from tfaip_like._utils.console import console_level
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.interruption import InterruptFlag
from tfaip_like.data import Source
from tfaip_like.data._sample import Mode
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)

MIN_RATE, MAX_RATE = 1e-6, 10.0
NUM_STEPS = 140
"""Steps from the minimum to the maximum, 20 for each power of ten."""
SMOOTHING = 0.9
"""Share of the earlier losses in their moving average."""
WINDOW = 10
"""Steps over which the decrease of the loss is measured: half a power of ten."""
DIVERGED = 3.0
"""The test ends when the loss has risen above the smallest one by this factor of it."""
MIN_DECREASE = 0.01
"""Smallest decrease of the loss, as a share of the first one, that shows that the network learns."""


@dataclasses.dataclass(frozen=True)
class RangeTest:
    """Losses of a range test.

    Example:
        >>> rates = [10 ** (step / 20 - 3) for step in range(61)]
        >>> losses = [2 - rate if rate < 1 else rate for rate in rates]
        >>> round(RangeTest(rates, losses).propose(), 2)
        0.56
    """

    rates: Sequence[float]
    """Learning rate of each step."""

    losses: Sequence[float]
    """Loss of each step, smoothed by a moving average."""

    def propose(self) -> float | None:
        """Return the rate at which the loss falls fastest, per power of ten; None if it does not fall."""
        if len(self.losses) == 0:
            return None
        lowest = int(np.argmin(self.losses))
        if self.losses[0] - self.losses[lowest] <= MIN_DECREASE * abs(self.losses[0]):
            return None
        window = min(WINDOW, lowest)
        losses = np.asarray(self.losses[: lowest + 1])
        begin = int(np.argmax(losses[:-window] - losses[window:]))
        return math.sqrt(self.rates[begin] * self.rates[begin + window])


def find_learning_rate(scenario: Scenario, devices: Devices, interrupt: InterruptFlag) -> tuple[Scenario, RangeTest]:
    """Return the scenario with the learning rate that a range test proposes.

    The test trains another network from the initial weights, so the training is that of a run with this rate.

    Args:
        scenario: scenario whose `learning_rate.find` is set.
        devices: compute devices.
        interrupt: interrupt flag.

    Raises:
        UsageError: if the loss does not fall at any rate.
    """
    logger.info("Searching the learning rate: %d steps from %g to %g ...", NUM_STEPS, MIN_RATE, MAX_RATE)
    test = run_range_test(scenario, scenario.select_source(Mode.TRAIN), devices, interrupt)
    rate = test.propose()
    if rate is None:
        raise UsageError(
            "--learning_rate.find: the loss does not fall at any learning rate "
            f"from {MIN_RATE:g} to {MAX_RATE:g}; check data and losses, or set --learning_rate.lr"
        )
    rate = float(f"{rate:.2g}")
    end = f"ended at {test.rates[-1]:.2g}" if len(test.rates) < NUM_STEPS else "reached the end"
    logger.info(
        "Using learning rate %g, where the loss falls fastest (from %.4g to %.4g; the test %s).",
        rate,
        test.losses[0],
        min(test.losses),
        end,
    )
    return dataclasses.replace(scenario, learning_rate=dataclasses.replace(scenario.learning_rate, lr=rate)), test


def run_range_test(scenario: Scenario, source: Source | None, devices: Devices, interrupt: InterruptFlag) -> RangeTest:
    """Train with a growing learning rate until the loss diverges.

    Args:
        scenario: scenario.
        source: training samples.
        devices: compute devices.
        interrupt: interrupt flag.
    """
    jit_compile = scenario.trainer.jit_compile
    if keras.backend.backend() == "tensorflow" and jit_compile is None:
        jit_compile = False  # compiling takes longer than these steps
    trainer = dataclasses.replace(
        scenario.trainer,
        output_dir=None,
        val_every_n=0,
        lav_every_n=0,
        epochs=NUM_STEPS,
        calc_ema=0.0,
        steps_per_execution=1,
        jit_compile=jit_compile,
    )
    trial = dataclasses.replace(scenario, trainer=trainer, callbacks=[], loggers=[], exporters=[])
    growth = (MAX_RATE / MIN_RATE) ** (1 / (NUM_STEPS - 1))
    rates, losses = list[float](), list[float]()
    average = 0.0
    with console_level(logging.WARNING), build_components(trial, source, None, interrupt, devices) as components:
        components.lr_schedule.schedule = ExponentialDecay(MIN_RATE, decay_steps=1, decay_rate=growth)
        for step in range(NUM_STEPS):
            components.model.reset_metrics()
            data, executions = components.feed.open(step)
            results = components.step.run(data, len(executions.popleft()))
            loss, first_bad = float(results["loss"]), int(results[NON_FINITE])
            components.step.sync_to_model()
            interrupt.check()
            if first_bad or not math.isfinite(loss):
                break
            average = SMOOTHING * average + (1 - SMOOTHING) * loss
            rates.append(MIN_RATE * growth**step)
            losses.append(average / (1 - SMOOTHING ** (step + 1)))  # the average begins at 0
            if _has_diverged(losses):
                break
    return RangeTest(rates, losses)


def _has_diverged(losses: Sequence[float]) -> bool:
    lowest = min(losses)
    return losses[-1] - lowest > DIVERGED * max(abs(lowest), 0.1 * abs(losses[0]))
