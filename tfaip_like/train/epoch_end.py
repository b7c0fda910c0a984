"""The end of an epoch, step by step: validate, record, save, keep the best."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from keras.optimizers.schedules import LearningRateSchedule

from tfaip_like.data.batching import Batch
from tfaip_like.data.pipeline import Batches
from tfaip_like.data.samples import post_processed
from tfaip_like.evaluator import Evaluator
from tfaip_like.files import full_disk_told
from tfaip_like.output_dir import OutputDir
from tfaip_like.predict.judge import judge, predict_with, predictions
from tfaip_like.sample import Sample
from tfaip_like.scenario import Scenario
from tfaip_like.schedules import ReduceOnPlateau
from tfaip_like.train.callbacks import EveryStep, logged_values
from tfaip_like.train.checkpoints import save_checkpoint
from tfaip_like.train.exports import Exports
from tfaip_like.train.feed import Feed
from tfaip_like.train.history import History
from tfaip_like.train.lav import Lav
from tfaip_like.train.monitor import Best
from tfaip_like.train.plateau import Plateau
from tfaip_like.train.training_model import TrainingModel

logger = logging.getLogger(__name__)

MEASURED = ("epoch", "lr", "seconds", "samples_per_second", "input_bound")


@dataclass(frozen=True)
class Validation:
    """Losses and metrics of the training network, and the evaluator's numbers of the prediction network."""

    model: TrainingModel
    network: keras.Model
    batches: Batches
    feed: Feed
    evaluator: Evaluator | None
    every_step: EveryStep
    prefix: str = "val_"

    def __call__(self) -> dict[str, float]:
        """Named numbers, each with the prefix in front."""
        with self.feed.own_errors(), warnings.catch_warnings():
            # How many batches there are is not known where samples may be dropped; Keras takes the end for a mistake.
            warnings.filterwarnings("ignore", "Your input ran out of data")
            logs = self.model.evaluate(self.feed.data, verbose=0, return_dict=True, callbacks=[self.every_step])
        values = logged_values(logs)
        if self.evaluator is not None:
            values |= judge(self.evaluator, post_processed(self.batches.samples, self._predicted()), known=values)
        return {f"{self.prefix}{name}": value for name, value in values.items()}

    def _predicted(self) -> Iterator[Sample]:
        def check(batch: Batch) -> None:
            self.every_step.interrupt.check()

        for batch, outputs in predictions(predict_with(self.network), self.batches, check):
            yield from batch.samples(outputs)


