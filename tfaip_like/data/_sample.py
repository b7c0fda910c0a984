"""Samples, array specifications and modes."""

from __future__ import annotations

import math
import operator
import reprlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import with_article

VALUES_PER_CHUNK = 2**20

SAMPLE_WEIGHT = "sample_weight"
"""Target with the weight of a sample in losses and metrics."""

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]
"""Arrays by name."""

MAX_SHOWN_VALUES = 10
"""Maximum number of array values in a line of text."""


DTYPES = (
    *("float32", "float16", "bfloat16", "float64", "float8_e4m3fn", "float8_e5m2"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("bool", "complex64", "complex128"),
    "str",
)
"""Dtypes of arrays. All but `str` are supported by tensors on every backend."""


class Mode(Enum):
    """Purpose of data: training, evaluation or prediction.

    Example:
        >>> Mode("train")
        <Mode.TRAIN: 'train'>
    """

    TRAIN = "train"
    EVALUATE = "evaluate"
    PREDICT = "predict"


@dataclass(frozen=True)
class Sample:
    """Single example: named arrays without a batch axis.

    Numbers and lists are accepted in place of arrays.

    Raises:
        TypeError: if an argument is not a mapping.

    Example:
        >>> sample = Sample(inputs={"x": [1.0, 2.0]}, targets={"label": 3}, meta={"file": "a.png"})
        >>> sample.targets["label"]
        3
    """

    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Model inputs."""
    targets: Mapping[str, Any] = field(default_factory=dict)
    """Ground truth."""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    """Model outputs, after prediction."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Metadata, such as a file name, that is not passed to the model. Losses and metrics see the entries declared in
    `Data.targets`."""

    def __post_init__(self) -> None:
        for kind in _KINDS:
            value = getattr(self, kind)
            if type(value) is not dict and not isinstance(value, Mapping):  # the check of an abstract class is slow
                got = type(value).__name__
                raise TypeError(
                    f"Sample({kind}=...): expected named arrays, {{'name': array}}, got {with_article(got)}"
                )


_KINDS = tuple(kind.name for kind in fields(Sample))


def to_sample(item: object, inputs: Collection[str], targets: Collection[str]) -> Sample:
    """Convert `(x, y)`, `(x,)` or `(x, y, sample_weight)` to a sample; return a sample unchanged.

    Args:
        item: sample, or tuple of arrays or named arrays, such as `({"image": x}, y)`.
        inputs: names of the inputs; a single one names an array without a name.
        targets: names of the targets, likewise; a sample weight is the target `sample_weight`.

    Raises:
        ValueError: if the item is anything else; the text continues a sentence about it.

    Example:
        >>> to_sample((3, {"label": 1}), ["x"], ["label"])
        Sample(inputs={'x': 3}, targets={'label': 1}, outputs={}, meta={})
    """
    if isinstance(item, Sample):
        return item
    if type(item) is not tuple:
        raise ValueError(f"is {with_article(type(item).__name__)}, expected Sample(inputs=..., targets=...) or (x, y)")
    if len(item) == 3 and SAMPLE_WEIGHT not in targets:
        raise ValueError(f"is a tuple of length 3 with a weight: declare the target {SAMPLE_WEIGHT!r}, Spec(())")
    if len(item) not in (1, 2, 3):
        raise ValueError(f"is a tuple of length {len(item)}, expected (x, y) or Sample(inputs=..., targets=...)")
    kinds = (("inputs", inputs), ("targets", [name for name in targets if name != SAMPLE_WEIGHT]))
    named = [_to_named_arrays(kind, value, names) for (kind, names), value in zip(kinds, item, strict=False)]
    if len(item) == 3:
        named[1] = {**named[1], SAMPLE_WEIGHT: item[2]}
    return Sample(*named)


def _to_named_arrays(kind: str, value: Any, names: Collection[str]) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    if len(names) != 1:
        what = f"the {kind} {', '.join(names)}" if names else f"no {kind}"
        raise ValueError(
            f"is a tuple with {with_article(type(value).__name__)} for {what}, expected {{'name': array, ...}}"
        )
    return {next(iter(names)): value}


def get_target(sample: Sample, name: str) -> Any:
    """Return a target of a sample, or else the entry of its meta with this name.

    Raises:
        KeyError: if the name is in neither.
    """
    return sample.targets[name] if name in sample.targets else sample.meta[name]


def format_example(sample: Sample) -> str:
    """Format targets and outputs of a predicted sample in one line."""
    kinds = (("target", sample.targets), ("output", sample.outputs))
    parts = [f"{kind} {name} {_format_value(value)}" for kind, values in kinds for name, value in values.items()]
    return ", ".join(parts)


def _format_value(value: Any) -> str:
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.number):
        return reprlib.repr(value if isinstance(value, str) else array.tolist())
    numbers = " ".join(f"{number:.4g}" for number in array.ravel()[:MAX_SHOWN_VALUES].tolist())
    if array.ndim == 0:
        return numbers
    return f"[{numbers}]" if array.size <= MAX_SHOWN_VALUES else f"[{numbers} ...] of shape {array.shape}"


def as_read_only(sample: Sample) -> Sample:
    """Return a copy with read-only inputs and targets, which protects the source from accidental changes."""
    inputs = {name: _read_only(value) for name, value in sample.inputs.items()}
    targets = {name: _read_only(value) for name, value in sample.targets.items()}
    if type(sample) is Sample:  # several times faster than `replace`
        return Sample(inputs, targets, sample.outputs, sample.meta)
    return replace(sample, inputs=inputs, targets=targets)


def _read_only(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.flags.writeable:
        value = value.view()
        value.flags.writeable = False
    return value


@dataclass(frozen=True)
class Spec:
    """Specification of a named array of one sample.

    Raises:
        TypeError: if the shape, dtype or padding value is invalid.

    Example:
        >>> Spec((None, 3)).validation_error([[1.0, 2.0]])
        'has shape (1, 2), but its Spec says (any, 3)'
    """

    shape: tuple[int | None, ...]
    """Shape without the batch axis; None is an axis of unknown length, padded to the longest sample of a batch."""
    dtype: str = "float32"
    """Dtype of the tensor. Texts (`str`) are inputs of networks on TensorFlow only; as targets they are for
    evaluators, not for losses and metrics."""
    padding: float | int = 0
    """Value that axes of unknown length are padded with, at their end; texts are padded with ''."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _validate_shape(self.shape))
        object.__setattr__(self, "dtype", _validate_dtype(self.dtype))
        if self.is_text:
            if self.padding != 0:
                raise TypeError(f"Spec(..., 'str', padding={self.padding!r}): texts are padded with ''")
            return
        if isinstance(self.padding, bool) or not isinstance(self.padding, (int, float, np.number)):
            raise TypeError(f"Spec(..., padding={self.padding!r}): must be a number")
        if (
            not np.issubdtype(self.dtype, np.inexact)
            and self.dtype != "bfloat16"
            and not self._can_represent(self.padding)
        ):
            raise TypeError(
                f"Spec(..., {self.dtype!r}, padding={self.padding!r}): {self.dtype} cannot represent the padding value"
            )

    def _can_represent(self, value: float) -> bool:
        if not math.isfinite(value) or value != int(value):
            return False
        limits = np.iinfo(self.dtype) if self.dtype != "bool" else None
        return 0 <= value <= 1 if limits is None else limits.min <= value <= limits.max

    @property
    def is_text(self) -> bool:
        """Return whether the values are texts."""
        return self.dtype == "str"

    @property
    def tensor_dtype(self) -> str:
        """Return the dtype as Keras and TensorFlow name it."""
        return "string" if self.is_text else self.dtype

    @property
    def is_static(self) -> bool:
        """Return whether every sample has the same shape."""
        return None not in self.shape

    @property
    def static_shape(self) -> tuple[int, ...]:
        """Return the shape, which must not have axes of unknown length."""
        return tuple(axis for axis in self.shape if axis is not None)

    @cached_property
    def numpy_dtype(self) -> np.dtype[Any]:
        """Return the dtype of arrays: texts are Python objects, because their lengths differ."""
        return np.dtype(object) if self.is_text else np.dtype(self.dtype)

    def convert(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a valid array of one or many samples with the dtype of the specification."""
        return to_text_array(array) if self.is_text else array.astype(self.dtype, copy=False)

    def validation_error(self, value: Any) -> str | None:
        """Return what is wrong with an array, to follow its name in a message; None if it is valid."""
        try:
            array = to_unmasked_array(value)
        except ValueError as error:  # masked values, ragged lists
            return str(error)
        if len(array.shape) != len(self.shape) or any(
            want is not None and have != want for have, want in zip(array.shape, self.shape, strict=True)
        ):
            return f"has shape {_format_shape(array.shape)}, but its Spec says {_format_shape(self.shape)}"
        return self.dtype_validation_error(array)

    def dtype_validation_error(self, array: npt.NDArray[Any]) -> str | None:
        """Return what is wrong with the dtype or range of the values of one or many samples; None if nothing is."""
        if self.is_text:
            return _text_validation_error(array)
        integers = np.issubdtype(array.dtype, np.integer) and np.issubdtype(self.dtype, np.integer)
        if not integers and not np.can_cast(array.dtype, self.dtype, casting="same_kind"):
            if array.dtype.kind == "f" and np.isnan(array).any():
                return self._nan_error()
            hint = _HINTS.get(array.dtype.kind, "")
            return f"has dtype {array.dtype}, which cannot be cast to the {self.dtype} of its Spec{hint}"
        if integers and array.dtype != self.dtype and array.size:
            limits = np.iinfo(self.dtype)
            if array.min() < limits.min or array.max() > limits.max:
                return f"has values out of the range of the {self.dtype} of its Spec"
        return None

    def find_unrepresentable_floats(self, array: npt.NDArray[Any]) -> tuple[list[int], str]:
        """Return the rows with floats that the dtype cannot represent, and what is wrong with them.

        Args:
            array: floats of all samples, shape (N, ...).
        """
        dtype = np.dtype(self.dtype)
        if dtype.kind in "biu":
            return _find_rows(np.isnan, array), self._nan_error()
        if dtype.kind != "f" or dtype.itemsize >= array.itemsize:
            return [], ""
        largest = np.finfo(dtype).max
        rows = _find_rows(lambda values: np.isfinite(values) & (np.abs(values) > largest), array)
        return rows, f"has a value that is too large for the {self.dtype} of its Spec"

    def _nan_error(self) -> str:
        return f"has missing values (NaN), which the {self.dtype} of its Spec cannot represent"


_HINTS = {
    "U": "; encode texts as categories (TableFormat) or in a processor, or declare Spec(..., 'str')",
    "S": "; decode bytes to numbers in a processor",
    "O": "; convert Python objects to numeric arrays",
    "M": "; convert dates to numbers in a processor",
    "m": "; convert durations to numbers in a processor",
}
"""Hints for non-numeric arrays, by the kind of their dtype."""


def to_unmasked_array(value: Any) -> npt.NDArray[Any]:
    """Convert a value to an array without a mask; masked floats become NaN.

    Raises:
        ValueError: for masked values other than floats, and ragged lists.
    """
    if not isinstance(value, np.ma.MaskedArray):
        try:
            return np.asarray(value)
        except ValueError as error:
            raise ValueError(f"is not an array ({error})") from error
    if not np.ma.getmaskarray(value).view(bool).any():
        return value.data
    if value.dtype.kind not in "fc":
        raise ValueError(f"has masked values, which {value.dtype} cannot represent; fill them, as in array.filled(0)")
    filled: npt.NDArray[Any] = value.filled(np.nan)
    return filled


def without_texts(arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays that are not texts, with which losses and metrics cannot compute."""
    return {name: array for name, array in arrays.items() if array.dtype != object}


def to_text_array(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array of texts or of UTF-8 bytes as an array of `str` objects.

    Example:
        >>> to_text_array(np.array([b"one", b"two"]))
        array(['one', 'two'], dtype=object)
    """
    texts = np.empty(array.shape, object)
    texts.reshape(-1)[:] = [
        value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for value in array.reshape(-1).tolist()
    ]
    return texts


def _text_validation_error(array: npt.NDArray[Any]) -> str | None:
    """Return what is wrong with an array of texts, to follow its name in a message; None if it is valid."""
    if array.dtype.kind in "US":
        return None
    if array.dtype.kind != "O":
        return f"has dtype {array.dtype}, but its Spec says str" if array.size else None
    wrong = next((value for value in array.reshape(-1).tolist() if not isinstance(value, str | bytes)), "")
    if wrong is None or (isinstance(wrong, float) and math.isnan(wrong)):
        return "has a missing value (None, NaN), but its Spec says str; replace it, for example by ''"
    return f"contains {with_article(type(wrong).__name__)}, but its Spec says str" if wrong != "" else None


def _find_rows(condition: Callable[[npt.NDArray[Any]], npt.NDArray[np.bool_]], array: npt.NDArray[Any]) -> list[int]:
    """Return the rows with a value that meets a condition; evaluated in chunks to limit the memory."""
    step = max(1, VALUES_PER_CHUNK // max(1, array[:1].size))
    rows: list[int] = []
    for begin in range(0, len(array), step):
        mask = condition(array[begin : begin + step])
        rows += (begin + np.flatnonzero(mask.reshape(len(mask), -1).any(axis=1))).tolist()
    return rows


def _validate_shape(shape: Any) -> tuple[int | None, ...]:
    try:
        axes = tuple(None if axis is None else operator.index(axis) for axis in shape)
    except TypeError:
        axes = (-1,)
    if not isinstance(shape, tuple) or any(axis is not None and axis < 0 for axis in axes):
        raise TypeError(f"Spec({shape!r}): the shape must be a tuple of lengths, such as (28, 28), (None, 3) or ()")
    return axes


def _validate_dtype(dtype: Any) -> str:
    """Return the name of a dtype; raise `TypeError` if tensors do not support it."""
    if dtype in (str, "string"):
        return "str"
    if dtype in (float, int, "float", "int"):
        name = dtype if isinstance(dtype, str) else dtype.__name__
        raise TypeError(f"Spec(..., {name}): ambiguous dtype; use {name}32 or {name}64")
    try:
        name = str(dtype) if str(dtype) in DTYPES else np.dtype(dtype).name
    except TypeError:
        name = ""
    if name not in DTYPES or dtype is None:
        raise TypeError(f"Spec(..., {dtype!r}): unsupported dtype; expected one of {', '.join(DTYPES)}")
    return name


def _format_shape(shape: tuple[int | None, ...]) -> str:
    axes = ["any" if axis is None else str(axis) for axis in shape]
    return f"({axes[0]},)" if len(axes) == 1 else f"({', '.join(axes)})"
