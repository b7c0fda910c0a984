"""When checkpoints are written, and by whom: a thread, so that the training waits for a copy only."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tfaip_like._training.checkpointing.checkpoints import CheckpointData, Position, prune_checkpoints, write_checkpoint
from tfaip_like._utils.errors import UsageError, format_bytes
from tfaip_like._utils.files import is_disk_full_error, retry_while_disk_full
from tfaip_like.settings import Trainer
from tfaip_like.settings._trainer import parse_interval

logger = logging.getLogger(__name__)

NUM_WEIGHT_COPIES = 6
"""The best and the last export hold the weights twice each, and each is written aside before it replaces another."""


class CheckpointManager:
    """Writes the state of a training when it is time.

    Args:
        folder: of the checkpoints.
        check_interrupt: called while waiting for room on the disk; raises to stop.
    """

    def __init__(self, checkpoint_dir: Path, trainer: Trainer, check_interrupt: Callable[[], None]):
        self.checkpoint_dir = checkpoint_dir
        self.interval = parse_interval(trainer.checkpoint_every)
        self.trainer = trainer
        self.check_interrupt = check_interrupt
        self.last_position: Position | None = None
        """The last position that was handed over."""
        self._next_save_time = time.monotonic() + self.interval.seconds
        self._thread: threading.Thread | None = None
        self._pending_failure: tuple[Exception, Callable[[], None]] | None = None

    def is_kept_permanently(self, epoch: int) -> bool:
        """Return whether the checkpoint after this epoch stays for good."""
        interval = self.trainer.keep_every_n
        return epoch in self.trainer.keep_epochs or (interval > 0 and epoch % interval == 0)

    def should_save_after_epoch(self, epoch: int, step: int) -> bool:
        """Return whether the state is saved after so many epochs, which are so many steps."""
        is_its_turn = bool(self.interval.epochs and epoch % self.interval.epochs == 0)
        return is_its_turn or self.is_kept_permanently(epoch) or self.should_save_after_step(step)

    def should_save_after_step(self, step: int) -> bool:
        """Return whether the state is saved after so many steps of the run, in the middle of an epoch."""
        return self._is_interval_over() or bool(self.interval.steps and step % self.interval.steps == 0)

    def _is_interval_over(self) -> bool:
        return self.interval.seconds > 0 and time.monotonic() >= self._next_save_time

    def save(self, position: Position, content: CheckpointData) -> None:
        """Writes a checkpoint while the training goes on; waits for the one before, if that still is being written."""
        self.wait_until_finished()
        self._next_save_time = time.monotonic() + self.interval.seconds
        self.last_position = position

        def write() -> None:
            write_checkpoint(self.checkpoint_dir, position, content)
            kept = {epoch for epoch in range(1, position.epoch + 1) if self.is_kept_permanently(epoch)}
            prune_checkpoints(self.checkpoint_dir, self.trainer.keep_checkpoints, kept)

        # A daemon, because nobody waits for it after a stop at once. All other exits wait.
        self._thread = threading.Thread(target=self._run_guarded, args=(write,), name="checkpoint", daemon=True)
        self._thread.start()

    def _run_guarded(self, write: Callable[[], None]) -> None:
        try:
            write()
        except Exception as error:
            self._pending_failure = (error, write)

    def wait_until_finished(self) -> None:
        """Waits until everything is on disk; for room on the disk too.

        Raises:
            OSError: when it cannot be written for another reason.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.raise_pending_error()

    def raise_pending_error(self) -> None:
        """Does what must be done if writing has failed: waits for room, or raises."""
        if self._pending_failure is None or (self._thread is not None and self._thread.is_alive()):
            return
        (error, write), self._pending_failure = self._pending_failure, None
        if not is_disk_full_error(error):
            raise error
        retry_while_disk_full(self.checkpoint_dir, write, self.check_interrupt)

    def check_disk_space(self, state_bytes: int, weight_bytes: int) -> None:
        """Check that the disk will hold what the run leaves, before it is begun, or the two disks.

        Raises:
            UsageError: when not even one checkpoint and the exports fit.
        """
        kept = sum(self.is_kept_permanently(epoch) for epoch in range(1, self.trainer.epochs + 1))
        exports = NUM_WEIGHT_COPIES * weight_bytes
        checkpoints = (self.trainer.keep_checkpoints + 1 + kept) * state_bytes
        output_dir = self.checkpoint_dir.parent
        flag = f"--trainer.output_dir {output_dir}"
        if self.checkpoint_dir.exists() and self.checkpoint_dir.stat().st_dev != output_dir.stat().st_dev:
            other = f"--trainer.checkpoint_dir {self.checkpoint_dir.resolve()}"
            self._check_disk(self.checkpoint_dir, other, "one checkpoint", state_bytes, checkpoints)
            self._check_disk(output_dir, flag, "the exports", exports, exports)
        else:
            what = "one checkpoint and the exports"
            self._check_disk(output_dir, flag, what, state_bytes + exports, checkpoints + exports)

    def _check_disk(self, checkpoint_dir: Path, flag: str, least_of: str, least: int, whole: int) -> None:
        free = shutil.disk_usage(checkpoint_dir).free
        if free < least:
            raise UsageError(
                f"{flag}: only {format_bytes(free)} are free on this disk; {least_of} need about {format_bytes(least)}"
            )
        if free < whole:
            logger.warning(
                "%s: %s are free on this disk, the checkpoints and exports of this run need about %s "
                "(--trainer.keep_checkpoints %d)",
                checkpoint_dir,
                format_bytes(free),
                format_bytes(whole),
                self.trainer.keep_checkpoints,
            )
