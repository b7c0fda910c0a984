"""All loggers of a training."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.output_dir_lock import OutputDirLostError
from tfaip_like._runs.reader import Run
from tfaip_like._runs.run_files import RunInfo
from tfaip_like._training.loggers.logged_runs import LoggedRuns
from tfaip_like._training.loggers.logged_values import LoggedEpoch, collect_hyperparameters
from tfaip_like._training.loggers.logger_thread import LoggerThread
from tfaip_like._utils.errors import Interrupted
from tfaip_like._utils.escaping import shell_join
from tfaip_like._utils.interruption import InterruptFlag
from tfaip_like._utils.packages import require_packages
from tfaip_like.loggers import LoggedRun, Logger, ParamValue, Status, TensorBoard
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 10.0
"""Maximum time for loggers after an interruption or an error; clusters kill a job half a minute after SIGTERM."""
POLL_INTERVAL_S = 0.1
ANNOUNCE_WAIT_S = 3.0
"""Time after which the end of a training says what it waits for."""


class TrainingLoggers:
    """Loggers of a training: event files of the run directory, and those of the scenario, each with a thread.

    As a context manager it starts them, and finishes them according to how the training ended.

    Args:
        scenario: scenario of the run, which chooses its loggers.
        output_dir: run directory; None for none.
        prefixes: prefixes of the metrics of validations.
        interrupt: interrupt flag, which ends waiting for a server.
        history: epochs that are done before a resume.
        branches: whether the run is resumed from an earlier epoch.
    """

    def __init__(
        self,
        scenario: Scenario,
        output_dir: OutputDir | None,
        prefixes: Sequence[str],
        interrupt: InterruptFlag,
        history: Sequence[LoggedEpoch] = (),
        branches: bool = False,
    ):
        self._output_dir = output_dir
        self._interrupt = interrupt
        parameters = collect_hyperparameters(scenario)
        run = _describe_run(scenario, output_dir, prefixes)
        records = LoggedRuns(output_dir)
        chosen = [each for each in scenario.loggers if not _is_in_run_directory(each)]
        self._event_files = _RunDirectoryLogger(run, parameters, history)
        self._threads = [LoggerThread(each, run, parameters, history, branches, records) for each in chosen]

    def log(self, epoch: LoggedEpoch) -> None:
        """Log an epoch.

        Raises:
            OSError: if the disk of the run directory is full; the call may be repeated.
        """
        if self._event_files.log(epoch):
            for thread in self._threads:
                thread.put(epoch)

    def __enter__(self) -> TrainingLoggers:
        self._event_files.start()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        is_stopped = isinstance(error, (Interrupted, KeyboardInterrupt))
        status: Status = "done" if error is None else "stopped" if is_stopped else "failed"
        self._event_files.finish(status)
        for thread in self._threads:
            thread.finish(status, self._find_export() if status == "done" else None)
        if not self._interrupt.is_forced:
            self._wait(status)
        for thread in self._threads:
            thread.close()

    def _find_export(self) -> Path | None:
        """Return the export of the best epoch, or of the last one if no epoch is the best."""
        if self._output_dir is None:
            return None
        return next((path for path in (self._output_dir.best, self._output_dir.export) if path.exists()), None)

    def _wait(self, status: Status) -> None:
        """Wait until all threads have ended or the time is over."""
        start = time.monotonic()
        is_announced = False
        for thread in self._threads:
            while not thread.wait(POLL_INTERVAL_S):
                seconds = time.monotonic() - start
                is_short = status != "done" or self._interrupt.signum is not None
                limit = min(thread.timeout_seconds, STOP_TIMEOUT_S if is_short else thread.timeout_seconds)
                if seconds > limit or self._interrupt.is_forced:
                    break
                if seconds > ANNOUNCE_WAIT_S and not is_announced:
                    is_announced = True
                    logger.info("waiting for the logger %s (at most %.0f s)", thread.name, limit)


class _RunDirectoryLogger:
    """TensorBoard's event files in the run directory: written before the checkpoint of an epoch, as all of its files.

    Args:
        run: the training.
        parameters: hyperparameters.
        history: epochs that are done before a resume, whose events are there.
    """

    def __init__(self, run: LoggedRun, parameters: Mapping[str, ParamValue], history: Sequence[LoggedEpoch]):
        self._logger = TensorBoard()
        self._run = dataclasses.replace(run, logged_steps=history[-1].step if history else 0)
        self._parameters = parameters
        self._best = next((epoch for epoch in reversed(history) if epoch.best is not None), None)
        self._last_step = 0
        self._pending: deque[Callable[[], None]] = deque()

    def start(self) -> None:
        """Write the hyperparameters, and the best values of a resumed run again."""
        self._logger.start(self._run)
        self._logger.log_params(self._parameters)
        if self._best is not None and self._best.best is not None:
            self._logger.log_best(self._best.best, self._best.step, self._best.epoch)

    def log(self, epoch: LoggedEpoch) -> bool:
        """Write an epoch, or the rest of it after a failure; return False if it is written already.

        Raises:
            OSError: if the disk is full; the call may be repeated.
        """
        if epoch.step == self._last_step and not self._pending:
            return False
        if epoch.step != self._last_step:
            self._last_step = epoch.step
            self._pending = deque(call for _, call in epoch.calls(self._logger))
        while self._pending:
            self._pending[0]()
            self._pending.popleft()
        return True

    def finish(self, status: Status) -> None:
        """Close the files; a full disk must not hide how the training ended."""
        try:
            self._logger.finish(status)
        except OutputDirLostError:  # the reason why the training ends
            pass
        except Exception as failure:
            logger.warning("TensorBoard event files are incomplete: %s", failure)


def check_logger_packages(loggers: Sequence[Logger]) -> None:
    """Check that the packages of all loggers are installed, without importing them.

    Raises:
        UsageError: names the logger and the missing package.
    """
    for number, each in enumerate(loggers):
        require_packages(f"--loggers.{number} {type(each).__name__}", each.required_packages, each.extra)


def _is_in_run_directory(configured: Logger) -> bool:
    return type(configured) is TensorBoard and configured.log_dir is None


def _describe_run(scenario: Scenario, output_dir: OutputDir | None, prefixes: Sequence[str]) -> LoggedRun:
    scenario_name = type(scenario).__name__
    run = LoggedRun(
        name=scenario_name, scenario=scenario_name, description=scenario.trainer.description, prefixes=prefixes
    )
    if output_dir is None:
        return run
    stored, batch = Run(output_dir), output_dir.batch_dir()
    return dataclasses.replace(
        run,
        name=stored.name,
        output_dir=output_dir.path.absolute(),
        batch="/".join(batch.parts[-2:]) if batch is not None else None,  # NAME/version_1
        provenance=_format_provenance(stored.info),
        start_time=stored.start_time,
    )


def _format_provenance(info: RunInfo) -> dict[str, str]:
    values = {
        "command": shell_join(info.get("command", [])),
        "scenario": info.get("scenario"),
        "git_commit": info.get("git_commit"),
        "host": info.get("host"),
        "user": info.get("user"),
    }
    return {name: value for name, value in values.items() if value}
