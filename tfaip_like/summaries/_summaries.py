"""Non-scalar results: images, figures, PR curves, text, histograms and confusion matrices.

Evaluators return them next to scalars, `Model.summaries` for a few samples; TensorBoard and the run report show them.
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

from tfaip_like._utils.errors import pluralize, with_article
from tfaip_like._utils.pixels import Pixels, draw_confusion_matrix, encode_png, make_image_grid, read_png_size, to_rgb

MAX_CLASSES = 500
"""Maximum number of rows of a confusion matrix; its memory grows with the square of the number of classes."""

NUM_THRESHOLDS = 201
"""Number of points of a precision-recall curve, at equally spaced thresholds from 0 to 1."""


@dataclass(frozen=True, eq=False)
class Summary(abc.ABC):
    """Base class of non-scalar results.

    Example:
        >>> Text("only text").validation_error() is None
        True
    """

    @abc.abstractmethod
    def validation_error(self) -> str | None:
        """Return what is wrong with the summary, to follow its name in a message; None if it is valid."""


@dataclass(frozen=True, eq=False)
class Image(Summary):
    """Greyscale or RGB image.

    Example:
        >>> Image(np.zeros((4, 6))).pixels().shape
        (4, 6, 3)
    """

    array: Any
    """Array of shape (height, width), (height, width, 1) or (height, width, 3): floats from 0 (black) to 1, clipped, or
    uint8 from 0 to 255."""

    @classmethod
    def grid(cls, arrays: Sequence[Any]) -> Image:
        """Arrange images in a grid; small ones are enlarged.

        Args:
            arrays: images of any size, each as for `array`.

        Raises:
            ValueError: if an array is not an image.
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
                f"is an image of shape {array.shape}; expected (height, width), (height, width, 1) or "
                "(height, width, 3)"
            )
        if 0 in array.shape:
            return f"is an image of shape {array.shape} without pixels"
        if array.dtype not in (np.uint8, np.bool_) and not np.issubdtype(array.dtype, np.floating):
            return f"is an image of dtype {array.dtype}; expected floats from 0 to 1, or uint8"
        return None

    def pixels(self) -> Pixels:
        """Return the RGB pixels, of shape (height, width, 3)."""
        array = np.asarray(self.array)
        return to_rgb(array, high=255.0 if array.dtype == np.uint8 else 1.0)

    def png(self) -> bytes:
        """Return the content of a PNG file."""
        return self._png

    @cached_property  # written to TensorBoard and to the run directory
    def _png(self) -> bytes:
        return encode_png(self.pixels())


@dataclass(frozen=True, eq=False)
class Figure(Summary):
    """Matplotlib figure, or another object that can save itself as a PNG file.

    Create it with `matplotlib.figure.Figure()`; pyplot keeps its figures in memory until they are closed.

    Example:
        >>> Figure("plot.png").validation_error()
        'is a Figure with a str, which has no method savefig'
    """

    figure: Any
    """Object with a method `savefig(file, format="png")`."""

    def validation_error(self) -> str | None:
        if not callable(getattr(self.figure, "savefig", None)):
            return f"is a Figure with {with_article(type(self.figure).__name__)}, which has no method savefig"
        try:
            read_png_size(self.png())
        except ValueError as error:
            return f"is a Figure whose savefig wrote no PNG image: {error}"
        return None

    def png(self) -> bytes:
        """Return the content of a PNG file."""
        return self._png

    @cached_property
    def _png(self) -> bytes:
        file = io.BytesIO()
        self.figure.savefig(file, format="png")
        return file.getvalue()


