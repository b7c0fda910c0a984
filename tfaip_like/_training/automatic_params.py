"""Parameters that a new run determines before its training: random seed, batch size, learning rate."""

from __future__ import annotations

import dataclasses
import secrets

from tfaip_like._training.batch_size_search import find_batch_size
from tfaip_like._training.devices import Devices
from tfaip_like._training.learning_rate_search import RangeTest, find_learning_rate
from tfaip_like._utils.interruption import InterruptFlag
from tfaip_like.params._ignored_flags import ExplicitFlags
from tfaip_like.scenario import Scenario


def with_batch_size(scenario: Scenario, devices: Devices, interrupt: InterruptFlag) -> Scenario:
    """Return the scenario with a number as batch size; if it is `auto`, the largest that fits into memory."""
    if scenario.train.batch_size != "auto":
        return scenario
    size = find_batch_size(scenario, max(1, len(devices.gpus)), interrupt.check)
    return dataclasses.replace(scenario, train=dataclasses.replace(scenario.train, batch_size=size))


def with_learning_rate(
    scenario: Scenario, devices: Devices, interrupt: InterruptFlag, explicit_flags: ExplicitFlags
) -> tuple[Scenario, RangeTest | None]:
    """Return the scenario with the learning rate of a range test, if it asks for one."""
    if not scenario.learning_rate.find:
        return scenario, None
    explicit_flags.reject(("learning_rate", "lr"), "--learning_rate.find sets it; omit one of them")
    return find_learning_rate(scenario, devices, interrupt)


def with_random_seed(scenario: Scenario) -> Scenario:
    """Return the scenario with a random seed; one is drawn if not set, so that every run can be repeated."""
    if scenario.trainer.random_seed is not None:
        return scenario
    trainer = dataclasses.replace(scenario.trainer, random_seed=secrets.randbelow(2**32))
    return dataclasses.replace(scenario, trainer=trainer)
