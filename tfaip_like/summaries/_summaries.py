"""What can be looked at and is no number: images, figures, curves, text, histograms, confusion matrices.

An evaluator returns them among its numbers, `Model.summaries` for a few samples; TensorBoard and the report of
the run show them.
"""

from __future__ import annotations

import abc
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import with_article
from tfaip_like._utils.images import Pixels, draw_confusion_matrix, encode_png, make_image_grid, read_png_size, to_rgb

MAX_CLASSES = 500
"""Rows of a confusion matrix: without a limit its memory grows with the square of the largest class."""

NUM_THRESHOLDS = 201
"""Points of a precision-recall curve, from threshold 0 to 1 in equal steps."""


@dataclass(frozen=True, eq=False)
class Summary(abc.ABC):
    """Something to look at."""

    @abc.abstractmethod
    def validation_error(self) -> str | None:
        """What is wrong with it, or None: for a message that begins with its name."""


@dataclass(frozen=True, eq=False)
class Image(Summary):
    """A grey or coloured image."""

    array: Any
    """Height x width, or with 1 or 3 channels at the end; floats from 0 (black) to 1, what is outside is cut
    off; or uint8 from 0 to 255."""

    @classmethod
    def grid(cls, arrays: Sequence[Any]) -> Image:
        """Images side by side, each an array as `Image` takes it, of any size; small ones are enlarged.

        Raises:
            ValueError: when one of them is no image.
        """
        images = [cls(array) for array in arrays]
        for number, image in enumerate(images):
            if validation_error := image.validation_error():
                raise ValueError(f"Image.grid: array {number} {validation_error}")
        return cls(make_image_grid([image.pixels() for image in images]))

    def validation_error(self) -> str | None:
        array = np.asarray(self.array)
        if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3))):
            return (
                f"is an image of shape {array.shape}; it must be (height, width), (height, width, 1) or "
                "(height, width, 3)"
            )
        if 0 in array.shape:
            return f"is an image of shape {array.shape}: it has no pixels"
        if array.dtype not in (np.uint8, np.bool_) and not np.issubdtype(array.dtype, np.floating):
            return f"is an image of {array.dtype}; it must hold floats from 0 to 1, or uint8"
        return None

    def pixels(self) -> Pixels:
        """Red, green and blue."""
        array = np.asarray(self.array)
        return to_rgb(array, high=255.0 if array.dtype == np.uint8 else 1.0)

    def png(self) -> bytes:
        """As a PNG file."""
        return self._png

    @cached_property  # for TensorBoard and for the run's folder
    def _png(self) -> bytes:
        return encode_png(self.pixels())


@dataclass(frozen=True, eq=False)
class Figure(Summary):
    """A figure of matplotlib, or anything else that can save itself as a PNG file.

    Make it with `matplotlib.figure.Figure()`; those of pyplot stay in memory until they are closed.
    """

    figure: Any
    """Has `savefig(file, format="png")`."""

    def validation_error(self) -> str | None:
        if not callable(getattr(self.figure, "savefig", None)):
            return f"is a Figure of {with_article(type(self.figure).__name__)}, which has no method savefig"
        try:
            read_png_size(self.png())
        except ValueError as error:
            return f"is a Figure whose savefig did not write a picture: {error}"
        return None

    def png(self) -> bytes:
        """As a PNG file."""
        return self._png

    @cached_property
    def _png(self) -> bytes:
        file = io.BytesIO()
        self.figure.savefig(file, format="png")
        return file.getvalue()


