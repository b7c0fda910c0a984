"""Thread that feeds a logger, so that a training never waits for a server."""

from __future__ import annotations

import copy
import dataclasses
import logging
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfaip_like._runs.output_dir_lock import OutputDirLostError
from tfaip_like._training.loggers.logged_runs import LoggedRuns, LoggerRecord
from tfaip_like._training.loggers.logged_values import LoggedEpoch
from tfaip_like._training.loggers.logger_calls import GivenUpError, LoggerCalls
from tfaip_like._utils.abandoned_threads import abandon
from tfaip_like._utils.errors import pluralize
from tfaip_like.loggers import LoggedRun, Logger, ParamValue, Status
from tfaip_like.params._stateful import read_state

logger = logging.getLogger(__name__)

QUEUE_SIZE = 100
"""Maximum number of epochs that wait for a server."""


class LoggerThread:
    """Logger with a bounded queue, and the thread that calls its methods.

    Args:
        configured: logger, of which the thread uses a copy.
        run: the training.
        parameters: hyperparameters.
        history: epochs before a resume; those that are not logged yet are logged first.
        branches: whether the run is resumed from an earlier epoch, which begins another run of the logger.
        records: records of the run directory.
        queue_size: maximum number of epochs that wait.
    """

    def __init__(
        self,
        configured: Logger,
        run: LoggedRun,
        parameters: Mapping[str, ParamValue],
        history: Sequence[LoggedEpoch] = (),
        branches: bool = False,
        records: LoggedRuns | None = None,
        queue_size: int = QUEUE_SIZE,
    ):
        self._logger = copy.copy(configured)
        self.name = type(configured).__name__
        self._calls = LoggerCalls(self.name)
        self._parameters = parameters
        self._records = records or LoggedRuns(None)
        self._queue_size = queue_size
        resumed_from = history[-1].epoch if history else 0.0
        self._number, record = self._records.open(configured, parameters, resumed_from, branches)
        self._history = [epoch for epoch in history if epoch.epoch > record.begin]
        self._run = self._continue_run(run, record)
        self._logged_step = record.step
        """Last step that was logged before; epochs up to it are not logged again."""
        self._incomplete_step = 0
        """Step whose metrics are logged, but perhaps not its summaries; 0 for none."""
        self._queue: deque[LoggedEpoch] = deque()
        self._changed = threading.Condition()
        """Guards and announces changes of the queue, the status and the artifact."""
        self._status: Status | None = None
        self._artifact: Path | None = None
        self._num_lost = 0
        # A daemon: a server that does not answer must not keep the process alive.
        self._thread = threading.Thread(target=self._run_guarded, name=f"logger {self.name}", daemon=True)

    def _continue_run(self, run: LoggedRun, record: LoggerRecord) -> LoggedRun:
        """Return the run as the logger sees it: new, continued, or branched off an earlier one."""
        if not record.is_started:
            return dataclasses.replace(run, parent=record.parent)
        self._logger.load_state_dict(record.state)
        return dataclasses.replace(run, is_resumed=True, logged_steps=record.step)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, epoch: LoggedEpoch) -> None:
        """Queue an epoch; it is dropped if the queue is full or the thread has ended."""
        with self._changed:
            is_full = len(self._queue) >= self._queue_size
            if is_full or not self._thread.is_alive():
                self._num_lost += 1
            else:
                self._queue.append(epoch)
                self._changed.notify()
        if is_full:
            waiting = f"{self._queue_size} rows of history.csv are waiting"
            self._calls.warn_once("full", f"logger {self.name}: {waiting}; further ones are dropped")
        self._calls.report_slow_call()

    def finish(self, status: Status, artifact: Path | None = None) -> None:
        """Ask the thread to log what is queued, and to end.

        Args:
            status: how the training ended.
            artifact: directory to log; None for none.
        """
        with self._changed:
            self._status, self._artifact = status, artifact
            self._changed.notify()
        self._calls.end()

    @property
    def timeout_seconds(self) -> float:
        """Return how long the end of a complete training may wait for the thread."""
        return self._logger.timeout_seconds

    def wait(self, seconds: float) -> bool:
        """Wait for the thread to end; return whether it has."""
        self._thread.join(seconds)
        self._calls.report_slow_call()
        return not self._thread.is_alive()

    def close(self) -> None:
        """Leave the thread alone, and report what is not logged."""
        self._calls.abandon()
        abandon(self._thread)
        with self._changed:
            num_waiting = len(self._queue)
            num_lost = self._num_lost + num_waiting
            self._queue.clear()
        if num_lost:
            lost = f"{pluralize(num_lost, 'row')} of history.csv"
            advice = "; `resume-training` logs them" if num_lost == num_waiting and self._run.output_dir else ""
            logger.warning("logger %s: %s could not be logged completely%s", self.name, lost, advice)
        elif self._thread.is_alive():
            logger.warning("logger %s: not finished in time; see --loggers.N.timeout_seconds", self.name)

    def _run_guarded(self) -> None:
        try:
            self._work()
        except (GivenUpError, OutputDirLostError):  # the latter ends the training, and is reported there
            pass
        except BaseException as error:  # also SystemExit: only this thread ends
            self._calls.report_fault(error, "run")

    def _work(self) -> None:
        self._record()  # that it branches off, if its server is away all the time
        if not self._calls.call(lambda: self._logger.start(self._run), "start"):
            return
        self._record(state=read_state(self._logger), is_started=True)
        self._calls.call(lambda: self._logger.log_params(self._parameters), "log_params")
        if self._run.is_resumed:
            self._calls.call(self._query_last_step, "last_step")
        for epoch in self._history:
            self._log(epoch)
        while (next_epoch := self._wait_for_epoch()) is not None:
            self._log(next_epoch)
            with self._changed:
                if self._queue:
                    self._queue.popleft()
        self._finish()

    def _query_last_step(self) -> None:
        step = self._logger.last_step()
        if step is None:
            return
        if step > self._logged_step:  # the training was killed while it was logged
            self._incomplete_step = step
        self._logged_step = step

    def _wait_for_epoch(self) -> LoggedEpoch | None:
        """Return the next epoch, which stays in the queue until it is logged; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._status is not None)
            return self._queue[0] if self._queue else None

    def _log(self, epoch: LoggedEpoch) -> None:
        """Log an epoch, or what is missing of it, unless it is logged already."""
        is_incomplete = epoch.step == self._incomplete_step
        if epoch.step <= self._logged_step and not is_incomplete:
            return
        calls = epoch.calls(self._logger)
        results = [
            self._calls.call(method, name) for name, method in calls if name != "log_metrics" or not is_incomplete
        ]
        if not all(results):
            with self._changed:
                self._num_lost += 1
        self._record(step=epoch.step)

    def _finish(self) -> None:
        status, artifact = self._status, self._artifact
        assert status is not None
        if artifact is not None:
            self._calls.call(lambda: self._logger.log_artifact(artifact), "log_artifact")
        self._calls.call(lambda: self._logger.finish(status), "finish")

    def _record(self, **changes: Any) -> None:
        try:
            self._records.update(self._number, **changes)
        except OSError as error:  # a full disk, which the training reports
            logger.debug("logger %s: %s", self.name, error)
