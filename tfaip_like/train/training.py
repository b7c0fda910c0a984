"""One training, from a scenario to the last export."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import keras

from tfaip_like.data import DataSettings, Source
from tfaip_like.data.pipeline import Batches, open_training, open_validation
from tfaip_like.errors import Interrupted, TrainingError, UsageError, counted
from tfaip_like.files import full_disk_told, write_text
from tfaip_like.interrupt import InterruptFlag, catch_interrupts
from tfaip_like.network import build_networks
from tfaip_like.output_dir import OutputDir
from tfaip_like.params.resources import check_resources, relative_to
from tfaip_like.params.store import write_params
from tfaip_like.params.tree import changed_flags
from tfaip_like.sample import Mode
from tfaip_like.scenario import Scenario
from tfaip_like.schedules import Course, ReduceOnPlateau
from tfaip_like.train.bad_samples import BadSamples
from tfaip_like.train.callbacks import EveryEpoch, EveryStep
from tfaip_like.train.epoch_end import EpochEnd, Validation
from tfaip_like.train.execution import compile_model, is_unsupported_by_xla
from tfaip_like.train.exports import Exports
from tfaip_like.train.feed import Feed, training_feed, validation_feed
from tfaip_like.train.lav import Lav
from tfaip_like.train.progress import Progress
from tfaip_like.train.provenance import RunRecord
from tfaip_like.train.result import TrainResult
from tfaip_like.train.training_model import TrainingModel

logger = logging.getLogger(__name__)


def run_training(scenario: Scenario) -> TrainResult:
    """Trains a checked scenario; its output folder is new. See `tfaip_like.train`."""
    scenario = _with_seed(scenario)
    check_resources(scenario)
    folder = OutputDir(scenario.trainer.output_dir) if scenario.trainer.output_dir else None
    with ExitStack() as stack:
        if folder is not None:
            stack.enter_context(folder.held())
            stack.enter_context(_log_file(folder.train_log))
            stack.enter_context(_recorded(folder, scenario))
        else:
            logger.warning("nothing of this run is kept: no --trainer.output_dir is given")
        resources = folder.resources if folder else Path(stack.enter_context(TemporaryDirectory()))
        resources.mkdir(exist_ok=True)
        interrupt = stack.enter_context(catch_interrupts())
        scenario, source = scenario.with_training_source(resources)
        if folder is not None:
            write_params(relative_to(scenario, folder.path), folder.trainer_params)
            if not any(resources.iterdir()):
                resources.rmdir()
        return _Training(scenario, source, folder, interrupt).run()


class _Training:
    """The parts of a training; `run` puts them to work."""

    def __init__(self, scenario: Scenario, source: Source | None, folder: OutputDir | None, interrupt: InterruptFlag):
        assert scenario.trainer.random_seed is not None
        seed = scenario.trainer.random_seed
        _number_layers_from_the_start()
        keras.utils.set_random_seed(seed)
        logger.info("random seed %d, Keras %s on %s", seed, keras.__version__, keras.backend.backend())
        self.scenario = scenario
        self.folder = folder
        self.feeds: list[Feed] = []
        self.bad_samples = BadSamples(folder.bad_samples if folder else None, scenario.data.max_bad_samples)
        self.opened: list[Batches] = []
        self.batches = open_training(
            scenario.data,
            source,
            scenario.train,
            scenario.trainer.samples_per_epoch,
            seed,
            interrupt.check,
        )
        self.opened.append(self.batches)
        self.bad_samples.note(self.batches.bad)
        self.networks = build_networks(scenario.model, scenario.data)
        example = self.batches.batch(0)
        self.model = TrainingModel(self.networks.training, scenario.model, example)
        self.exports = Exports(folder, self.networks, scenario, example)
        self.progress = Progress(self.batches.steps_per_epoch * scenario.trainer.epochs, scenario.trainer.epochs)
        self.every_step = EveryStep(self.batches, self.progress, interrupt)
        self._build_optimizer()
        self.batches.decide_processes(self.batches.steps_per_epoch * scenario.trainer.epochs)
        every_step = self.every_step
        self.feed = training_feed(self.batches, scenario.trainer.epochs, lambda: every_step.epoch, self.bad_samples)
        self.feeds.append(self.feed)
        compile_model(self.model, self.optimizer, scenario.trainer, self.batches)
        self.epoch_end = EpochEnd(
            scenario=scenario,
            folder=folder,
            exports=self.exports,
            model=self.model,
            validate=self._validation(seed, interrupt),
            lavs=self._lavs(seed, interrupt),
            samples_per_epoch=self.batches.samples_per_epoch,
            check_interrupt=interrupt.check,
            rate=self.rate,
            training_feed=self.feed,
        )

    def _build_optimizer(self) -> None:
        course = Course(self.batches.steps_per_epoch, self.scenario.trainer.epochs)
        self.rate = self.scenario.learning_rate.build(course)
        scaled = isinstance(self.scenario.learning_rate, ReduceOnPlateau)
        self.optimizer = self.scenario.optimizer.build(self.rate, self.model.trainable_variables, scaled)

    def _validation(self, seed: int, interrupt: InterruptFlag) -> Validation | None:
        scenario, every = self.scenario, self.scenario.trainer.val_every_n
        source = scenario.source(Mode.EVALUATE) if every else None
        batches = self._open_validation(source, scenario.val, every, "val", seed, interrupt)
        if batches is None:
            logger.info("no validation")
            return None
        feed = validation_feed(batches, self.bad_samples)
        self.feeds.append(feed)
        return Validation(self.model, self.networks.prediction, batches, feed, scenario.evaluator, self.every_step)

    def _lavs(self, seed: int, interrupt: InterruptFlag) -> dict[str, Lav]:
        scenario, every = self.scenario, self.scenario.trainer.lav_every_n
        lavs = {}
        for name, source in (scenario.lav_sources() if every else {}).items():
            batches = self._open_validation(source, scenario.lav, every, "lav", seed, interrupt)
            if batches is not None:
                lavs[name] = Lav(
                    name=name,
                    load=self.exports.loaded,
                    batches=batches,
                    model=scenario.model,
                    evaluator=scenario.evaluator,
                    bad_samples=self.bad_samples,
                    check_interrupt=interrupt.check,
                )
        return lavs

    def _open_validation(
        self,
        source: Source | None,
        settings: DataSettings,
        every: int,
        group: str,
        seed: int,
        interrupt: InterruptFlag,
    ) -> Batches | None:
        """The batches of a source; None if it has no samples."""
        batches = open_validation(self.scenario.data, source, settings, seed, interrupt.check, group)
        if batches is not None:
            self.opened.append(batches)
            self.bad_samples.note(batches.bad)
            batches.decide_processes((batches.steps or 0) * self.scenario.trainer.epochs // every)
        return batches

    def run(self) -> TrainResult:
        self._log_plan()
        try:
            self._fit()
        except Interrupted:
            if self.epoch_end.history.rows:
                logger.info("stopped after %s", counted(len(self.epoch_end.history.rows), "epoch"))
                self._write_summary(self._result())
            raise
        finally:
            self.progress.close()
            self.epoch_end.history.close()
            self.exports.forget()
            for feed in self.feeds:
                feed.release()
            for batches in self.opened:
                batches.close()
            self.bad_samples.tell()
        if self.folder is not None:
            with full_disk_told(self.folder.path):
                self.exports.write_last(self.epoch_end.history.rows[-1])
        result = self._result()
        self._write_summary(result)
        return result

    def _result(self) -> TrainResult:
        return TrainResult(
            history=self.epoch_end.history.rows,
            best_epoch=self.epoch_end.best.epoch,
            best_value=self.epoch_end.best.value,
            network=self.networks.prediction,
        )

    def _fit(self) -> None:
        feed = self.feed
        callbacks = [self.every_step, EveryEpoch(self.epoch_end)]
        arguments = {"epochs": self.scenario.trainer.epochs, "verbose": 0, "shuffle": False}
        try:
            with feed.own_errors():
                self.model.fit(feed.data, callbacks=callbacks, **arguments)
        except Exception as error:
            if self.scenario.trainer.jit_compile or not is_unsupported_by_xla(error) or self.optimizer.iterations > 0:
                raise
            logger.debug("%s", error)
            logger.warning(
                "XLA cannot compile this model, it trains without (slower); --trainer.jit_compile False hides this"
            )
            trainer = dataclasses.replace(self.scenario.trainer, jit_compile=False)
            compile_model(self.model, self.optimizer, trainer, self.batches)
            with feed.own_errors():
                self.model.fit(feed.data, callbacks=callbacks, **arguments)

    def _log_plan(self) -> None:
        samples, batch_size = len(self.batches), self.batches.batch_size
        weights = sum(math.prod(variable.shape) for variable in self.model.trainable_variables)
        epochs, steps = self.scenario.trainer.epochs, self.batches.steps_per_epoch
        at_once = self.model.steps_per_execution
        logger.info(
            "%s, %s; %s of %s of %s%s",
            counted(samples, "sample") if samples else "a stream of samples",
            counted(weights, "weight"),
            counted(epochs, "epoch"),
            counted(steps, "step"),
            counted(batch_size, "sample"),
            f", {at_once} steps at once" if at_once > 1 else "",
        )
        if 0 < samples < batch_size and self.batches.is_stacked:
            logger.warning(
                "a batch has more samples (%d) than there are (%d): some are in it more than once", batch_size, samples
            )

    def _write_summary(self, result: TrainResult) -> None:
        monitor = self.epoch_end.best.name(has_validation=self.epoch_end.validate is not None)
        if result.best_epoch is not None:
            logger.info("best epoch %d: %s %.4g", result.best_epoch, monitor, result.best_value)
        if self.folder is None:
            logger.warning("nothing of this run was kept: no --trainer.output_dir was given")
            return
        summary = {
            "best": {"epoch": result.best_epoch, "monitor": monitor, "value": result.best_value},
            "last": result.history[-1],
            "parameters": changed_flags(self.scenario),
        }
        write_text(self.folder.summary, json.dumps(summary, indent=2) + "\n")
        logger.info("results are in %s", self.folder.path)


def _number_layers_from_the_start() -> None:
    """Keras numbers layers per process; a second training must not have other paths of weights than the first."""
    policy = keras.config.dtype_policy()
    keras.utils.clear_session(free_memory=False)
    keras.config.set_dtype_policy(policy)


def _with_seed(scenario: Scenario) -> Scenario:
    """The scenario with a seed, drawn where none is given: every run can be repeated."""
    if scenario.trainer.random_seed is not None:
        return scenario
    trainer = dataclasses.replace(scenario.trainer, random_seed=secrets.randbelow(2**32))
    return dataclasses.replace(scenario, trainer=trainer)


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Writes what the package logs, from info on, to a file as well."""
    package = logging.getLogger("tfaip_like")
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    handler.setLevel(logging.INFO)
    level_before = package.level
    # The logger passes everything on that any handler wants; the console has a level of its own.
    package.setLevel(min(logging.INFO, package.getEffectiveLevel()))
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level_before)
        handler.close()


@contextmanager
def _recorded(folder: OutputDir, scenario: Scenario) -> Iterator[None]:
    """Keeps `run.json` and the log true, however the training ends."""
    record = RunRecord(folder, scenario)
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as interrupt:
        logger.warning("%s", interrupt, extra={"file_only": True})
        record.end("stopped", error=str(interrupt) or "Ctrl-C")
        raise
    except (UsageError, TrainingError) as error:
        record.end("failed", error=str(error))
        logger.error("%s", error, extra={"file_only": True})
        raise
    except BaseException as error:
        logger.error("the training failed", exc_info=True, extra={"file_only": True})
        record.end("failed", error=f"{type(error).__name__}: {error}")
        error.add_note(f"The whole traceback is in {folder.train_log}.")
        raise
    record.end("done")
