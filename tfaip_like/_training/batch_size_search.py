"""Search for the largest batch size that fits into memory (`--train.batch_size auto`).

Steps are tried in child processes, because an out-of-memory error may kill a process, and does not return all memory.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfaip_like._utils.errors import UsageError, pluralize
from tfaip_like._utils.processes import child_code, run_child_process
from tfaip_like._utils.temp_dirs import temporary_directory
from tfaip_like.params._files import write_params
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)

START_SIZE = 16
PRECISION = 16
"""The search stops when the interval is smaller than the size by this factor."""


@dataclass(frozen=True)
class BatchSizeRange:
    """Range of the largest batch size that fits, in multiples of `unit`."""

    unit: int = 1
    """Divisor of all sizes: the number of GPUs that share a batch."""
    fits: int = 0
    """Largest size that fits; 0 if none is known."""
    fails: int | None = None
    """Smallest size that does not fit; None if none is known."""
    limit: int | None = None
    """Largest useful size, that of the dataset; None if unknown."""

    def next_size(self) -> int | None:
        """Return the next size to try, None if the search is complete: sizes are doubled, then bisected."""
        fits, limit = self.fits // self.unit, None if self.limit is None else max(1, self.limit // self.unit)
        if self.fails is None:
            size = max(1, START_SIZE // self.unit) if not fits else 2 * fits
            size = size if limit is None else min(size, limit)
        else:
            fails = self.fails // self.unit
            size = fits if fails - fits <= max(1, fits // PRECISION) else (fits + fails) // 2
        return self.unit * size if size > fits else None

    def with_result(self, size: int, is_fitting: bool) -> BatchSizeRange:
        """Return the range after a trial."""
        return dataclasses.replace(self, fits=size) if is_fitting else dataclasses.replace(self, fails=size)


def find_batch_size(scenario: Scenario, num_devices: int, check: Callable[[], None]) -> int:
    """Return the largest batch size whose training steps fit into memory.

    Args:
        scenario: scenario whose batch size is `auto`, with the parameters of the training.
        num_devices: number of devices that share a batch.
        check: called while waiting; may raise to stop.

    Raises:
        UsageError: if a batch of one sample does not fit, or the training fails for another reason.
    """
    module = type(scenario).__module__
    if module == "__main__":
        raise UsageError(
            "--train.batch_size auto: the scenario is defined in a script, which the process that tries batch sizes "
            "cannot import; define it in a module that the script imports"
        )
    logger.info("Searching the largest batch size that fits into memory ...")
    trainer = scenario.trainer
    limit = trainer.samples_per_epoch and max(1, trainer.samples_per_epoch // trainer.accumulate_steps)
    search = BatchSizeRange(unit=num_devices, limit=limit)
    with temporary_directory() as folder:
        params = Path(folder, "params.json")
        write_params(scenario, params)
        while (size := search.next_size()) is not None:
            search = _run_trials(params, search, size, check)
    if not search.fits:
        raise UsageError(
            f"--train.batch_size auto: a batch of {pluralize(num_devices, 'sample')} does not fit into memory"
        )
    logger.info("Using batch size %d, the largest that %s.", search.fits, _describe_limit(search))
    return search.fits


def _describe_limit(search: BatchSizeRange) -> str:
    return "fits" if search.fails is not None else "the dataset allows"


def _run_trials(params: Path, search: BatchSizeRange, first: int, check: Callable[[], None]) -> BatchSizeRange:
    """Try sizes in a new process until one does not fit; return the new range.

    A size that does not fit counts only if it is the first one of its process: memory of the trials before it may not
    have been released.
    """
    results = params.with_name("results.jsonl")
    results.unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    code = child_code("tfaip_like._training.batch_size_process")
    command = [sys.executable, "-c", code, str(params), str(results), json.dumps(dataclasses.asdict(search))]
    done = run_child_process(command, environment, check)
    entries = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    for entry in entries:
        search = _apply(search, entry)
    if done.returncode or not entries:
        if not entries and done.returncode > 0:  # not killed by a signal
            raise RuntimeError(f"the process that tries batch sizes failed:\n{done.stderr[-2000:]}")
        size = search.next_size()
        if size == first and size is not None:  # killed in its first trial
            logger.info("batch size %d does not fit (process ended with code %d)", size, done.returncode)
            search = search.with_result(size, is_fitting=False)
    return search


def _apply(search: BatchSizeRange, entry: Mapping[str, Any]) -> BatchSizeRange:
    if "error" in entry:
        raise UsageError(f"--train.batch_size auto: {entry['error']}")
    if "limit" in entry:
        return dataclasses.replace(search, limit=entry["limit"])
    logger.info("batch size %d %s", entry["size"], "fits" if entry["fits"] else "does not fit")
    return search.with_result(entry["size"], entry["fits"])
