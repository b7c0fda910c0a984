"""`Data`: base class for the data of a scenario."""

from __future__ import annotations

import abc
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Annotated, Literal, Self, TypeAlias

import numpy as np

from tfaip_like._user_code.code_errors import CodeError, attribute_frame
from tfaip_like._utils.errors import with_article
from tfaip_like.data._processors import Processor, StreamProcessor
from tfaip_like.data._sample import SAMPLE_WEIGHT, Mode, Sample, Spec, get_target
from tfaip_like.data._sources.tables.table_format import TableFormat
from tfaip_like.params import Params
from tfaip_like.params._field_rules import AffectsTrainingSamples

Source: TypeAlias = Sequence[Sample] | Iterable[Sample]
"""Random-access (with `__len__` and `__getitem__`) or iterable source of samples."""


class Data(Params, abc.ABC):
    """Base class for the data of a scenario: sources, array specifications and processors.

    A subclass sets `inputs` and `targets` as class attributes, or as properties if they depend on its parameters.

    Example:
        >>> import numpy as np
        >>> from tfaip_like.data import ArraySource
        >>> class Points(Data):
        ...     inputs = {"x": Spec((2,))}
        ...     targets = {"label": Spec((), "int32")}
        ...
        ...     def source(self, mode):
        ...         x = np.random.default_rng(0).normal(size=(100, 2))
        ...         return ArraySource({"x": x}, {"label": (x[:, 0] > 0).astype("int32")})
        >>> len(Points().source(Mode.TRAIN))
        100
    """

    plugin_group = "tfaip_like.sources"

    foreign_name_hints = {
        **dict.fromkeys(
            ("load", "load_data", "get_data", "setup", "generator", "dataset", "make_dataset"),
            "return the samples of a mode from `source`",
        ),
        **dict.fromkeys(
            ("train", "train_data", "val_data", "train_dataloader", "val_dataloader", "test_dataloader"),
            "return the samples of each mode from `source`",
        ),
        **dict.fromkeys(("preprocess", "transform", "augment"), "transform samples in `processors`"),
    }

    processors: list[Processor] = []
    """Processors applied to each sample before batching, in this order."""

    post_processors: list[Processor] = []
    """Processors applied to each predicted sample before it is evaluated or written."""

    on_bad_sample: Annotated[Literal["raise", "skip"], AffectsTrainingSamples(False)] = "raise"
    """What to do if processing a sample fails: stop, or skip the sample and list it in bad_samples.csv."""

    max_bad_samples: Annotated[int, AffectsTrainingSamples(False)] = 100
    """Maximum number of bad samples with on_bad_sample skip, above which the run fails."""

    resume: Annotated[Literal["auto", "state", "replay", "inexact"], AffectsTrainingSamples(False)] = "auto"
    """How to resume within an iterable-only source: from the state of its iterator, by reading the samples of the pass
    again (replay), either of the two (auto), or with other samples (inexact) if its order is not repeatable."""

    @property
    def inputs(self) -> Mapping[str, Spec]:
        """Specification of each model input by name."""
        raise NotImplementedError(f"{type(self).__name__} must define `inputs`: {{name: Spec(shape, dtype)}}")

    @property
    def targets(self) -> Mapping[str, Spec]:
        """Specification of each array that losses, metrics and evaluators need, by name.

        A target that a sample lacks is taken from its meta, such as a sample weight or a length.
        """
        return {}

    @property
    def table_format(self) -> TableFormat:
        """Return the settings for table files: categories, missing values, delimiter.

        They are stored in exports, so that predict-scenario reads tables in the same way::

            table_format = TableFormat(categories={"colour": ["red", "blue"]})
        """
        return TableFormat()

    def validate_specs(self, kind: Literal["inputs", "targets"]) -> Mapping[str, Spec]:
        """Return the specifications of inputs or targets after checking them.

        Args:
            kind: `inputs` or `targets`.

        Raises:
            CodeError: if they are not a mapping of names to `Spec`.
        """
        cls = type(self)
        if kind == "inputs" and cls.inputs is Data.inputs:
            raise CodeError(f"{cls.__name__} must define `inputs`: {{'name': Spec(shape, dtype)}}", cls)
        specs: object = getattr(self, kind)
        if not isinstance(specs, Mapping):
            what = "a method (add @property)" if callable(specs) else with_article(type(specs).__name__)
            message = f"{cls.__name__}.{kind} is {what}, expected {{'name': Spec(shape, dtype), ...}}"
            raise CodeError(message, attribute_frame(cls, kind))
        for name, spec in specs.items():
            if not isinstance(name, str) or not isinstance(spec, Spec):
                raise CodeError(
                    f"{cls.__name__}.{kind}: {name!r} is {spec!r}, expected 'name': Spec(shape, dtype)",
                    attribute_frame(cls, kind),
                )
        return specs

    def validate_processors(self, method: Literal["pipeline", "post_pipeline"], mode: Mode) -> list[Processor]:
        """Return the processors of a mode after checking them.

        Args:
            method: method that returns the processors.
            mode: mode of the processors.

        Raises:
            CodeError: if the method does not return a list of processors.
        """
        returned = getattr(self, method)(mode)
        items = list(returned) if isinstance(returned, Sequence) else [returned]
        wrong = [processor for processor in items if not isinstance(processor, Processor)]
        if wrong:
            raise CodeError(
                f"{type(self).__name__}.{method} returned {wrong[0]!r}, expected [MyProcessor(), ...]",
                getattr(self, method),
            )
        return items

    @abc.abstractmethod
    def source(self, mode: Mode) -> Source | None:
        """Return the source of a mode, with its samples in a fixed order.

        A source is a list, an object with `__len__` and `__getitem__` that reads samples on demand, or an
        `ArraySource`, which is by far the fastest. A dataset of another library (tf.data, PyTorch, Hugging Face,
        Grain), arrays, a frame or a generator becomes one. An iterable-only source is read from the start in each pass.
        Prediction needs no targets. None or an empty source disables validation (EVALUATE), and requires samples on
        the command line of predict-scenario (PREDICT).

        Args:
            mode: TRAIN, EVALUATE or PREDICT.
        """

    def adapt(self) -> Self:
        """Return a copy with parameters derived from the training files, such as class names.

        Called once before a training opens its source and before `Scenario.adapt`; the result is used for training,
        stored in the parameters, and exported.
        """
        return self

    def pipeline(self, mode: Mode) -> Sequence[Processor]:
        """Return the processors of a mode; by default those of `processors`. Override to add parametrized ones."""
        return [processor for processor in self.processors if mode in processor.modes]

    def post_pipeline(self, mode: Mode) -> Sequence[Processor]:
        """Return the post-processors of a mode; by default those of `post_processors`."""
        return [processor for processor in self.post_processors if mode in processor.modes]

    def class_label(self, sample: Sample) -> Hashable:
        """Return the class of an unprocessed sample for `--train.balance`; by default its scalar integer target."""
        class_: Hashable = np.asarray(get_target(sample, self.class_target())).item()
        return class_

    def class_target(self) -> str:
        """Return the name of the only scalar integer target.

        Raises:
            CodeError: if there is not exactly one.
        """
        scalars = [n for n, spec in self.targets.items() if spec.shape == () and n != SAMPLE_WEIGHT]
        names = [name for name in scalars if np.issubdtype(self.targets[name].dtype, np.integer)]
        if len(names) != 1:
            raise CodeError(
                f"balance: the class of a sample of {type(self).__name__} is ambiguous ({len(names)} scalar integer "
                "targets); define class_label(self, sample)",
                type(self),
            )
        return names[0]

    def length(self, sample: Sample) -> int | None:
        """Return the length of an unprocessed sample, for length buckets.

        If it is None, the default, the sample is processed and its longest axis of unknown length is used.
        """
        return None

    def ignored_params(self) -> Mapping[str, str]:
        no_limit = "bad samples are not skipped (--data.on_bad_sample skip)"
        return {} if self.on_bad_sample == "skip" else {"max_bad_samples": no_limit}

    def check(self) -> None:
        self.require(self.max_bad_samples >= 0, "max_bad_samples", "must be 0 or more")
        self.require(
            not any(isinstance(processor, StreamProcessor) for processor in self.post_processors),
            "post_processors",
            "a StreamProcessor cannot be a post-processor, which maps one sample to one sample",
        )


def compute_sample_length(sample: Sample, specs: Mapping[str, Mapping[str, Spec]]) -> int:
    """Return the length of the longest axis of unknown length of a processed sample.

    Args:
        sample: processed sample.
        specs: specifications by `inputs` and `targets`.
    """
    arrays = [(sample.inputs[name], spec) for name, spec in specs["inputs"].items()]
    arrays += [(get_target(sample, name), spec) for name, spec in specs["targets"].items()]
    lengths = [
        length
        for array, spec in arrays
        for length, axis in zip(np.shape(array), spec.shape, strict=True)
        if axis is None
    ]
    return max(lengths, default=0)
