"""`Scenario`: the root of the parameter tree, which declares a whole experiment."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

from tfaip_like._user_code.code_errors import CodeError
from tfaip_like._utils.errors import UsageError, pluralize, with_article
from tfaip_like.callbacks import Callback
from tfaip_like.data import Data, LavLoaderSettings, Source, TrainLoaderSettings, ValLoaderSettings
from tfaip_like.data._sample import Mode, Sample, format_example
from tfaip_like.data._sources.folds import cross_validation_split
from tfaip_like.data._sources.opening import open_source
from tfaip_like.data._writers import Writer
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.exporters import Exporter
from tfaip_like.loggers import Logger
from tfaip_like.modeling._model import Model
from tfaip_like.modeling._voting import Voter
from tfaip_like.optimizers import Adam, Optimizer, Optimizers
from tfaip_like.params import Params
from tfaip_like.params._base import field_default, field_types
from tfaip_like.params._field_rules import AffectsTrainingSamples, DiffersPerScenario, OnResume, UniquePerRun
from tfaip_like.params._tree import validate_params
from tfaip_like.schedules import Constant, PiecewiseConstant, Schedule
from tfaip_like.settings import Device, EarlyStopping, Trainer, WarmStart

P = TypeVar("P", bound="Data | Scenario")

_COMMON_COMMAND_FLAGS = ("help", "show", "params", "schema", "version", "completion", "trust_code")
RESERVED_FLAGS = (*_COMMON_COMMAND_FLAGS, "benchmark", "doctor", "inspect", "resume", "verify")
"""Flags of the commands, which cannot be parameters of a scenario."""

__all__ = ["Scenario"]


class Scenario(Params):
    """Declaration of an experiment: data, model, evaluator and training settings.

    Subclasses set defaults; each field is a group of command-line flags.

    Example:
    ```python
    from tfaip_like import Data, Model, Sample, Scenario, Spec, ops
    from keras import layers

    class Points(Data):
        inputs = {"x": Spec((1,))}
        targets = {"y": Spec((1,))}

        def source(self, mode):
            return [Sample({"x": [x]}, {"y": [2 * x]}) for x in range(100)]

    class Line(Model):
        def build(self, inputs):
            return {"y": layers.Dense(1)(inputs["x"])}

        def loss(self, inputs, targets, outputs):
            return {"square": ops.square(targets["y"] - outputs["y"])}

    class Regression(Scenario):
        data: Data = Points()
        model: Model = Line()
    ```
    """

    def __init_subclass__(cls, is_command_subclass: bool = False, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        for name in RESERVED_FLAGS:
            if name in cls.__dataclass_fields__ and not is_command_subclass:
                raise TypeError(f"{cls.__qualname__}.{name}: --{name} is a flag of the commands; choose another name")

    foreign_name_hints = {
        **dict.fromkeys(
            ("fit", "run", "main", "train_model"), "use train-scenario or tfaip_like.train(scenario) to train it"
        ),
        **dict.fromkeys(("setup", "configure"), "override `adapt` to derive parameters from the training data"),
    }

    search_words = {"exporters": "export_formats to_onnx to_tflite tflite"}

    batch_flags: ClassVar[tuple[str, ...]] = ("model", "model.graph")
    """Flags that the parts of a model name set in `experiments generate --models`: `--models Classifier.CNN=10` runs
    `--model Classifier --model.graph CNN` ten times."""

    common_flags: ClassVar[tuple[str, ...]] = (
        "trainer.output_dir",
        "trainer.epochs",
        "train.lists",
        "val.lists",
        "train.batch_size",
        "optimizer",
        "learning_rate",
        "learning_rate.lr",
        "early_stopping.n_to_go",
        "warmstart.model",
        "device.gpus",
    )
    """Flags that `--help` lists after those of model, data and evaluator; the others are listed by group on request."""

    data: Annotated[Data, AffectsTrainingSamples(True), DiffersPerScenario()]
    """Sources and processors of the samples."""

    model: Annotated[
        Model, OnResume("applies from here on; the shapes of weights must not change"), DiffersPerScenario()
    ]
    """Network, losses and metrics."""

    evaluator: Annotated[Evaluator | None, DiffersPerScenario()] = None
    """Metrics computed from the predictions of each validation, in plain Python; none by default."""

    trainer: Trainer = Trainer()
    """Training loop and run directory."""

    optimizer: Optimizer = Adam()
    """Optimizer, weight decay and gradient clipping."""

    optimizers: Optimizers = Optimizers()
    """Named optimizers of a model that defines `train_step`, instead of --optimizer."""

    learning_rate: Schedule = Constant()
    """Learning-rate schedule."""

    early_stopping: EarlyStopping = EarlyStopping()
    """Early stopping, and the monitored value that selects the best epoch."""

    warmstart: Annotated[WarmStart, OnResume("the weights come from the checkpoint", is_ignored=True)] = WarmStart()
    """Initial weights from an earlier training run."""

    callbacks: list[Callback] = []
    """User code that runs at points of the training: --callbacks my_package:Message --callbacks.0.channel training."""

    exporters: list[Exporter] = []
    """Further formats of the networks in best/ and export/, written at the end: --exporters ONNX LiteRT. To install
    them: pip install 'tfaip_like[onnx,litert]'."""

    loggers: Annotated[list[Logger], UniquePerRun()] = []
    """Services that also get the values of the run directory: --loggers MLflow --loggers.0.experiment digits."""

    train: Annotated[TrainLoaderSettings, AffectsTrainingSamples(True)] = TrainLoaderSettings()
    """Data loading for training."""

    val: ValLoaderSettings = ValLoaderSettings()
    """Data loading for validation."""

    lav: LavLoaderSettings = LavLoaderSettings()
    """Data loading for load-and-validate (LAV)."""

    device: Device = Device()
    """Compute devices and the Keras backend."""

    @classmethod
    def from_run(cls, path: Path | str, trust_code: bool = False) -> Self:
        """Return the scenario of a run directory, an export or a checkpoint, with the parameters it was trained with.

        Args:
            path: run directory, export or checkpoint.
            trust_code: import code from the directory even if another user wrote it.

        Raises:
            UsageError: if the directory is none of them, its code cannot be imported or does not match its parameters,
                or its scenario is of another class.

        Example:
            >>> scenario = Scenario.from_run("runs/digits")  # doctest: +SKIP
            >>> train(dataclasses.replace(scenario, trainer=Trainer(epochs=3)))  # doctest: +SKIP
        """
        # The only reference to an upper layer: people look for this constructor on the class.
        commands = import_module("tfaip_like._commands.named_exports")
        scenario = commands.load_trained_scenario(Path(path), trust_code)
        if not isinstance(scenario, cls):
            raise UsageError(f"{path}: trained with {type(scenario).__name__}, not {cls.__name__}")
        return scenario

    def source(self, mode: Mode) -> Source | None:
        """Return the samples of a mode, by default `data.source(mode)`; None if the mode has no samples.

        Args:
            mode: training, evaluation or prediction.
        """
        return self.data.source(mode)

    def adapt(self, train: Source | None, folder: Path) -> Self:
        """Return the scenario with parameters derived from the training data, such as a codec or a vocabulary.

        Called once before training; the returned scenario is trained, saved and exported.

        Args:
            train: source of the training samples.
            folder: directory for files that belong to the run; see `resources`.
        """
        return self

    def lav_sources(self) -> Mapping[str, Source]:
        """Return the samples of load-and-validate by result name; by default those of validation, named ""."""
        source = self.select_source(Mode.EVALUATE)
        return {} if source is None else {"": source}

    def validate_lav_sources(self) -> Mapping[str, Source]:
        """Return `lav_sources()` after checking its type.

        Raises:
            CodeError: if it is not a mapping.
        """
        sources = self.lav_sources()
        if not isinstance(sources, Mapping):
            got = with_article(type(sources).__name__)
            message = f"{type(self).__name__}.lav_sources returned {got}; it must return {{'name': source, ...}}"
            raise CodeError(message, self.lav_sources)
        return sources

    def select_source(self, mode: Mode) -> Source | None:
        """Return the source of a mode; with `--train.folds`, the training or held-out folds of the training samples.

        Args:
            mode: training, evaluation or prediction; folds do not apply to prediction.
        """
        if not self.train.folds or mode is Mode.PREDICT:
            return self._open_source(mode)
        return cross_validation_split(
            self._open_source(Mode.TRAIN), self.train.folds, self.train.fold, held_out=mode is Mode.EVALUATE
        )

    def _open_source(self, mode: Mode) -> Source | None:
        """Return the samples of a mode; `source` may return a dataset of any kind."""
        return open_source(self.source(mode), self.data, mode, reopen=partial(self.source, mode))

    def example_text(self, sample: Sample) -> str | None:
        """Return the text to print for a predicted sample during validation; None prints nothing.

        By default all targets and outputs, abbreviated; see `--trainer.print_eval_limit`.

        Args:
            sample: sample with targets and outputs, after the post-processors.
        """
        return format_example(sample)

    def voter(self) -> Voter | None:
        """Return the voter for the predictions of several models, unless `--voter` is given; None averages them."""
        return None

    def writer(self) -> Writer | None:
        """Return the writer for prediction files other than .jsonl and .npz, unless `--writer` is given."""
        return None

    def prepare_for_training(self, folder: Path) -> tuple[Self, Source | None]:
        """Call `adapt` of the data and the scenario; return the adapted scenario and its training source.

        Args:
            folder: directory for files that belong to the run, passed to `adapt`.

        Raises:
            CodeError: if `adapt` returned an object of another class.
            UsageError: if a derived parameter is invalid.
        """
        with_data = dataclasses.replace(self, data=_require_same_class(self.data, self.data.adapt()))
        source = with_data.select_source(Mode.TRAIN)
        adapted = validate_params(_require_same_class(self, with_data.adapt(source, folder)))
        return adapted, source if adapted.data is with_data.data else adapted.select_source(Mode.TRAIN)

    def ignored_params(self) -> Mapping[str, str]:
        reasons: dict[str, str] = {}
        trainer, stopping = self.trainer, self.early_stopping
        if not trainer.output_dir:
            reasons["exporters"] = "requires --trainer.output_dir"
        if field_types(type(self.optimizers)):
            flags = ", ".join(f"--optimizers.{name}" for name in field_types(type(self.optimizers)))
            reasons["optimizer"] = f"{type(self).__name__} has named optimizers: {flags}"
        if not trainer.val_every_n:
            names = [name for name in field_types(type(self.val)) if name != "lists" or not trainer.lav_every_n]
            names = ["trainer.print_eval_limit", *(f"val.{name}" for name in names)]
            reasons |= dict.fromkeys(names, "validation is disabled (--trainer.val_every_n 0)")
        if not trainer.lav_every_n:
            disabled = "LAV during training is disabled; set --trainer.lav_every_n, or pass --lav.* to lav-scenario"
            reasons |= dict.fromkeys((f"lav.{name}" for name in field_types(type(self.lav))), disabled)
        if self.train.folds:
            reasons["val.lists"] = "with --train.folds, validation uses held-out training samples"
        if not stopping.n_to_go:
            begin = "lower" if (stopping.mode or type(self.model).best[1]) == "max" else "upper"
            reasons[f"early_stopping.{begin}_threshold"] = "requires --early_stopping.n_to_go"
        if isinstance(self.learning_rate, PiecewiseConstant):
            rate = self.learning_rate
            first = [rate.warmup_epochs, *rate.boundaries[:1]]
            if rate.boundaries and sum(n for n in first if not isinstance(n, str)) >= trainer.epochs:
                ends = f"training ends after {pluralize(trainer.epochs, 'epoch')} (--trainer.epochs)"
                reasons |= dict.fromkeys(("learning_rate.boundaries", "learning_rate.factors"), ends)
        return reasons

    def named_optimizers(self) -> dict[str, Optimizer]:
        """Return the optimizers by name: those of `optimizers`, or `optimizer` with the name ""."""
        named = {name: getattr(self.optimizers, name) for name in field_types(type(self.optimizers))}
        return named or {"": self.optimizer}

    def check(self) -> None:
        rate = self.optimizer.schedule
        self.require(rate is None, "optimizer.schedule", "is for named optimizers; set --learning_rate")
        has_names = bool(field_types(type(self.optimizers)))
        self.require(not (has_names and self.learning_rate.find), "learning_rate.find", "is for a single optimizer")
        for group in ("train", "val", "lav"):
            expected = type(field_default(type(self), group))
            is_expected = type(getattr(self, group)) is expected
            self.require(is_expected, group, f"must be {with_article(expected.__name__)} in this scenario")


def _require_same_class(before: P, adapted: P) -> P:
    """Return the result of `adapt`, which must be of the class that `adapt` was called on."""
    if not isinstance(adapted, type(before)):
        returned = with_article(type(adapted).__name__)
        raise CodeError(
            f"{type(before).__name__}.adapt returned {returned}; it must return dataclasses.replace(self, ...)",
            type(before).adapt,
        )
    return adapted
