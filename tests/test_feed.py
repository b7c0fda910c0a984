"""Training feed: batches written to preallocated stacks, prefetched in a thread."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import Line, Points, small

from tfaip_like import ArraySource, Data, Mode, Sample, Spec, Tensors, ops, train
from tfaip_like._training.device_usage import DeviceUsage
from tfaip_like._training.feed import StackRing
from tfaip_like._utils.errors import Interrupted
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.data._loader.loader import DataLoader, LoaderClosedError
from tfaip_like.data._workers.background import Prefetcher

DTYPES = ("float32", "float64", "float16", "bfloat16", "int8", "uint8", "int16", "int32", "int64", "uint32", "bool")
LAYOUTS: Mapping[str, Any] = {
    "rows": lambda array: array,
    "columns": np.asfortranarray,
    "reversed": lambda array: array[::-1],
    "part": lambda array: np.concatenate([array, array], axis=-1)[..., : array.shape[-1]],
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")) if array.dtype != "bfloat16" else array,
}
SAMPLES, BATCH = 23, 4


def open_loader(source: Any, dtype: str) -> DataLoader:
    class Rows(Data):
        inputs = {"x": Spec((3,), dtype)}
        targets = {"y": Spec((), "int32")}

        def source(self, mode: Mode) -> Any:
            return source

    loader = TrainLoaderSettings(batch_size=BATCH)
    return DataLoader(Rows(), source, loader, Mode.TRAIN, 1, "train", samples_per_epoch=20)


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    is_cast=st.booleans(),
    layout=st.sampled_from(sorted(LAYOUTS)),
    first=st.integers(0, 12),
    steps=st.integers(1, 5),
)
def test_stacks_written_in_place_equal_single_batches(
    dtype: str, is_cast: bool, layout: str, first: int, steps: int
) -> None:
    values = np.random.default_rng(0).integers(0, 2, (SAMPLES, 3)).astype("bool" if is_cast else dtype)
    source = ArraySource({"x": LAYOUTS[layout](values)}, {"y": np.arange(SAMPLES)})
    loader = open_loader(source, dtype)
    ring = StackRing(loader, 5)

    stacks = loader.iter_training(first, first + 7, steps, new_stack=lambda: ring.acquire().batch)
    stack = next(stacks)

    for number, batch in enumerate(stack.unstack()):
        single = loader.batch(first + number)
        for name, array in (*batch.inputs.items(), *batch.targets.items()):
            expected = {**single.inputs, **single.targets}[name]
            assert array.dtype == expected.dtype
            assert array.tobytes() == expected.tobytes()


def test_a_stack_is_not_overwritten_until_it_is_released() -> None:
    loader = open_loader([Sample({"x": np.ones(3)}, {"y": 0})], "float32")
    ring = StackRing(loader, 2)
    stacks = [ring.acquire() for _ in range(3)]
    acquired: list[Any] = []
    thread = threading.Thread(target=lambda: acquired.append(ring.acquire()), daemon=True)
    thread.start()

    assert not acquired
    stacks[1].release()
    thread.join()
    assert acquired == [stacks[1]]


def test_a_closed_ring_ends_waiting_for_a_stack() -> None:
    ring = StackRing(open_loader([Sample({"x": np.ones(3)}, {"y": 0})], "float32"), 2)
    for _ in range(3):
        ring.acquire()
    ring.close()
    for _ in range(2):
        with pytest.raises(LoaderClosedError):
            ring.acquire()


class LastInput(keras.layers.Layer):  # type: ignore[misc]
    """Keeps its last input in a variable."""

    def build(self, shape: tuple[int | None, ...]) -> None:
        self.last = self.add_weight(shape=(10, 2), initializer="zeros", trainable=False, name="last")

    def call(self, x: Any, training: bool = False) -> Any:
        if training:
            self.last.assign(x)
        return x


class Remembering(Line):
    """Line behind a layer that keeps its last input."""

    def build(self, inputs: Tensors) -> Tensors:
        return super().build({"x": LastInput(name="memory")(inputs["x"])})


@pytest.mark.parametrize(
    "flags",
    [
        {"steps_per_execution": 5, "jit_compile": True},
        {"steps_per_execution": 5, "jit_compile": False},
        {"jit_compile": None, "force_eager": True},
    ],
)
def test_a_layer_may_keep_its_input(flags: dict[str, Any]) -> None:
    data = Points(samples=50)
    source = data.source(Mode.TRAIN)
    assert isinstance(source, ArraySource)

    result = train(
        small(
            model=Remembering(),
            data=data,
            train={"batch_size": 10, "shuffle": False},
            trainer={"epochs": 1, **flags},
        )
    )
    kept = result.network.get_layer("memory").last
    again = np.asarray(ops.convert_to_numpy(kept))

    assert again.tobytes() == source.inputs["x"][40:].tobytes()


def failing(items: int) -> Iterator[int]:
    yield from range(items)
    raise ValueError("item is bad")


def test_a_prefetcher_raises_an_error_after_the_items_before_it() -> None:
    prefetcher = Prefetcher(failing(5), depth=2, check=lambda: None)

    assert [next(prefetcher) for _ in range(5)] == list(range(5))
    for _ in range(2):
        with pytest.raises(ValueError, match="item is bad"):
            next(prefetcher)


def test_a_prefetcher_computes_no_more_items_than_its_depth_ahead() -> None:
    computed: list[int] = []
    more = threading.Event()

    def items() -> Iterator[int]:
        for number in range(100):
            computed.append(number)
            if number == 4:
                more.set()
            yield number

    prefetcher = Prefetcher(items(), depth=3, check=lambda: None)
    assert next(prefetcher) == 0
    assert next(prefetcher) == 1
    assert more.wait(60)
    prefetcher.close()
    assert computed == [0, 1, 2, 3, 4]


def test_waiting_for_an_item_that_never_comes_can_be_interrupted() -> None:
    checks = iter([False, False, True])

    def check() -> None:
        if next(checks):
            raise Interrupted(signal.SIGINT)

    release = threading.Event()
    prefetcher = Prefetcher(iter(lambda: release.wait(), None), depth=1, check=check)
    with pytest.raises(Interrupted):
        next(prefetcher)
    prefetcher.stop()
    release.set()


def test_a_closed_prefetcher_has_ended_its_thread() -> None:
    def items() -> Iterator[int]:
        for number in range(1000):
            time.sleep(0.001)
            yield number

    before = set(threading.enumerate())
    prefetcher = Prefetcher(items(), depth=2, check=lambda: None)
    next(prefetcher)
    prefetcher.close()
    assert not any(thread.name == "prefetch" for thread in set(threading.enumerate()) - before)


def test_batches_are_built_while_the_step_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    def analyze(usage: DeviceUsage) -> None:
        threads.extend(thread.name for thread in threading.enumerate())

    monkeypatch.setattr(DeviceUsage, "analyze", analyze)
    # More batches than are built ahead: the thread does not end.
    train(small(trainer={"epochs": 1, "steps_per_execution": 1}))
    assert "prefetch" in threads