@dataclass(frozen=True, eq=False)
class PRCurve(Summary):
    """Precision and recall of a yes-or-no question, for all thresholds of its score."""

    labels: Any
    """The right answers: 1 or 0, True or False."""

    scores: Any
    """The predicted probabilities of yes, from 0 to 1."""

    def validation_error(self) -> str | None:
        labels, scores = np.asarray(self.labels), np.asarray(self.scores)
        if labels.shape != scores.shape:
            return f"is a PRCurve of {labels.shape} labels and {scores.shape} scores; there must be one score per label"
        if not np.isin(labels, (0, 1)).all():
            return f"is a PRCurve with the label {labels[~np.isin(labels, (0, 1))][0]}; labels are 0 or 1"
        outside = (scores < -1e-3) | (scores > 1 + 1e-3)
        if outside.any():
            return f"is a PRCurve with the score {scores[outside][0]:.4g}; scores are probabilities, from 0 to 1"
        return None

    def counts(self) -> tuple[npt.NDArray[np.float64], ...]:
        """True positives, false positives, true negatives, false negatives at each of the `NUM_THRESHOLDS`."""
        labels = np.asarray(self.labels, bool).ravel()
        scores = np.clip(np.nan_to_num(np.asarray(self.scores, np.float64).ravel()), 0, 1)
        reached = np.floor(scores * (NUM_THRESHOLDS - 1)).astype(int)  # the highest threshold that is passed

        def count_above(chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
            return np.bincount(reached[chosen], minlength=NUM_THRESHOLDS)[::-1].cumsum()[::-1].astype(np.float64)

        true, false = count_above(labels), count_above(~labels)
        return true, false, false[0] - false, true[0] - true


@dataclass(frozen=True, eq=False)
class Text(Summary):
    """A text in Markdown."""

    markdown: str

    @classmethod
    def table(cls, header: Sequence[object], rows: Sequence[Sequence[object]]) -> Text:
        """A table of anything that can be written as a word."""
        lines = [header, ["---"] * len(header), *rows]
        return cls("\n".join(f"| {' | '.join(str(cell).replace('|', '&#124;') for cell in line)} |" for line in lines))

    def validation_error(self) -> str | None:
        if not isinstance(self.markdown, str):
            return f"is a Text of {with_article(type(self.markdown).__name__)}, not of a str"
        return None


@dataclass(frozen=True, eq=False)
class Histogram(Summary):
    """How often which values come: weights of a layer, lengths, errors. NaN and infinity are left out."""

    values: Any
    """Numbers, in an array of any shape."""

    buckets: int = 30
    """Into how many equal parts their range is cut."""

    def validation_error(self) -> str | None:
        array = np.asarray(self.values)
        if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
            return f"is a Histogram of {array.dtype}, not of numbers"
        if self.buckets < 1:
            return f"is a Histogram with {self.buckets} buckets"
        return None

    def counts(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """How many values lie in each bucket, and the edges of the buckets, one more."""
        values = np.asarray(self.values, np.float64).ravel()
        counts, edges = np.histogram(values[np.isfinite(values)], self.buckets)
        return counts.astype(np.float64), edges


@dataclass(frozen=True, eq=False)
class ConfusionMatrix(Summary):
    """How often which class was taken for which."""

    targets: Any
    """The right classes of all samples: integers from 0."""

    predictions: Any
    """The classes that were predicted for them."""

    names: Sequence[str] = ()
    """Of the classes; without them they have their numbers, and there are as many as were seen."""

    def validation_error(self) -> str | None:
        targets, predictions = np.asarray(self.targets), np.asarray(self.predictions)
        if targets.ndim != 1 or targets.shape != predictions.shape:
            return (
                f"is a ConfusionMatrix of targets of shape {targets.shape} and predictions of shape "
                f"{predictions.shape}; there must be one class per sample in both"
            )
        for name, classes in (("targets", targets), ("predictions", predictions)):
            if len(classes) and not np.issubdtype(classes.dtype, np.integer) and classes.dtype != bool:
                return f"is a ConfusionMatrix with {name} of {classes.dtype}; classes are integers (np.argmax?)"
            if len(classes) and classes.min() < 0:
                return f"is a ConfusionMatrix with {name} of class {classes.min()}; classes are counted from 0"
            if self.names and len(classes) and classes.max() >= len(self.names):
                return f"is a ConfusionMatrix with {name} of class {classes.max()}, but only {len(self.names)} names"
        return None

    def classes(self) -> npt.NDArray[np.int64]:
        """Return the numbers of the classes: all up to the largest, or, if they are too many, those that occur."""
        targets, predictions = self._numbers()
        size = len(self.names) or int(max(targets.max(initial=0), predictions.max(initial=0))) + 1
        return np.arange(size) if size <= MAX_CLASSES else np.union1d(targets, predictions)

    def displayed_classes(self) -> npt.NDArray[np.int64]:
        """Return the classes that `counts` counts: of more than `MAX_CLASSES`, those with most samples."""
        classes = self.classes()
        if len(classes) <= MAX_CLASSES:
            return classes
        there = np.bincount(np.searchsorted(classes, np.concatenate(self._numbers())), minlength=len(classes))
        return np.sort(classes[np.argsort(-there, kind="stable")[:MAX_CLASSES]])

    def labels(self) -> list[str]:
        """Return the names of the classes that `counts` counts."""
        return [self.names[number] if self.names else str(number) for number in self.displayed_classes().tolist()]

    def counts(self) -> npt.NDArray[np.int64]:
        """How many samples of each class (rows) were taken for each class (columns); see `displayed_classes`."""
        targets, predictions = self._numbers()
        classes = self.displayed_classes()
        size = len(classes)
        is_shown = np.isin(targets, classes) & np.isin(predictions, classes)
        rows, columns = (np.searchsorted(classes, numbers[is_shown]) for numbers in (targets, predictions))
        return np.bincount(rows * size + columns, minlength=size * size).reshape(size, size)

    def per_class_recall(self) -> npt.NDArray[np.float64]:
        """The share of the samples of each of `classes` that were found; NaN of a class without samples."""
        targets, predictions = self._numbers()
        classes = self.classes()
        rows = np.searchsorted(classes, targets)
        there = np.bincount(rows, minlength=len(classes))
        found = np.bincount(rows[targets == predictions], minlength=len(classes))
        return np.where(there > 0, found / np.maximum(there, 1), np.nan)

    def _numbers(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        return np.asarray(self.targets).astype(np.int64), np.asarray(self.predictions).astype(np.int64)

    def png(self) -> bytes:
        """As a PNG file: a shaded square for each pair of classes, in the order of their numbers."""
        return self._png

    @cached_property
    def _png(self) -> bytes:
        return encode_png(draw_confusion_matrix(self.counts()))
