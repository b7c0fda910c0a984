"""Iterable-only sources: state of their iterators, reading again, and sources that cannot be repeated."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from conftest import slow
from small import Points

from tfaip_like import Mode, UsageError
from tfaip_like._utils.typed_json import decode
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.data._loader import source_passes
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.data._loader.loader_factory import open_training
from tfaip_like.data._loader.source_passes import SourceMark
from tfaip_like.data._loader.streams import StreamState
from tfaip_like.data._sources.iterator_state import decode_state, encode_state
from tfaip_like.data._sources.opening import open_source

NUM_SAMPLES = 1000


@pytest.fixture(autouse=True)
def set_all_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set marks independent of their cost."""
    monkeypatch.setattr(source_passes, "MAX_MARK_COST", float("inf"))


X = np.random.default_rng(1).random((NUM_SAMPLES, 2), dtype="float32")
Y = X.sum(axis=1)
BATCH_SIZE = 10


class Counter:
    """Iterator that counts how many items are read of all its iterators."""

    num_read = 0


class StatefulIterable:
    """Iterable whose iterators have a state, like those of Grain."""

    def __iter__(self) -> Iterator[Any]:
        return StatefulIterator()


class StatefulIterator:
    """Iterator with a state."""

    def __init__(self) -> None:
        self._at = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._at == NUM_SAMPLES:
            raise StopIteration
        self._at += 1
        Counter.num_read += 1
        return X[self._at - 1], Y[self._at - 1]

    def get_state(self) -> Any:
        return {"at": (self._at, np.int64(self._at), b"ab")}

    def set_state(self, state: Any) -> None:
        self._at = int(state["at"][1])


class WrongState(StatefulIterable):
    """Iterable whose state does not restore its position, like a shuffle buffer."""

    def __iter__(self) -> Iterator[Any]:
        iterator = StatefulIterator()
        iterator.set_state = lambda state: None  # type: ignore[method-assign]
        return iterator


def plain() -> Iterator[Any]:
    for x, y in zip(X, Y, strict=True):
        Counter.num_read += 1
        yield x, y


def random_items() -> Iterator[Any]:
    rng = np.random.default_rng()
    for _ in range(NUM_SAMPLES):
        yield rng.random(2, dtype="float32"), rng.random(dtype="float32")


def shuffled_tf_data(seed: int | None) -> Any:
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(300, seed=seed).batch(7)


def keras_windows() -> Any:
    keras = pytest.importorskip("keras")
    dataset = keras.utils.timeseries_dataset_from_array(X, Y, 1, batch_size=7, shuffle=True)
    return dataset.map(lambda x, y: (x[:, 0], y))


def hugging_face(shuffled: bool) -> Any:
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_dict({"x": X.tolist(), "y": Y.tolist()}).to_iterable_dataset(num_shards=4)
    return dataset.shuffle(seed=3, buffer_size=100) if shuffled else dataset


def grain(shuffled: bool) -> Any:
    grain = pytest.importorskip("grain")
    dataset = grain.MapDataset.source(list(zip(X, Y, strict=True)))
    return (dataset.shuffle(seed=2) if shuffled else dataset).to_iter_dataset().batch(8)


def torch_loader(stateful: bool) -> Any:
    data = pytest.importorskip("torch.utils.data")
    import torch

    dataset = data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    sampler = data.WeightedRandomSampler(torch.ones(NUM_SAMPLES), NUM_SAMPLES)
    if not stateful:
        return data.DataLoader(dataset, batch_size=16, sampler=sampler)
    stateful_dataloader = pytest.importorskip("torchdata.stateful_dataloader")
    return stateful_dataloader.StatefulDataLoader(dataset, batch_size=16, sampler=sampler)


class Given(Points):
    """Data that returns what a test gives it."""

    kind: str = ""
    """Kind of dataset."""

    def source(self, mode: Mode) -> Any:
        return KINDS[self.kind]()


