"""Components of a training run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import keras

from tfaip_like._keras_ext.schedules import OffsetSchedule
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.callbacks.callback_list import CallbackList
from tfaip_like._training.checkpointing.background_writer import BackgroundWriter
from tfaip_like._training.devices import Devices
from tfaip_like._training.exports import ExportWriter
from tfaip_like._training.feed import TrainingFeed
from tfaip_like._training.progress import Progress
from tfaip_like._training.recorder import EpochRecorder
from tfaip_like._training.selection.model_selection import ModelSelection
from tfaip_like._training.steps.train_step import TrainStep, compile_train_step
from tfaip_like._training.steps.training_model import TrainingModel
from tfaip_like._training.train_state import TrainState
from tfaip_like._training.validation.validations import Validations
from tfaip_like._utils.interruption import InterruptFlag
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.modeling._network import Networks
from tfaip_like.scenario import Scenario
from tfaip_like.settings import Trainer


@dataclass(frozen=True)
class TrainingComponents:
    """Components of a training run."""

    scenario: Scenario
    output_dir: OutputDir | None
    """Run directory; None saves nothing."""
    interrupt: InterruptFlag
    devices: Devices
    loader: DataLoader
    """Loader of the training data."""
    feed: TrainingFeed
    networks: Networks
    model: TrainingModel
    optimizer: keras.optimizers.Optimizer
    """Optimizer without Keras' loss scaling; `model.optimizer` has it."""
    lr_schedule: OffsetSchedule
    step: TrainStep
    steps_per_execution: int
    """Maximum number of steps per execution."""
    pads_lengths: bool
    """Whether batches of variable lengths are padded to a few shapes."""
    validations: Validations
    exports: ExportWriter
    writer: BackgroundWriter
    """Thread that writes best/ and the checkpoints."""
    selection: ModelSelection
    recorder: EpochRecorder
    callbacks: CallbackList
    progress: Progress
    state: TrainState
    """Position, which the training loop moves."""
    example: Batch
    """First training batch."""

    @property
    def trainer(self) -> Trainer:
        """Trainer settings of the scenario."""
        return self.scenario.trainer

    def compile_step(self, jit_compile: bool) -> TrainStep:
        """Return another training step, compiled with XLA or without."""
        trainer = dataclasses.replace(self.trainer, jit_compile=jit_compile)
        return compile_train_step(
            self.model,
            self.model.optimizer,
            trainer,
            self.loader,
            self.example,
            self.devices.names,
            self.pads_lengths,
        )
