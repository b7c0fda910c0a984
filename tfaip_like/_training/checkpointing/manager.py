"""Asynchronous checkpoint manager."""

from __future__ import annotations

import logging
import shutil
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from tfaip_like._training.checkpointing.background_writer import BackgroundWriter
from tfaip_like._training.checkpointing.checkpoints import CheckpointData, Position, prune_checkpoints, write_checkpoint
from tfaip_like._training.checkpointing.retention import Retention
from tfaip_like._training.train_state import TrainState
from tfaip_like._utils.errors import UsageError, format_bytes
from tfaip_like.settings import Trainer
from tfaip_like.settings._interval import parse_interval

logger = logging.getLogger(__name__)

NUM_WEIGHT_COPIES = 6
"""best/ and export/ hold the weights twice each, and a third time while they are replaced."""


class CheckpointManager:
    """Schedules checkpoints and writes them in a thread; training waits only for a copy of the state.

    Args:
        checkpoint_dir: directory of all checkpoints of the run.
        trainer: when to save and how many checkpoints to keep.
        writer: thread that writes them.
    """

    def __init__(self, checkpoint_dir: Path, trainer: Trainer, writer: BackgroundWriter):
        self.checkpoint_dir = checkpoint_dir
        self.interval = parse_interval(trainer.checkpoint_every)
        self.trainer = trainer
        self.retention = Retention.from_trainer(trainer)
        self.writer = writer
        self._next_save_time = time.monotonic() + self.interval.seconds
        self._written: deque[Path] = deque()

    def is_due(self, state: TrainState) -> bool:
        """Return whether a checkpoint is due: after steps within an epoch, or after an epoch with its evaluation."""
        interval = self.interval
        if interval.seconds:
            is_due = time.monotonic() >= self._next_save_time
        else:
            is_due = state.global_step % interval.num_steps(state.steps_per_epoch) == 0
        return is_due or (state.step == 0 and self.retention.is_permanent(state.epoch))

    def save(self, position: Position, content: CheckpointData, best: Iterable[Position] = ()) -> None:
        """Write a checkpoint in the background.

        Args:
            position: position of the run.
            content: state to save.
            best: positions of the checkpoints to keep because they are the best.
        """
        kept = {Position(epoch, 0) for epoch in range(1, position.epoch + 1) if self.retention.is_permanent(epoch)}
        kept |= set(best)
        self._next_save_time = time.monotonic() + self.interval.seconds

        def write() -> None:
            try:
                checkpoint = write_checkpoint(self.checkpoint_dir, position, content)
            except (FileNotFoundError, UsageError) as error:
                # Somebody deleted the checkpoints meanwhile; their directory is created again.
                if not isinstance(error.__cause__ or error, FileNotFoundError):
                    raise
                checkpoint = write_checkpoint(self.checkpoint_dir, position, content)
            self._written.append(checkpoint.path)
            self.writer.buffers.release(content.arrays.values())
            prune_checkpoints(self.checkpoint_dir, self.trainer.keep_checkpoints, kept)

        self.writer.submit(write)

    def pop_written(self) -> Iterator[Path]:
        """Yield the checkpoints that have been written since the last call."""
        while self._written:
            yield self._written.popleft()

    def check_disk_space(self, state_bytes: int, weight_bytes: int) -> None:
        """Check before training that the checkpoints and exports will fit on their disks.

        Args:
            state_bytes: size of a checkpoint.
            weight_bytes: size of the weights.

        Raises:
            UsageError: if not even one checkpoint and the exports fit.
        """
        exports = NUM_WEIGHT_COPIES * weight_bytes
        checkpoints = self.retention.max_count(self.trainer.epochs) * state_bytes
        output_dir = self.checkpoint_dir.parent
        flag = f"--trainer.output_dir {output_dir}"
        if self.checkpoint_dir.exists() and self.checkpoint_dir.stat().st_dev != output_dir.stat().st_dev:
            other = f"--trainer.checkpoint_dir {self.checkpoint_dir.resolve()}"
            self._check_disk(self.checkpoint_dir, other, "one checkpoint", state_bytes, checkpoints)
            self._check_disk(output_dir, flag, "the exports", exports, exports)
        else:
            content = "one checkpoint and the exports"
            self._check_disk(output_dir, flag, content, state_bytes + exports, checkpoints + exports)

    def _check_disk(self, path: Path, flag: str, min_content: str, min_bytes: int, total_bytes: int) -> None:
        free = shutil.disk_usage(path).free
        if free < min_bytes:
            raise UsageError(
                f"{flag}: not enough disk space: {format_bytes(free)} free, at least {format_bytes(min_bytes)} needed "
                f"for {min_content}"
            )
        if free < total_bytes:
            logger.warning(
                "%s: disk space may run out: %s free, about %s needed for the checkpoints and exports of this run "
                "(--trainer.keep_checkpoints %d)",
                path,
                format_bytes(free),
                format_bytes(total_bytes),
                self.trainer.keep_checkpoints,
            )
