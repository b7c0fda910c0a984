"""Items of datasets as samples: tuples by position, mappings by name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np

from tfaip_like._user_code.code_errors import CodeError
from tfaip_like._utils.errors import truncate_list, with_article
from tfaip_like.data._sample import SAMPLE_WEIGHT, Sample, Spec
from tfaip_like.data._sources.indexed import IndexedSequence

Specs = Mapping[str, Spec]
BeginPass = Callable[[int, int], Iterable[Any]]
"""Function from the number of a pass and the seed of the run to the items of the pass."""

NUM_CACHED_BATCHES = 16
"""Batches that `UnbatchedSequence` keeps, and the maximum of a window within which it is shuffled."""


class ItemReader:
    """Converter of the items of a dataset to samples.

    A tuple is `(x,)`, `(x, y)` or `(x, y, sample_weight)`, where x and y are mappings, tuples or single arrays. A
    mapping has inputs and targets by name; what is neither becomes meta.

    Args:
        inputs: specification of each input.
        targets: specification of each target.
        where: name of the dataset, for messages.
        code: method that returned the dataset, for messages.

    Example:
        >>> read = ItemReader({"x": Spec(())}, {"y": Spec(())}, "the dataset")
        >>> read((1, 2)) == read({"x": 1, "y": 2}) == Sample({"x": 1}, {"y": 2})
        True
    """

    def __init__(self, inputs: Specs, targets: Specs, where: str, code: object = None):
        self.inputs = inputs
        self.targets = targets
        self._where = where
        self._code = code

    def __call__(self, item: Any) -> Sample:
        """Convert an item.

        Raises:
            CodeError: if inputs are missing; names what is there and what is expected.
        """
        if isinstance(item, Sample):
            return item
        if isinstance(item, Mapping):
            return self._from_mapping(item)
        parts = list(item) if isinstance(item, tuple | list) else [item]
        if len(parts) not in (1, 2, 3):
            raise self.error(
                f"an item is a tuple of length {len(parts)}, expected (x, y), (x, y, sample_weight) or a "
                f"mapping with {', '.join([*self.inputs, *self.targets])}"
            )
        if len(parts) == 1 and isinstance(parts[0], Mapping):
            return self._from_mapping(parts[0])
        names = [name for name in self.targets if name != SAMPLE_WEIGHT]
        kinds = (("input", list(self.inputs)), ("target", names), ("weight", [SAMPLE_WEIGHT]))
        named = [self._name(kind, names, part) for (kind, names), part in zip(kinds, parts, strict=False)]
        if len(named) == 3 and SAMPLE_WEIGHT not in self.targets:
            raise self.error(f"an item has a weight: declare the target {SAMPLE_WEIGHT!r}, Spec(())")
        targets = {name: value for part in named[1:] for name, value in part.items()}
        return Sample(named[0], targets)

    def error(self, message: str) -> CodeError:
        """Return an error about the dataset."""
        return CodeError(f"{self._where}: {message}", *([] if self._code is None else [self._code]))

    def _from_mapping(self, item: Mapping[str, Any]) -> Sample:
        missing = [name for name in self.inputs if name not in item]
        if missing:
            raise self.error(
                f"no input {missing[0]!r} in an item with {truncate_list([str(key) for key in item])}; "
                f"expected {', '.join([*self.inputs, *self.targets])}"
            )
        values = {name: to_numpy(value) for name, value in item.items()}
        known = {*self.inputs, *self.targets}
        return Sample(
            {name: values[name] for name in self.inputs},
            {name: values[name] for name in self.targets if name in values},
            meta={name: value for name, value in values.items() if name not in known},
        )

    def _name(self, kind: str, names: Sequence[str], value: Any) -> dict[str, Any]:
        """Return the arrays of one part of a tuple by name."""
        if isinstance(value, Mapping):
            if kind == "input" and (missing := [name for name in names if name not in value]):
                have = truncate_list([str(key) for key in value])
                raise self.error(f"no input {missing[0]!r} in an item with {have}")
            return {name: to_numpy(value[name]) for name in names if name in value}
        parts = [value] if len(names) == 1 else value
        if not isinstance(parts, tuple | list) or len(parts) != len(names):
            have = f"{len(parts)} values" if isinstance(parts, tuple | list) else with_article(type(value).__name__)
            raise self.error(
                f"an item has {have} for the {kind}s {', '.join(names) or '(none)'}; expected a mapping, "
                "or a tuple in this order"
            )
        return {name: to_numpy(part) for name, part in zip(names, parts, strict=True)}


def to_numpy(value: Any) -> Any:
    """Return a tensor of any library, or an image of Pillow, as an array; other values unchanged."""
    module = type(value).__module__.partition(".")[0]
    if module == "torch":
        return value.detach().cpu().numpy()
    if module in ("tensorflow", "jax", "jaxlib", "PIL"):
        return np.asarray(value)
    return value


class ItemSequence(IndexedSequence[Sample]):
    """Random-access dataset as a source.

    Args:
        dataset: object with `__len__` and `__getitem__`.
        read: converts an item.
        batch_length: samples in a batch of the loader that the dataset is from; None without one.
    """

    def __init__(self, dataset: Any, read: ItemReader, batch_length: int | None = None):
        self.dataset = dataset
        self.batch_length = batch_length
        self._read = read

    def __len__(self) -> int:
        return len(self.dataset)

    def at(self, index: int) -> Sample:
        """Return the sample at an index."""
        return self._read(self.dataset[index])


class ItemIterable:
    """Iterable dataset, of samples or of batches, as a source; each pass begins a new iterator.

    Args:
        begin: returns the iterable for a pass, from its number and the seed of the run.
        read: converts an item.
        name: name of the dataset, for messages.
        is_finite: a pass is known to end, so that its samples can be counted.

    Attributes:
        is_batched: whether its items are batches; None until the first one is read.
        batch_length: samples in the first batch; None until it is read.
    """

    def __init__(self, begin: BeginPass, read: ItemReader, name: str, is_finite: bool = False):
        self.begin = begin
        self.name = name
        self.is_finite = is_finite
        self.is_batched: bool | None = None
        self.batch_length: int | None = None
        self._read = read

    def __iter__(self) -> Iterator[Sample]:
        for item in self.begin(0, 0):
            yield from self.split(self.convert(item))

    def convert(self, item: Any) -> Sample:
        """Return an item as a sample or a batch."""
        converted = self._read(item)
        if self.is_batched is None:
            self.is_batched = is_batched(converted, self._read.inputs)
            self.batch_length = _batch_length(converted) if self.is_batched else None
        return converted

    def length(self, converted: Sample) -> int:
        """Return the number of samples of a converted item."""
        return _batch_length(converted) if self.is_batched else 1

    def split(self, converted: Sample) -> Iterable[Sample]:
        """Return the samples of a converted item."""
        return split_batch(converted) if self.is_batched else [converted]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "begin": None}  # only the main process reads it


def is_known_to_end(source: object) -> bool:
    """Return whether a pass over an iterable-only source is known to end."""
    return isinstance(source, ItemIterable) and source.is_finite


def iterate_same(dataset: Any) -> BeginPass:
    """Return the function that begins a pass over a dataset whose iterators are made from itself."""

    def begin(data_pass: int, seed: int) -> Iterable[Any]:
        if callable(set_epoch := getattr(dataset, "set_epoch", None)):
            set_epoch(data_pass)  # shuffles it in another order in each pass
        return cast("Iterable[Any]", dataset)

    return begin


class UnbatchedSequence(IndexedSequence[Sample]):
    """Random-access dataset of batches as a source of their samples, with the interface of `BlockSource`.

    It is shuffled within windows of some batches, so that each is read once.

    Args:
        batches: object with `__len__` and `__getitem__`; all batches but the last have the same size.
        read: converts a batch, like an item.
    """

    def __init__(self, batches: Any, read: ItemReader):
        self._batches = batches
        self._read = read
        first, last = read(batches[0]), read(batches[len(batches) - 1])
        self.batch_length = _batch_length(first)
        length = (len(batches) - 1) * self.batch_length + _batch_length(last)
        self.block_ends = np.minimum(np.arange(1, len(batches) + 1) * self.batch_length, length)
        nbytes = sum(np.asarray(array).nbytes for array in (*first.inputs.values(), *first.targets.values()))
        self.sample_bytes = nbytes / self.batch_length
        self.max_window_bytes = NUM_CACHED_BATCHES * nbytes
        self._cached: OrderedDict[int, list[Sample]] = OrderedDict()
        """Samples of the batches that were read last, by number."""

    def __len__(self) -> int:
        return int(self.block_ends[-1])

    def at(self, index: int) -> Sample:
        """Return the sample at an index."""
        number, row = divmod(index, self.batch_length)
        if number not in self._cached:
            self._cached[number] = list(split_batch(self._read(self._batches[number])))
            if len(self._cached) > NUM_CACHED_BATCHES:
                self._cached.popitem(last=False)
        return self._cached[number][row]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cached": OrderedDict()}  # a data worker reads its own


def convert_sequence(dataset: Any, read: ItemReader) -> IndexedSequence[Sample]:
    """Return a random-access dataset, of samples or of batches, as a source."""
    has_batches = len(dataset) > 0 and is_batched(read(dataset[0]), read.inputs)
    return UnbatchedSequence(dataset, read) if has_batches else ItemSequence(dataset, read)


def split_batch(batch: Sample) -> Iterator[Sample]:
    """Yield the samples of a batch, whose arrays have a batch axis."""
    length = _batch_length(batch)
    for row in range(length):
        yield Sample(
            {name: value[row] for name, value in batch.inputs.items()},
            {name: value[row] for name, value in batch.targets.items()},
            meta={
                name: value[row] if np.shape(value)[:1] == (length,) else value for name, value in batch.meta.items()
            },
        )


def _batch_length(batch: Sample) -> int:
    return len(next(iter(batch.inputs.values())))


def is_batched(sample: Sample, inputs: Specs) -> bool:
    """Return whether the arrays of an item have a batch axis more than the specifications say."""
    return all(
        np.ndim(sample.inputs[name]) == len(spec.shape) + 1 for name, spec in inputs.items() if name in sample.inputs
    )