KINDS: dict[str, Callable[[], Any]] = {
    "stateful": StatefulIterable,
    "wrong state": WrongState,
    "generator": plain,
    "random": random_items,
    "tf.data, shuffled": lambda: shuffled_tf_data(seed=None),
    "tf.data, shuffled with a seed": lambda: shuffled_tf_data(seed=5),
    "keras.utils, shuffled": lambda: keras_windows(),
    "Hugging Face": lambda: hugging_face(shuffled=False),
    "Hugging Face, shuffled": lambda: hugging_face(shuffled=True),
    "Grain": lambda: grain(shuffled=False),
    "Grain, shuffled": lambda: grain(shuffled=True),
    "PyTorch, own sampler": lambda: torch_loader(stateful=False),
    "wrong batches": lambda: iter([(X[:8], Y[:8]), (np.zeros((8, 3), "float32"), Y[:8])]),
    "torchdata": lambda: torch_loader(stateful=True),
}
WITH_STATE = ("stateful", "Hugging Face", "Grain", "Grain, shuffled", "torchdata")
RESHUFFLED = (
    "tf.data, shuffled",
    "tf.data, shuffled with a seed",
    "keras.utils, shuffled",
    "Hugging Face, shuffled",
    "PyTorch, own sampler",
)


def open_loader(kind: str, resume: str = "auto", **settings: Any) -> DataLoader:
    data = Given(kind=kind, resume=resume)
    source = open_source(data.source(Mode.TRAIN), data, Mode.TRAIN, reopen=lambda: data.source(Mode.TRAIN))
    train = TrainLoaderSettings(**{"batch_size": BATCH_SIZE, "num_processes": 0, "shuffle_buffer": 40, **settings})
    return open_training(data, source, train, NUM_SAMPLES, seed=3)


def read(loader: DataLoader, first: int, end: int) -> list[list[float]]:
    batches = loader.iter_training(first, end, 1)
    return [np.ravel(batch.targets["y"]).tolist() for batch in batches]


def state_at(loader: DataLoader, step: int) -> StreamState:
    """Return the state of a step as it is read from a checkpoint."""
    return decode(StreamState, json.loads(json.dumps(dataclasses.asdict(loader.stream_state(step)))), "state")  # type: ignore[call-overload]


STEPS = 250


def resume_at(
    step: int, kind: str, resume: str = "auto", **settings: Any
) -> tuple[list[list[float]], list[list[float]]]:
    """Return the batches after a step of an uninterrupted training, and of one that is resumed there."""
    whole = open_loader(kind, resume, **settings)
    expected = read(whole, 0, STEPS)[step:]
    before = open_loader(kind, resume, **settings)
    read(before, 0, step + 3)  # read ahead
    state = state_at(before, step)
    whole.close()
    before.close()
    Counter.num_read = 0
    after = open_loader(kind, resume, **settings)
    after.seek(step, state, is_same=True)
    batches = read(after, step, STEPS)
    after.close()
    return expected, batches


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("random", "wrong batches")])
@pytest.mark.parametrize("step", [slow(0), slow(61), 100, slow(163)])
def test_an_iterable_continues_with_the_same_samples_at_any_step(kind: str, step: int) -> None:
    expected, batches = resume_at(step, kind)
    assert batches == expected