@dataclass(frozen=True, eq=False)
class PRCurve(Summary):
    """Precision-recall curve of a binary classifier.

    Example:
        >>> true_positives, *_ = PRCurve(labels=[1, 0, 1], scores=[0.9, 0.2, 0.4]).counts()
        >>> true_positives[100]  # at threshold 0.5
        np.float64(1.0)
    """

    labels: Any
    """True labels, 0 or 1, of any shape."""

    scores: Any
    """Predicted probabilities of label 1, from 0 to 1, of the shape of `labels`."""

    def validation_error(self) -> str | None:
        labels, scores = np.asarray(self.labels), np.asarray(self.scores)
        if labels.shape != scores.shape:
            return f"is a PRCurve with labels of shape {labels.shape} and scores of shape {scores.shape}"
        if not np.isin(labels, (0, 1)).all():
            return f"is a PRCurve with the label {labels[~np.isin(labels, (0, 1))][0]}; labels must be 0 or 1"
        outside = (scores < -1e-3) | (scores > 1 + 1e-3)
        if outside.any():
            return f"is a PRCurve with the score {scores[outside][0]:.4g}; scores must be from 0 to 1"
        return None

    def counts(self) -> tuple[npt.NDArray[np.float64], ...]:
        """Return true positives, false positives, true negatives and false negatives at each threshold.

        Returns:
            Four arrays of shape (`NUM_THRESHOLDS`,).
        """
        labels = np.asarray(self.labels, bool).ravel()
        scores = np.clip(np.nan_to_num(np.asarray(self.scores, np.float64).ravel()), 0, 1)
        reached = np.floor(scores * (NUM_THRESHOLDS - 1)).astype(int)  # highest threshold passed

        def count_above(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
            return np.bincount(reached[mask], minlength=NUM_THRESHOLDS)[::-1].cumsum()[::-1].astype(np.float64)

        true, false = count_above(labels), count_above(~labels)
        return true, false, false[0] - false, true[0] - true

    def precision_recall(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return precision and recall at each threshold, each of shape (`NUM_THRESHOLDS`,)."""
        true_positives, false_positives, _, false_negatives = self.counts()
        precision = true_positives / np.maximum(true_positives + false_positives, 1)
        return precision, true_positives / np.maximum(true_positives + false_negatives, 1)


@dataclass(frozen=True, eq=False)
class Text(Summary):
    """Markdown text.

    Example:
        >>> print(Text.table(["class", "errors"], [["a", 3]]).markdown)
        | class | errors |
        | --- | --- |
        | a | 3 |
    """

    markdown: str
    """Markdown source."""

    @classmethod
    def table(cls, header: Sequence[object], rows: Sequence[Sequence[object]]) -> Text:
        """Format a table.

        Args:
            header: column titles.
            rows: cells of each row; converted with `str`.
        """
        lines = [header, ["---"] * len(header), *rows]
        return cls("\n".join(f"| {' | '.join(str(cell).replace('|', '&#124;') for cell in line)} |" for line in lines))

    def validation_error(self) -> str | None:
        if not isinstance(self.markdown, str):
            return f"is a Text with {with_article(type(self.markdown).__name__)}; expected a str"
        return None


@dataclass(frozen=True, eq=False)
class Histogram(Summary):
    """Histogram of values, such as weights, lengths or errors; NaN and infinity are ignored.

    Example:
        >>> counts, edges = Histogram([1, 1, 3], buckets=2).counts()
        >>> counts.tolist(), edges.tolist()
        ([2.0, 1.0], [1.0, 2.0, 3.0])
    """

    values: Any
    """Array of numbers, of any shape."""

    buckets: int = 30
    """Number of bins of equal width."""

    def validation_error(self) -> str | None:
        array = np.asarray(self.values)
        if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
            return f"is a Histogram with values of dtype {array.dtype}; expected numbers"
        if self.buckets < 1:
            return f"is a Histogram with {self.buckets} buckets; expected at least 1"
        return None

    def counts(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the number of values in each bin, shape (`buckets`,), and the bin edges, shape (`buckets` + 1,)."""
        values = np.asarray(self.values, np.float64).ravel()
        counts, edges = np.histogram(values[np.isfinite(values)], self.buckets)
        return counts.astype(np.float64), edges


@dataclass(frozen=True, eq=False)
class ConfusionMatrix(Summary):
    """Confusion matrix of a classifier.

    Example:
        >>> ConfusionMatrix(targets=[0, 1, 1], predictions=[0, 1, 0]).counts().tolist()
        [[1, 0], [1, 1]]
    """

    targets: Any
    """True class of each sample: integers from 0, shape (samples,)."""

    predictions: Any
    """Predicted class of each sample, shape (samples,)."""

    names: Sequence[str] = ()
    """Class names; by default the class indices that occur."""

    def validation_error(self) -> str | None:
        targets, predictions = np.asarray(self.targets), np.asarray(self.predictions)
        if targets.ndim != 1 or targets.shape != predictions.shape:
            return (
                f"is a ConfusionMatrix with targets of shape {targets.shape} and predictions of shape "
                f"{predictions.shape}; expected one class per sample in both"
            )
        for name, classes in (("targets", targets), ("predictions", predictions)):
            if len(classes) and not np.issubdtype(classes.dtype, np.integer) and classes.dtype != bool:
                return f"is a ConfusionMatrix with {name} of dtype {classes.dtype}; expected integers (np.argmax?)"
            if len(classes) and classes.min() < 0:
                return f"is a ConfusionMatrix with {name} of class {classes.min()}; classes must not be negative"
            if self.names and len(classes) and classes.max() >= len(self.names):
                num_names = pluralize(len(self.names), "name")
                return f"is a ConfusionMatrix with {name} of class {classes.max()} but {num_names}"
        return None

    def classes(self) -> npt.NDArray[np.int64]:
        """Return the class indices: all up to the largest, or only those that occur if there are too many."""
        targets, predictions = self._class_indices()
        size = len(self.names) or int(max(targets.max(initial=0), predictions.max(initial=0))) + 1
        return np.arange(size) if size <= MAX_CLASSES else np.union1d(targets, predictions)

    def displayed_classes(self) -> npt.NDArray[np.int64]:
        """Return the classes that `counts` includes: the most frequent ones if there are more than `MAX_CLASSES`."""
        classes = self.classes()
        if len(classes) <= MAX_CLASSES:
            return classes
        num_samples = np.bincount(
            np.searchsorted(classes, np.concatenate(self._class_indices())), minlength=len(classes)
        )
        return np.sort(classes[np.argsort(-num_samples, kind="stable")[:MAX_CLASSES]])

    def labels(self) -> list[str]:
        """Return the names of the classes that `counts` includes."""
        return [self.names[index] if self.names else str(index) for index in self.displayed_classes().tolist()]

    def counts(self) -> npt.NDArray[np.int64]:
        """Return the number of samples by true class (rows) and predicted class (columns); see `displayed_classes`."""
        targets, predictions = self._class_indices()
        classes = self.displayed_classes()
        size = len(classes)
        is_displayed = np.isin(targets, classes) & np.isin(predictions, classes)
        rows, columns = (np.searchsorted(classes, indices[is_displayed]) for indices in (targets, predictions))
        return np.bincount(rows * size + columns, minlength=size * size).reshape(size, size)

    def per_class_recall(self) -> npt.NDArray[np.float64]:
        """Return the recall of each class in `classes()`, 0 to 1; NaN for a class without samples."""
        targets, predictions = self._class_indices()
        classes = self.classes()
        rows = np.searchsorted(classes, targets)
        num_samples = np.bincount(rows, minlength=len(classes))
        num_correct = np.bincount(rows[targets == predictions], minlength=len(classes))
        return np.where(num_samples > 0, num_correct / np.maximum(num_samples, 1), np.nan)

    def _class_indices(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        return np.asarray(self.targets).astype(np.int64), np.asarray(self.predictions).astype(np.int64)

    def png(self) -> bytes:
        """Return the content of a PNG file with a shaded cell per pair of classes, in the order of `labels()`."""
        return self._png

    @cached_property
    def _png(self) -> bytes:
        return encode_png(draw_confusion_matrix(self.counts()))