class EpochEnd:
    """Knows what to do after an epoch; its state is the history and the best epoch so far."""

    def __init__(
        self,
        scenario: Scenario,
        folder: OutputDir | None,
        exports: Exports,
        model: TrainingModel,
        validate: Validation | None,
        lavs: Mapping[str, Lav],
        samples_per_epoch: int,
        check_interrupt: Callable[[], None],
        rate: LearningRateSchedule,
        training_feed: Feed,
    ):
        self.scenario = scenario
        self.folder = folder
        self.exports = exports
        self.model = model
        self.validate = validate
        self.lavs = lavs
        self.samples_per_epoch = samples_per_epoch
        self.check_interrupt = check_interrupt
        self.rate = rate
        self.training_feed = training_feed
        self.history = History(folder, list(lavs))
        monitor, mode = type(scenario.model).best
        measured = ["loss", *model.loss_trackers, *model.metric_trackers]
        if validate is None and monitor.startswith("val_") and monitor.removeprefix("val_") not in measured:
            logger.info("without validation the best epoch is the one with the smallest loss")
            monitor, mode = "loss", "min"
        self.best = Best(monitor, mode)
        self.best.check_is_logged(
            measured,
            has_validation=validate is not None,
            has_evaluator=scenario.evaluator is not None,
            lavs=list(lavs),
        )
        schedule = scenario.learning_rate
        self.plateau = Plateau(schedule, mode, model.optimizer) if isinstance(schedule, ReduceOnPlateau) else None

    def __call__(self, epoch: int, values: dict[str, float], seconds: float) -> None:
        row: dict[str, float] = {"epoch": epoch, **values}
        input_bound = min(1.0, self.training_feed.seconds_waited() / seconds)
        if self.validate is not None and self._is_validated(epoch):
            row |= self.validate()
        if self._has_lav(epoch):
            for lav in self.lavs.values():
                row |= lav()
        row["lr"] = self._rate_of_the_last_step()
        row["seconds"] = round(seconds, 3)
        row["samples_per_second"] = round(self.samples_per_epoch / seconds, 1)
        row["input_bound"] = round(input_bound, 4)
        with full_disk_told(self._where()):
            self.history.add(row)
        improved = self._note_best(epoch, row)
        logger.info("%s%s", self._line(row), "  (best so far)" if improved else "")
        self._lower_rate_on_a_plateau(epoch, row)
        if self.folder is not None:
            with full_disk_told(self._where()):
                self._save(self.folder, epoch, row, improved)
        self.exports.forget()
        # What came while everything was saved: nothing of the epoch is lost.
        self.check_interrupt()

    def _where(self) -> Path:
        return self.folder.path if self.folder is not None else Path()

    def _rate_of_the_last_step(self) -> float:
        optimizer = self.model.optimizer
        rate = float(keras.ops.convert_to_numpy(self.rate(int(optimizer.iterations) - 1)))
        if self.plateau is not None:
            rate *= float(optimizer.rate_factor)
        return float(f"{rate:.7g}")  # what float32 knows of it

    def _is_validated(self, epoch: int) -> bool:
        every = self.scenario.trainer.val_every_n
        return every > 0 and (epoch % every == 0 or epoch == self.scenario.trainer.epochs)

    def _has_lav(self, epoch: int) -> bool:
        every = self.scenario.trainer.lav_every_n
        return every > 0 and (epoch == 1 or epoch % every == 0 or epoch == self.scenario.trainer.epochs)

    def _note_best(self, epoch: int, row: Mapping[str, float]) -> bool:
        value = self.best.value_in(row, has_validation=self.validate is not None)
        if value is None:
            return False
        before, self.best = self.best, self.best.after(epoch, value)
        return self.best is not before

    def _lower_rate_on_a_plateau(self, epoch: int, row: Mapping[str, float]) -> None:
        value = self.best.value_in(row, has_validation=self.validate is not None)
        if self.plateau is not None and value is not None and epoch < self.scenario.trainer.epochs:
            self.plateau.after(value)

    def _line(self, row: Mapping[str, float]) -> str:
        def numbers(names: list[str]) -> str:
            return ", ".join(f"{name} {row[name]:.4g}" for name in names)

        val = [name for name in row if name.startswith("val_")]
        lav = [name for name in row if name.startswith("lav_")]
        train = [name for name in row if name not in (*val, *lav, *MEASURED)]
        if len(self.model.loss_trackers) == 1:  # the only loss is the sum as well
            alone = next(iter(self.model.loss_trackers))
            train = [name for name in train if name != alone or row[name] != row["loss"]]
            val = [name for name in val if name != f"val_{alone}" or row[name] != row["val_loss"]]
        speed = f"{row['samples_per_second']:.0f} samples/s, input-bound {100 * row['input_bound']:.0f} %"
        parts = [numbers(train), numbers(val), numbers(lav), f"lr {row['lr']:.3g}, {speed}"]
        return f"epoch {row['epoch']}/{self.scenario.trainer.epochs}: " + " | ".join(part for part in parts if part)

    def _save(self, folder: OutputDir, epoch: int, row: Mapping[str, float], improved: bool) -> None:
        state: dict[str, Any] = {
            "steps": int(self.model.optimizer.iterations),
            "history": self.history.rows,
            "best": {"value": self.best.value, "epoch": self.best.epoch},
        }
        if self.plateau is not None:
            state["plateau"] = self.plateau.state()
        variables = [*self.model.variables, *self.model.optimizer.variables]
        save_checkpoint(folder.checkpoints, epoch, variables, state, self.scenario.trainer.keep_checkpoints)
        if improved:
            self.exports.keep_as_best(row)
