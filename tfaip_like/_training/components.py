"""The parts of a training, made from a scenario: data, networks, optimizer, what happens after an epoch."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import keras

from tfaip_like._keras_ext.extended_optimizer import average_rate
from tfaip_like._keras_ext.paths import weight_paths
from tfaip_like._keras_ext.schedules import Shifted
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.checkpointing.checkpoints import Position
from tfaip_like._training.devices import Devices
from tfaip_like._training.epoch_end import EpochEnd, due_after
from tfaip_like._training.exports import Exports
from tfaip_like._training.feed import TrainingFeed
from tfaip_like._training.initialization.freezing import freeze
from tfaip_like._training.initialization.warm_start import warm_start
from tfaip_like._training.progress import Progress
from tfaip_like._training.resume import Resumed
from tfaip_like._training.state import network_preserved, start_random
from tfaip_like._training.steps.execution import compile_model, steps_at_once
from tfaip_like._training.steps.training_model import TrainingModel, as_fed
from tfaip_like._training.validation.examples import Examples
from tfaip_like._training.validation.lav import Lav
from tfaip_like._training.validation.validation import Validation
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.files import patiently
from tfaip_like._utils.interruption import InterruptFlag
from tfaip_like._utils.temporary import keep_autograph_files
from tfaip_like.data import DataSettings, Source
from tfaip_like.data._loader.bad_samples import BadSamples
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import Batches
from tfaip_like.data._loader.opening import open_training, open_validation
from tfaip_like.data._sample import Mode
from tfaip_like.data._sources.images import check_same_classes
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.inference._lav import Averages
from tfaip_like.modeling._network import Networks, build_networks, reset_keras
from tfaip_like.params._given import NOTHING_GIVEN, Given
from tfaip_like.scenario import Scenario
from tfaip_like.schedules import Course, ReduceOnPlateau
from tfaip_like.settings import Trainer
from tfaip_like.settings._trainer import parse_every

logger = logging.getLogger(__name__)


@dataclass
class Parts:
    """What a training works with."""

    scenario: Scenario
    folder: OutputDir | None
    interrupt: InterruptFlag
    batches: Batches
    networks: Networks
    model: TrainingModel
    optimizer: keras.optimizers.Optimizer
    at_once: int
    """Most steps in an execution."""
    feed: TrainingFeed
    epoch_end: EpochEnd

    @property
    def trainer(self) -> Trainer:
        """How the training runs."""
        return self.scenario.trainer


@contextmanager
def parts_of(
    scenario: Scenario,
    source: Source | None,
    folder: OutputDir | None,
    interrupt: InterruptFlag,
    devices: Devices,
    resumed: Resumed | None = None,
    given: Given = NOTHING_GIVEN,
) -> Iterator[Parts]:
    """The parts of a training for the length of the block; with the state of `resumed`, if it goes on.

    Args:
        source: of the training samples.
        devices: what computes; several share each batch.
        given: by flag.
    """
    builder = _Builder(scenario, source, folder, interrupt, devices, given)
    try:
        parts = builder.parts(resumed)
        if resumed is not None:
            resumed.restore(scenario, parts.model, parts.optimizer, parts.epoch_end, parts.batches)
        yield parts
    finally:
        builder.close()


class _Builder:
    def __init__(
        self,
        scenario: Scenario,
        source: Source | None,
        folder: OutputDir | None,
        interrupt: InterruptFlag,
        devices: Devices,
        given: Given,
    ):
        assert scenario.trainer.random_seed is not None
        self.scenario = scenario
        self.seed = scenario.trainer.random_seed
        self.source = source
        self.folder = folder
        self.interrupt = interrupt
        self.devices = devices
        self.given = given
        self.feed: TrainingFeed | None = None
        self.opened: list[Batches] = []
        self.exports: Exports | None = None
        self.epoch_end: EpochEnd | None = None
        self.bad_samples = BadSamples(folder.bad_samples if folder else None, scenario.data.max_bad_samples)

    def close(self) -> None:
        if self.exports is not None:
            self.exports.forget()
        if self.epoch_end is not None:
            self.epoch_end.tensorboard.close()
            self.epoch_end.reporter.close()
        if self.feed is not None:
            self.feed.release()
        for batches in self.opened:
            batches.close()
        self.bad_samples.tell()

    def parts(self, resumed: Resumed | None) -> Parts:
        scenario, trainer = self.scenario, self.scenario.trainer
        _start_keras(trainer, self.seed)
        batches = self._opened_training(resumed)
        networks = build_networks(scenario.model, scenario.data)
        if trainer.no_train_scope is not None:
            freeze(networks.training, trainer.no_train_scope)
        if scenario.warmstart.model is not None and resumed is None:
            warm_start(networks.training, scenario.warmstart)
        example = batches.batch(0)
        with network_preserved(networks.training):
            model = self._training_model(networks, example)
        self.exports = exports = Exports(self.folder, networks, scenario, example)
        optimizer, rate = self._optimizer(model, batches, resumed)
        batches.decide_processes(batches.steps_per_epoch * batches.accumulate * trainer.epochs)
        # Resumed with as many steps at once as before: that the bits do not depend on it is measured, not promised.
        at_once = resumed.at_once(batches) if resumed is not None and not trainer.steps_per_execution else None
        with network_preserved(networks.training):
            at_once = at_once or steps_at_once(model, trainer, batches)
        every = parse_every(trainer.checkpoint_every)
        self.feed = feed = TrainingFeed(
            batches, trainer.epochs, at_once, every.steps if self.folder else 0, self.bad_samples, self.interrupt
        )
        compile_model(model, optimizer, trainer, batches)
        if keras.backend.backend() == "jax":
            from tfaip_like._training.steps.jax_gradients import gradients_that_exist

            model.warn_of_untrained(gradients_that_exist(model, as_fed(example)))
        if keras.backend.backend() == "tensorflow":
            model.plan(batches.is_stacked, batches.accumulate, trainer.on_nan, feed.next_count, self.devices.names)
        validate, lavs = self._validation(model, networks), self._lavs(exports)
        position = resumed.position(batches) if resumed is not None else Position(0, 0)
        progress = Progress(
            batches.steps_per_epoch,
            trainer.epochs,
            position.epoch * batches.steps_per_epoch + position.step,
            lambda epoch: [one.prefix for one in due_after(epoch, trainer, validate, lavs)],
        )
        self.interrupt.checks.append(progress.look)
        self.epoch_end = epoch_end = EpochEnd(
            scenario=scenario,
            folder=self.folder,
            exports=exports,
            model=model,
            optimizer=optimizer,
            validate=validate,
            lavs=lavs,
            samples_per_epoch=batches.samples_per_epoch,
            rate=rate,
            check=self.interrupt.check,
            progress=progress,
            epochs_done=resumed.checkpoint.position.epoch if resumed is not None else 0,
        )
        return Parts(
            scenario, self.folder, self.interrupt, batches, networks, model, optimizer, at_once, feed, epoch_end
        )

    def _opened_training(self, resumed: Resumed | None) -> Batches:
        trainer = self.scenario.trainer
        batches = open_training(
            self.scenario.data,
            self.source,
            self.scenario.train,
            trainer.samples_per_epoch,
            self.seed,
            self.interrupt.check,
            trainer.accumulate_steps,
            resumed.counted(self.scenario, self.folder) if resumed is not None else None,
        )
        self.opened.append(batches)
        if resumed is not None:
            resumed.continue_batches(self.scenario, self.folder, batches)
        self._note_opened(batches, "train")
        return batches

    def _note_opened(self, batches: Batches, group: str) -> None:
        self.bad_samples.note(batches.bad)
        processes = batches.settings.num_processes
        if batches.samples.is_plain:
            plain = "the rows of an ArraySource without processors are cut in this process"
            self.given.refuse((group, "cache"), plain)
            for name in ("prefetch", "timeout_seconds", *(["num_processes"] if processes else [])):
                self.given.warn((group, name), plain)
        elif processes == 0:
            self.given.warn((group, "timeout_seconds"), "there are no data processes (num_processes 0)")

    def _training_model(self, networks: Networks, example: Batch) -> TrainingModel:
        if keras.backend.backend() != "tensorflow":
            return TrainingModel(networks.training, self.scenario.model, example)
        from tfaip_like._training.steps.tensorflow_steps import TensorFlowTrainingModel

        return TensorFlowTrainingModel(networks.training, self.scenario.model, example)

    def _optimizer(
        self, model: TrainingModel, batches: Batches, resumed: Resumed | None
    ) -> tuple[keras.optimizers.Optimizer, Shifted]:
        trainer = self.scenario.trainer
        begin = resumed.schedule_begin() if resumed is not None else 0.0
        rate = Shifted(self.scenario.learning_rate.build(Course(batches.steps_per_epoch, trainer.epochs - begin)))
        scaled = isinstance(self.scenario.learning_rate, ReduceOnPlateau)
        average = average_rate(batches.steps_per_epoch) if trainer.calc_ema == -1 else trainer.calc_ema
        if trainer.calc_ema == -1:
            logger.info("of the averaged weights %.6g stays at each step", average)
        paths = weight_paths(model.network)
        optimizer = self.scenario.optimizer.build(
            rate, model.trainable_variables, scaled, average, paths, highest_rate=self.scenario.learning_rate.lr
        )
        return optimizer, rate

    def _validation(self, model: TrainingModel, networks: Networks) -> Validation | None:
        scenario, every = self.scenario, self.scenario.trainer.val_every_n
        source = scenario.samples(Mode.EVALUATE) if every else None
        batches = self._opened_validation(source, scenario.val, every, "val")
        if batches is None:
            for place in (("val",), ("trainer", "val_every_n"), ("trainer", "print_eval_limit")) if every else ():
                self.given.refuse(place, f"{type(scenario).__name__} has no validation data")
            logger.info("no validation")
            return None
        return Validation(
            model=model,
            network=networks.prediction,
            batches=batches,
            bad_samples=self.bad_samples,
            evaluator=validation_evaluator(scenario),
            examples=Examples(
                scenario.example_text, scenario.trainer.print_eval_limit, f"{type(scenario).__name__}.example_text"
            ),
            interrupt=self.interrupt,
            skips_bad_data=scenario.trainer.on_nan == "skip",
        )

    def _lavs(self, exports: Exports) -> dict[str, Lav]:
        scenario, every = self.scenario, self.scenario.trainer.lav_every_n
        lavs = {}
        averages = Averages(scenario.model)
        for name, source in (scenario.checked_lav_sources() if every else {}).items():
            batches = self._opened_validation(source, scenario.lav, every, "lav")
            if batches is not None:
                lavs[name] = Lav(
                    name=name,
                    load=lambda: patiently(self._place(), exports.loaded, self.interrupt.check),
                    batches=batches,
                    model=scenario.model,
                    averages=averages,
                    evaluator=scenario.evaluator,
                    bad_samples=self.bad_samples,
                    check_interrupt=self.interrupt.check,
                )
        for place in (("lav",), ("trainer", "lav_every_n")) if every and not lavs else ():
            self.given.refuse(place, f"{type(scenario).__name__} has no data for load-and-validate")
        return lavs

    def _place(self) -> Path:
        return self.folder.path if self.folder else Path(tempfile.gettempdir())

    def _opened_validation(
        self, source: Source | None, settings: DataSettings, every: int, group: str
    ) -> Batches | None:
        """The batches of a source; None if it has no samples."""
        check_same_classes(self.source, source, group)
        batches = open_validation(self.scenario.data, source, settings, self.seed, self.interrupt.check, group)
        if batches is not None:
            self.opened.append(batches)
            self._note_opened(batches, group)
            batches.decide_processes((batches.steps or 0) * self.scenario.trainer.epochs // every)
        return batches


def validation_evaluator(scenario: Scenario) -> Evaluator | None:
    """Return the evaluator of each validation; None if there is none, or it is for load-and-validate only."""
    evaluator = scenario.evaluator
    if evaluator is None or not evaluator.lav_only:
        return evaluator
    if not scenario.trainer.lav_every_n:
        logger.warning(
            "--evaluator.lav_only: %s is not used in this training, which has no load-and-validate "
            "(--trainer.lav_every_n 0)",
            type(evaluator).__name__,
        )
    return None


def _start_keras(trainer: Trainer, seed: int) -> None:
    reset_keras(trainer.precision)
    start_random(seed)
    keep_autograph_files()
    logger.info("random seed %d, Keras %s on %s", seed, keras.__version__, keras.backend.backend())
    if keras.backend.backend() != "tensorflow":
        for name, usual in (("accumulate_steps", 1), ("on_nan", "stop")):
            if (value := getattr(trainer, name)) != usual:
                raise UsageError(f"--trainer.{name} {value}: only the tensorflow backend can")
