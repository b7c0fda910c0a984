"""Setup of a training run: data loaders, networks, optimizer, validations and exports from a scenario."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras

from tfaip_like._keras_ext.extended_optimizer import default_ema_momentum
from tfaip_like._keras_ext.optimizer_group import OptimizerGroup
from tfaip_like._keras_ext.paths import weight_paths
from tfaip_like._keras_ext.random_states import preserve_network_state, seed_everything
from tfaip_like._keras_ext.schedules import OffsetSchedule
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.callbacks.callback_list import CallbackList
from tfaip_like._training.callbacks.keras_callbacks import KerasCallbacks
from tfaip_like._training.checkpointing.background_writer import BackgroundWriter
from tfaip_like._training.components import TrainingComponents
from tfaip_like._training.devices import Devices
from tfaip_like._training.exports import ExportWriter
from tfaip_like._training.feed import TrainingFeed
from tfaip_like._training.initialization.freezing import freeze
from tfaip_like._training.initialization.warm_start import warm_start
from tfaip_like._training.length_padding import choose_padding
from tfaip_like._training.progress import Progress
from tfaip_like._training.recorder import EpochRecorder
from tfaip_like._training.resume import ResumeState
from tfaip_like._training.selection.model_selection import ModelSelection
from tfaip_like._training.steps.compilation import choose_steps_per_execution
from tfaip_like._training.steps.rematerialization import rematerialize
from tfaip_like._training.steps.train_step import compile_train_step
from tfaip_like._training.steps.training_model import TrainingModel
from tfaip_like._training.train_state import TrainState
from tfaip_like._training.validation.examples import ExamplePrinter
from tfaip_like._training.validation.lav import LavValidation
from tfaip_like._training.validation.validation import Validation
from tfaip_like._training.validation.validations import Validations
from tfaip_like._utils.files import retry_while_disk_full
from tfaip_like._utils.interruption import InterruptFlag
from tfaip_like._utils.temp_dirs import redirect_autograph_files
from tfaip_like.data import LoaderSettings, Source
from tfaip_like.data._loader.bad_samples import BadSampleLog
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.data._loader.loader_factory import open_training, open_validation
from tfaip_like.data._sample import Mode
from tfaip_like.data._sources.images import check_same_classes
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.evaluation._output_metrics import OutputMetrics
from tfaip_like.modeling._context import set_position, start_position
from tfaip_like.modeling._network import Networks, build_networks, reset_keras
from tfaip_like.params._ignored_flags import NO_EXPLICIT_FLAGS, ExplicitFlags
from tfaip_like.scenario import Scenario
from tfaip_like.schedules import ReduceOnPlateau, TrainingLength
from tfaip_like.settings import Trainer
from tfaip_like.settings._interval import Interval, parse_interval

logger = logging.getLogger(__name__)


@contextmanager
def build_components(
    scenario: Scenario,
    source: Source | None,
    output_dir: OutputDir | None,
    interrupt: InterruptFlag,
    devices: Devices,
    resume_state: ResumeState | None = None,
    explicit_flags: ExplicitFlags = NO_EXPLICIT_FLAGS,
    keras_callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Iterator[TrainingComponents]:
    """Build the components of a training run, and close them on exit.

    Args:
        scenario: scenario with a random seed.
        source: training samples.
        output_dir: run directory; None saves nothing.
        interrupt: interrupt flag that long operations check.
        devices: compute devices; each batch is split between several.
        resume_state: state to restore; None for a new run.
        explicit_flags: parameters set on the command line, for which having no effect is an error.
        keras_callbacks: callbacks of Keras.

    Raises:
        UsageError: if the parameters do not fit the data, the model or the backend.
    """
    builder = _ComponentBuilder(scenario, source, output_dir, interrupt, devices, explicit_flags, keras_callbacks)
    try:
        components = builder.build(resume_state)
        if resume_state is not None:
            resume_state.restore(components)
        yield components
    finally:
        builder.close()


class _ComponentBuilder:
    def __init__(
        self,
        scenario: Scenario,
        source: Source | None,
        output_dir: OutputDir | None,
        interrupt: InterruptFlag,
        devices: Devices,
        explicit_flags: ExplicitFlags,
        keras_callbacks: Sequence[keras.callbacks.Callback],
    ):
        assert scenario.trainer.random_seed is not None
        self.scenario = scenario
        self.seed = scenario.trainer.random_seed
        self.source = source
        self.output_dir = output_dir
        self.interrupt = interrupt
        self.devices = devices
        self.explicit_flags = explicit_flags
        self.keras_callbacks = keras_callbacks
        self.feed: TrainingFeed | None = None
        self.loaders: list[DataLoader] = []
        self.exports: ExportWriter | None = None
        self.recorder: EpochRecorder | None = None
        self.bad_samples = BadSampleLog(output_dir.bad_samples if output_dir else None, scenario.data.max_bad_samples)

    def close(self) -> None:
        if self.exports is not None:
            self.exports.close()
        if self.recorder is not None:
            self.recorder.close()
        if self.feed is not None:
            self.feed.release()
        for loader in self.loaders:
            loader.close()
        self.bad_samples.log_summary()

    def build(self, resume_state: ResumeState | None) -> TrainingComponents:
        scenario, trainer = self.scenario, self.scenario.trainer
        _initialize_keras(trainer, self.seed)
        loader, state = self._open_training_loader(resume_state)
        networks = build_networks(scenario.model, scenario.data)
        if trainer.no_train_scope is not None:
            freeze(networks.training, trainer.no_train_scope)
        if trainer.remat is not None:
            rematerialize(networks.training, trainer.remat)
        if scenario.warmstart.model is not None and resume_state is None:
            warm_start(networks.training, scenario.warmstart)
        example = loader.batch(0)
        with preserve_network_state(networks.training):
            names = list(scenario.named_optimizers())
            model = TrainingModel(networks.training, scenario.model, example, loader.steps_per_epoch, names)
        # An export must load where the packages of these are not installed.
        exported = dataclasses.replace(scenario, callbacks=[], exporters=[], loggers=[])
        writer = BackgroundWriter(self.output_dir.path if self.output_dir else Path(), self.interrupt.check)
        self.exports = exports = ExportWriter(self.output_dir, networks, exported, example, writer, scenario.exporters)
        optimizer, lr_schedule = self._build_optimizer(model, loader, resume_state)
        loader.auto_select_num_workers(loader.steps_per_epoch * loader.accumulate * trainer.epochs)
        # As many as before on resume: that the result does not depend on it was measured, but is not guaranteed.
        steps_per_execution = (
            resume_state.steps_per_execution(loader)
            if resume_state is not None and not trainer.steps_per_execution
            else None
        )
        pads_lengths = resume_state.pads_lengths(loader) if resume_state is not None else None
        if pads_lengths is None:
            pads_lengths = choose_padding(model, trainer, loader, example)
        with preserve_network_state(networks.training):
            steps_per_execution = steps_per_execution or choose_steps_per_execution(model, trainer, loader, example)
        callbacks = self._make_callbacks(model, loader)
        step = compile_train_step(model, optimizer, trainer, loader, example, self.devices.names, pads_lengths)
        validations = Validations(
            trainer,
            self._build_validation(model, networks, loader),
            self._build_lavs(exports, loader),
        )
        self.feed = feed = TrainingFeed(
            loader,
            trainer.epochs,
            steps_per_execution,
            self._execution_boundaries(callbacks, validations),
            self.bad_samples,
            self.interrupt,
            pads_lengths,
        )
        progress = Progress(loader.steps_per_epoch, trainer.epochs, state.global_step, validations.count_remaining)
        self.interrupt.checks.append(progress.refresh)
        selection = ModelSelection(scenario, model, optimizer, validations)
        self.recorder = EpochRecorder(scenario, self.output_dir, model, validations, selection.best)
        return TrainingComponents(
            scenario=scenario,
            output_dir=self.output_dir,
            interrupt=self.interrupt,
            devices=self.devices,
            loader=loader,
            feed=feed,
            networks=networks,
            model=model,
            optimizer=optimizer,
            lr_schedule=lr_schedule,
            step=step,
            steps_per_execution=steps_per_execution,
            pads_lengths=pads_lengths,
            validations=validations,
            exports=exports,
            writer=writer,
            selection=selection,
            recorder=self.recorder,
            callbacks=callbacks,
            progress=progress,
            state=state,
            example=example,
        )

    def _open_training_loader(self, resume_state: ResumeState | None) -> tuple[DataLoader, TrainState]:
        """Open the training data at the position of the run; return their loader and the position."""
        trainer = self.scenario.trainer
        loader = open_training(
            self.scenario.data,
            self.source,
            self.scenario.train,
            trainer.samples_per_epoch,
            self.seed,
            self.interrupt.check,
            trainer.accumulate_steps,
            resume_state.stream_length(self.scenario, self.output_dir) if resume_state is not None else None,
        )
        self.loaders.append(loader)
        state = TrainState(loader.steps_per_epoch)
        if resume_state is not None:
            state = resume_state.train_state(loader)
            resume_state.restore_data_position(self.scenario, self.output_dir, loader, state.global_step)
        self._register_loader(loader, "train")
        return loader, state

    def _make_callbacks(self, model: TrainingModel, loader: DataLoader) -> CallbackList:
        epochs, keras_callbacks = self.scenario.trainer.epochs, None
        if self.keras_callbacks:
            keras_callbacks = KerasCallbacks(self.keras_callbacks, model, epochs, loader.steps_per_epoch)
        return CallbackList(self.scenario.callbacks, keras_callbacks)

    def _execution_boundaries(self, callbacks: CallbackList, validations: Validations) -> list[int]:
        """Return the numbers of steps at whose multiples executions end."""
        checkpoints = parse_interval(self.scenario.trainer.checkpoint_every).steps if self.output_dir else 0
        return [steps for steps in (checkpoints, *callbacks.step_intervals, *validations.step_intervals) if steps]

    def _register_loader(self, loader: DataLoader, group: str) -> None:
        self.bad_samples.record(loader.bad)
        num_processes = loader.settings.num_processes
        if loader.samples.is_array_backed:
            reason = "an ArraySource without processors is sliced in the main process"
            self.explicit_flags.reject((group, "cache"), reason)
            names = ("prefetch", "timeout_seconds", "worker_type", *(["num_processes"] if num_processes else []))
            for name in names:
                self.explicit_flags.warn((group, name), reason)
        elif num_processes == 0:
            for name in ("timeout_seconds", "worker_type"):
                self.explicit_flags.warn((group, name), "there are no data workers (num_processes 0)")

    def _build_optimizer(
        self, model: TrainingModel, loader: DataLoader, resume_state: ResumeState | None
    ) -> tuple[keras.optimizers.Optimizer, OffsetSchedule]:
        trainer = self.scenario.trainer
        start_epoch = resume_state.schedule_begin() if resume_state is not None else 0.0
        lr_schedule = OffsetSchedule(
            self.scenario.learning_rate.build(TrainingLength(loader.steps_per_epoch, trainer.epochs - start_epoch))
        )
        has_rate_factor = isinstance(self.scenario.learning_rate, ReduceOnPlateau)
        ema_momentum = default_ema_momentum(loader.steps_per_epoch) if trainer.calc_ema == -1 else trainer.calc_ema
        if trainer.calc_ema == -1:
            logger.info("EMA momentum: %.6g", ema_momentum)
        paths = weight_paths(model.network)
        if model.trained is None:
            optimizer = self.scenario.optimizer.build(
                lr_schedule,
                model.trainable_variables,
                has_rate_factor,
                ema_momentum,
                paths,
                peak_lr=self.scenario.learning_rate.lr,
            )
            return optimizer, lr_schedule
        trained = model.trained.by_optimizer
        length = TrainingLength(loader.steps_per_epoch, trainer.epochs - start_epoch)

        def build_members(group: OptimizerGroup) -> dict[str, keras.optimizers.Optimizer]:
            members = {}
            for name, settings in self.scenario.named_optimizers().items():
                rate = settings.schedule or self.scenario.learning_rate
                schedule = group.follow(lr_schedule.shift(rate.build(length)))
                members[name] = settings.build(
                    schedule, trained[name], has_rate_factor, ema_momentum, paths, rate.lr, name or None
                )
            return members

        return OptimizerGroup(lr_schedule, build_members, has_rate_factor), lr_schedule

    def _build_validation(self, model: TrainingModel, networks: Networks, training: DataLoader) -> Validation | None:
        scenario, every = self.scenario, self.scenario.trainer.val_interval
        source = scenario.select_source(Mode.EVALUATE) if every else None
        loader = self._open_validation_loader(source, scenario.val, every, "val", training)
        if loader is None:
            for place in (("val",), ("trainer", "val_every_n"), ("trainer", "print_eval_limit")) if every else ():
                self.explicit_flags.reject(place, f"{type(scenario).__name__} has no validation data")
            logger.info("no validation data")
            return None
        return Validation(
            model=model,
            network=networks.prediction,
            loader=loader,
            bad_samples=self.bad_samples,
            evaluator=select_validation_evaluator(scenario),
            examples=ExamplePrinter(
                scenario.example_text, scenario.trainer.print_eval_limit, f"{type(scenario).__name__}.example_text"
            ),
            interrupt=self.interrupt,
            skips_bad_data=scenario.trainer.on_nan == "skip",
            activations=networks.activations,
        )

    def _build_lavs(self, exports: ExportWriter, training: DataLoader) -> dict[str, LavValidation]:
        scenario, every = self.scenario, self.scenario.trainer.lav_interval
        lavs = {}
        metrics = OutputMetrics(scenario.model)
        for name, source in (scenario.validate_lav_sources() if every else {}).items():
            loader = self._open_validation_loader(source, scenario.lav, every, "lav", training)
            if loader is not None:
                lavs[name] = LavValidation(
                    name=name,
                    load_export=lambda: retry_while_disk_full(
                        self._export_location(), exports.current_network, self.interrupt.check
                    ),
                    loader=loader,
                    model=scenario.model,
                    metrics=metrics,
                    evaluator=scenario.evaluator,
                    bad_samples=self.bad_samples,
                    check_interrupt=self.interrupt.check,
                )
        for place in (("lav",), ("trainer", "lav_every_n")) if every and not lavs else ():
            self.explicit_flags.reject(place, f"{type(scenario).__name__} has no data for load-and-validate")
        return lavs

    def _export_location(self) -> Path:
        return self.output_dir.path if self.output_dir else Path(tempfile.gettempdir())

    def _open_validation_loader(
        self, source: Source | None, settings: LoaderSettings, every: Interval, group: str, training: DataLoader
    ) -> DataLoader | None:
        """Return the loader of a source; None if it has no samples.

        Args:
            source: validation samples; None if there are none.
            settings: settings of the loader.
            every: interval of the validation.
            group: name of the settings.
            training: loader of the training data.
        """
        check_same_classes(self.source, source, group)
        loader = open_validation(self.scenario.data, source, settings, self.seed, self.interrupt.check, group)
        if loader is not None:
            self.loaders.append(loader)
            self._register_loader(loader, group)
            epochs = self.scenario.trainer.epochs
            # How often a time is reached is unknown; an epoch is a guess.
            steps = every.num_steps(training.steps_per_epoch) or training.steps_per_epoch
            num_passes = epochs * training.steps_per_epoch // steps
            loader.auto_select_num_workers((loader.num_batches or 0) * num_passes)
        return loader


def select_validation_evaluator(scenario: Scenario) -> Evaluator | None:
    """Return the evaluator for validation; None if there is none, or it is for load-and-validate only."""
    evaluator = scenario.evaluator
    if evaluator is None or not evaluator.lav_only:
        return evaluator
    if not scenario.trainer.lav_every_n:
        logger.warning(
            "--evaluator.lav_only: %s is not used, because load-and-validate is off (--trainer.lav_every_n 0)",
            type(evaluator).__name__,
        )
    return None


def _initialize_keras(trainer: Trainer, seed: int) -> None:
    reset_keras(trainer.precision)
    seed_everything(seed)
    redirect_autograph_files()
    set_position(start_position)
    logger.info("Keras %s (%s backend), random seed %d", keras.__version__, keras.backend.backend(), seed)
