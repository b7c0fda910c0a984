"""`Data`: the samples of a scenario and what they look like."""

from __future__ import annotations

import abc
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Literal, Self, TypeAlias

import numpy as np

from tfaip_like._user_code.code_errors import CodeError, attribute_frame
from tfaip_like._utils.errors import with_article
from tfaip_like.data._processors import Processor, StreamProcessor
from tfaip_like.data._sample import Mode, Sample, Spec, get_target
from tfaip_like.data._sources.tables import TableFormat
from tfaip_like.params import Params

Source: TypeAlias = Sequence[Sample] | Iterable[Sample]
"""Samples by their index, or one after another."""


class Data(Params, abc.ABC):
    """The samples of a scenario.

    `inputs` and `targets` are plain attributes of a subclass, or properties where they depend on
    parameters::

        inputs = {"image": Spec((8, 8))}
        targets = {"label": Spec((), "int32")}
    """

    foreign_name_hints = {
        **dict.fromkeys(
            ("load", "load_data", "get_data", "setup", "generator", "dataset", "make_dataset"),
            "the samples of a mode are what `source` returns",
        ),
        **dict.fromkeys(
            ("train", "train_data", "val_data", "train_dataloader", "val_dataloader", "test_dataloader"),
            "`source` returns the samples of each mode",
        ),
        **dict.fromkeys(("preprocess", "transform", "augment"), "samples are changed by `processors`"),
    }

    processors: list[Processor] = []
    """What is done to each sample before it goes into a batch, in this order."""

    post_processors: list[Processor] = []
    """What is done to each predicted sample, with its outputs, before it is judged or written."""

    on_bad_sample: Literal["raise", "skip"] = "raise"
    """What to do when a sample cannot be made: stop, or leave it out and list it in bad_samples.csv."""

    max_bad_samples: int = 100
    """Stop when more samples than this are bad."""

    @property
    def inputs(self) -> Mapping[str, Spec]:
        """Name and specification of each array that the network sees."""
        raise NotImplementedError(f"{type(self).__name__} needs `inputs`: {{name: Spec(shape, dtype)}}")

    @property
    def targets(self) -> Mapping[str, Spec]:
        """Name and specification of each array that the network should produce, or that losses and metrics need.

        One that a sample does not have among its targets is taken from its meta: the weight of a sample, its length.
        """
        return {}

    @property
    def table_format(self) -> TableFormat:
        """Categories, missing values and the like of tables, for `TableSource`.

        It goes with the export, so that predict-scenario reads tables in the same way::

            table_format = TableFormat(categories={"colour": ["red", "blue"]})
        """
        return TableFormat()

    def validate_specs(self, kind: Literal["inputs", "targets"]) -> Mapping[str, Spec]:
        """Return the specifications of inputs or targets.

        Raises:
            CodeError: when they are no named specifications.
        """
        cls = type(self)
        if kind == "inputs" and cls.inputs is Data.inputs:
            raise CodeError(f"{cls.__name__} needs `inputs`: {{'name': Spec(shape, dtype)}}", cls)
        specs: object = getattr(self, kind)
        if not isinstance(specs, Mapping):
            what = "a method; write @property above it" if callable(specs) else with_article(type(specs).__name__)
            message = f"{cls.__name__}.{kind} is {what}: it must be {{'name': Spec(shape, dtype), ...}}"
            raise CodeError(message, attribute_frame(cls, kind))
        for name, spec in specs.items():
            if not isinstance(name, str) or not isinstance(spec, Spec):
                raise CodeError(
                    f"{cls.__name__}.{kind}: {name!r} is {spec!r}; write 'name': Spec(shape, dtype)",
                    attribute_frame(cls, kind),
                )
        return specs

    def validate_processors(self, method: Literal["pipeline", "post_pipeline"], mode: Mode) -> list[Processor]:
        """Return the processors of a mode.

        Raises:
            CodeError: when the method returns something else.
        """
        returned = getattr(self, method)(mode)
        items = list(returned) if isinstance(returned, Sequence) else [returned]
        wrong = [processor for processor in items if not isinstance(processor, Processor)]
        if wrong:
            raise CodeError(
                f"{type(self).__name__}.{method} returned {wrong[0]!r}; it must return [MyProcessor(), ...]",
                getattr(self, method),
            )
        return items

    @abc.abstractmethod
    def source(self, mode: Mode) -> Source | None:
        """The samples for training, evaluation or prediction (where targets are not needed), in a fixed order.

        Any object with `len()` and an index does: a list, a class that reads a file for each index,
        or an `ArraySource`, which is by far the fastest. What can only be iterated is read from its
        beginning in each pass. None or nothing for evaluation: there is no validation; for prediction:
        predict-scenario has to be given some.
        """

    def adapt(self) -> Self:
        """Return the data with what must be learnt from its files first, such as the names of classes.

        Called once, before a training opens its source and before `Scenario.adapt`; what it returns is trained,
        saved and exported.
        """
        return self

    def pipeline(self, mode: Mode) -> Sequence[Processor]:
        """The processors of a mode: those of `processors`; a subclass may add some that depend on its parameters."""
        return [processor for processor in self.processors if mode in processor.modes]

    def post_pipeline(self, mode: Mode) -> Sequence[Processor]:
        """The post-processors of a mode: those of `post_processors`, likewise."""
        return [processor for processor in self.post_processors if mode in processor.modes]

    def class_label(self, sample: Sample) -> Hashable:
        """The class of a sample as the source gives it, for `--train.balance`; by default its only integer target."""
        class_: Hashable = np.asarray(get_target(sample, self.class_target())).item()
        return class_

    def class_target(self) -> str:
        """The name of the target that is the class.

        Raises:
            UsageError: when there is not just one integer target.
        """
        found = [n for n, spec in self.targets.items() if spec.shape == () and np.issubdtype(spec.dtype, np.integer)]
        if len(found) != 1:
            raise CodeError(
                f"balance: which class does a sample of {type(self).__name__} have? It has "
                f"{len(found)} single integers as targets; write class_label(self, sample)",
                type(self),
            )
        return found[0]

    def length(self, sample: Sample) -> int | None:
        """The length of a sample as the source gives it, for length buckets.

        None, the default: it is processed, and the longest of its axes of unknown length counts.
        """
        return None

    def ignored_params(self) -> Mapping[str, str]:
        no_limit = "bad samples are not skipped (--data.on_bad_sample skip)"
        return {} if self.on_bad_sample == "skip" else {"max_bad_samples": no_limit}

    def check(self) -> None:
        self.require(self.max_bad_samples >= 0, "max_bad_samples", "must be 0 or more")
        self.require(
            not any(isinstance(one, StreamProcessor) for one in self.post_processors),
            "post_processors",
            "a StreamProcessor makes many samples of some, but a post-processor makes one of one",
        )


def compute_sample_length(sample: Sample, specs: Mapping[str, Mapping[str, Spec]]) -> int:
    """The longest axis of unknown length of a processed sample; `specs` are those of inputs and targets."""
    arrays = [(sample.inputs[name], spec) for name, spec in specs["inputs"].items()]
    arrays += [(get_target(sample, name), spec) for name, spec in specs["targets"].items()]
    lengths = [
        length
        for array, spec in arrays
        for length, axis in zip(np.shape(array), spec.shape, strict=True)
        if axis is None
    ]
    return max(lengths, default=0)
