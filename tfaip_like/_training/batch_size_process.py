"""Child process that tries batch sizes, see `batch_size_search`."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import keras

from tfaip_like._export.scenario_loading import load_scenario_file
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.batch_size_search import BatchSizeRange
from tfaip_like._training.component_builder import build_components
from tfaip_like._training.devices import Devices, configure_devices
from tfaip_like._training.out_of_memory import is_out_of_memory_error
from tfaip_like._user_code.trust import allow_untrusted_code
from tfaip_like._utils.errors import short_error_message
from tfaip_like._utils.interruption import InterruptFlag
from tfaip_like._utils.operating_system import get_memory_bytes
from tfaip_like.data._sample import Mode
from tfaip_like.scenario import Scenario

MEMORY_SHARE = 0.8
"""Share of the free memory of the host that a training on a CPU may use."""
NUM_EXECUTIONS = 2
"""Executions of a trial: in the second one, batches are prefetched while the device computes."""


def main() -> None:
    """Try the sizes of a range: PARAMS RESULTS RANGE; end after the first one that does not fit."""
    params, results, known = Path(sys.argv[1]), Path(sys.argv[2]), BatchSizeRange(**json.loads(sys.argv[3]))
    with results.open("a", buffering=1) as file:

        def write(**entry: Any) -> None:
            file.write(json.dumps(entry) + "\n")

        try:
            with allow_untrusted_code():  # its own training has imported it
                scenario = load_scenario_file(params, OutputDir(params.parent))
            devices = configure_devices(scenario.device)
            keras.ops.ones(())  # initializes the device before the memory is limited
            if not devices.gpus:
                limit_memory(MEMORY_SHARE)
            _try_sizes(scenario, devices, known, write)
        except Exception as error:
            write(error=short_error_message(error))


def _try_sizes(scenario: Scenario, devices: Devices, known: BatchSizeRange, write: Any) -> None:
    is_first = True
    while (size := known.next_size()) is not None:
        try:
            limit = try_batch_size(scenario, devices, size)
        except Exception as error:
            if not is_out_of_memory_error(error):
                raise
            if is_first:
                write(size=size, fits=False)
            return
        if known.limit is None:
            write(limit=limit)
            known = dataclasses.replace(known, limit=limit)
        write(size=size, fits=True)
        known, is_first = known.with_result(size, is_fitting=True), False


def limit_memory(share: float) -> None:
    """Limit the address space of this process, so that it cannot exhaust the memory of the machine.

    Args:
        share: share of the free memory that this process may allocate in addition to what it has.
    """
    import resource

    import psutil

    limit = psutil.Process().memory_info().vms + int(share * get_memory_bytes()[1])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def try_batch_size(scenario: Scenario, devices: Devices, size: int) -> int:
    """Run the first training steps with a batch size; return the largest useful batch size.

    Raises:
        Exception: an out-of-memory error of the backend.
    """
    trainer = dataclasses.replace(scenario.trainer, output_dir=None, val_every_n=0, lav_every_n=0)
    trial = dataclasses.replace(
        scenario, train=dataclasses.replace(scenario.train, batch_size=size), trainer=trainer, callbacks=[]
    )
    source = trial.select_source(Mode.TRAIN)
    with build_components(trial, source, None, InterruptFlag(), devices) as components:
        data, executions = components.feed.open(0)
        for _ in range(min(NUM_EXECUTIONS, len(executions))):
            results = components.step.run(data, len(executions.popleft()))
            float(results["loss"])  # waits for the device
        loader = components.loader
        return max(1, (trainer.samples_per_epoch or len(loader)) // loader.accumulate)