@pytest.mark.parametrize("kind", WITH_STATE)
def test_the_state_of_an_iterator_saves_reading_again(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    expected, batches = resume_at(195, kind)
    assert batches == expected
    (line,) = [record.message for record in caplog.records if "from its state at sample" in record.message]
    assert "from its state at sample 8" in line
    if kind == "stateful":
        assert Counter.num_read < 700  # of the 550 samples that follow, and those of the block


def test_what_has_no_state_is_read_again_with_its_cost_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    resume_at(195, "generator")
    assert "resumed generator at sample 896 of the pass; read 896 samples again in" in caplog.text


def test_replay_does_not_use_the_state(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    expected, batches = resume_at(195, "stateful", "replay")
    assert batches == expected
    assert "read 896 samples again" in caplog.text


@pytest.mark.parametrize("kind", ["tf.data, shuffled", "Grain", "PyTorch, own sampler"])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("first", [1, 63, 127])
def test_batches_of_a_source_are_regrouped_as_if_they_were_taken_apart(kind: str, shuffle: bool, first: int) -> None:
    regrouped, apart = (open_loader(kind, shuffle=shuffle, shuffle_buffer=100 if shuffle else None) for _ in range(2))
    apart.stream.has_only_batches = lambda: False  # type: ignore[union-attr,method-assign]
    assert regrouped.stream.has_only_batches()  # type: ignore[union-attr]
    for loader in (regrouped, apart):
        read(loader, 0, first)
    assert read(regrouped, first, STEPS) == read(apart, first, STEPS)
    assert regrouped.stream_state(200).bookmark == apart.stream_state(200).bookmark  # type: ignore[union-attr]
    for loader in (regrouped, apart):
        loader.close()


def test_a_batch_that_does_not_match_its_spec_names_the_sample() -> None:
    loader = open_loader("wrong batches")
    with pytest.raises(UsageError, match=r"training sample 8 of Given: input 'x' has shape \(3,\)"):
        read(loader, 0, 3)
    loader.close()


@pytest.mark.parametrize("kind", RESHUFFLED)
def test_each_pass_has_another_order(kind: str) -> None:
    loader = open_loader(kind, shuffle=False)
    first, second = read(loader, 0, 100), read(loader, 100, 200)
    loader.close()
    assert first != second
    if kind != "PyTorch, own sampler":  # it draws with replacement
        assert sorted(np.ravel(first)) == sorted(np.ravel(second))


def test_a_state_that_does_not_restore_the_position_is_an_error_if_it_is_required() -> None:
    with pytest.raises(UsageError, match="yields another sample"):
        resume_at(195, "wrong state", "state")


def test_a_required_state_that_is_missing_is_an_error_at_the_start() -> None:
    loader = open_loader("generator", "state")
    with pytest.raises(UsageError, match="--data.resume state: generator has no state"):
        loader.first_batch()
    loader.close()


def test_a_source_that_yields_other_samples_is_an_error_when_it_is_resumed() -> None:
    with pytest.raises(UsageError, match=r"yields another sample \d+ in pass 1.*\n.*--data.resume inexact"):
        resume_at(80, "random")


def test_a_source_that_yields_other_samples_is_an_error_when_it_is_read_twice_at_the_start() -> None:
    loader = open_loader("random", num_processes=None)
    loader.auto_select_num_workers(10)
    with pytest.raises(UsageError, match="yields another sample 0 in pass 1"):
        read(loader, 0, 10)
    loader.close()


def test_other_samples_are_accepted_on_request() -> None:
    expected, batches = resume_at(80, "random", "inexact")
    assert batches != expected
    assert len(batches) == len(expected)


def test_marks_are_few() -> None:
    loader = open_loader("stateful")
    read(loader, 0, STEPS)
    assert len(state_at(loader, 200).source) <= 2
    loader.close()


@pytest.mark.parametrize("value", [None, True, 1.5, "a", [1, (2, b"3")], {1: {"a": ()}}])
def test_states_are_stored_as_json(value: Any) -> None:
    assert decode_state(json.loads(json.dumps(encode_state(value)))) == value


def test_an_array_in_a_state_is_stored() -> None:
    array = decode_state(json.loads(json.dumps(encode_state({"words": np.arange(3, dtype="uint8")}))))["words"]
    assert array.dtype == "uint8"
    assert array.tolist() == [0, 1, 2]


def test_a_state_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="SourceMark"):
        encode_state({"a": [SourceMark(0, 0, "")]})
