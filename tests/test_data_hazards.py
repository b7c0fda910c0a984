"""What went wrong once in the data pipeline, or nearly did."""

from __future__ import annotations

import dataclasses
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, slow
from worker_data import AtSample, Counted, Jitter, Pieces

from tfaip_like import ArraySource, Data, Interrupted, Mode, Processor, Sample, UsageError
from tfaip_like.data import (
    Mixture,
    StreamProcessor,
    TableSource,
    TrainLoaderSettings,
    Uniform,
    ValLoaderSettings,
    ValueFilter,
    process_samples,
)
from tfaip_like.data._loader.groups import DEFAULT_GROUP_SIZE, GroupBuilder, iter_groups
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.data._loader.loader_factory import open_training, open_validation
from tfaip_like.data._loader.sample_reader import SampleReader
from tfaip_like.data._workers.process_pool import ProcessPool


def open_loader(data: Data, samples_per_epoch: int | None = None, **settings: Any) -> DataLoader:
    train = TrainLoaderSettings(**{"batch_size": 8, "num_processes": 0, **settings})
    return open_training(data, data.source(Mode.TRAIN), train, samples_per_epoch, 7)


class Same(StreamProcessor):
    """Passes samples on as they are."""

    def process_group(self, samples: Iterable[Sample], random: np.random.Generator) -> Iterator[Sample]:
        yield from samples


class Marks(StreamProcessor):
    """Gives each sample a random number."""

    group = 5

    def process_group(self, samples: Iterable[Sample], random: np.random.Generator) -> Iterator[Sample]:
        for sample in samples:
            if sample.meta["number"] == 13:
                raise ValueError("not this group")
            yield dataclasses.replace(sample, inputs={"x": np.full(3, random.random(), "float32")})


class Sometimes(Processor):
    """Is random for some samples."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        assert isinstance(random, np.random.Generator)
        if sample.meta["number"] == 30:
            random.random()
        return sample


class Classes(Counted):
    """Classes that are pairs."""

    def class_label(self, sample: Sample) -> Any:
        return (sample.meta["number"] % 2, "pair")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_closing_data_workers_releases_all_resources() -> None:
    def once() -> None:
        batches = open_loader(Counted(processors=[Jitter()]), num_processes=2)
        next(batches.iter_training(0, 10))
        batches.close()

    once()
    gc.disable()
    try:
        before = descriptors()
        once()
        assert descriptors() <= before
    finally:
        gc.enable()


def test_starting_an_iteration_ends_the_previous_one_in_any_thread() -> None:
    samples = SampleReader(
        Counted(count=4000, processors=[Jitter()]), Counted(count=4000).source(Mode.TRAIN), Mode.TRAIN, 7
    )
    groups = list(iter_groups(samples, None, 0, None, DEFAULT_GROUP_SIZE))
    expected = [made.rows for made in map(GroupBuilder(samples), groups)]
    with ProcessPool(GroupBuilder(samples), 2, 8, timeout_seconds=120) as workers:
        taken: list[Any] = []
        first = threading.Thread(target=lambda: taken.extend(workers.run(groups)))
        first.start()
        while not taken and first.is_alive():
            time.sleep(0.01)
        assert [made.rows for made in workers.run(groups)] == expected
        first.join(120)
        assert not first.is_alive()


def test_results_that_were_mapped_from_a_file_are_copied(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(3000.0).reshape(-1, 3))
    source = TableSource([tmp_path / "a.npz"], {"x": "x"})
    before = descriptors()
    stream = process_samples(source, [Same()], num_processes=1)
    made = [next(stream) for _ in range(900)]
    assert descriptors() - before < 100
    np.testing.assert_array_equal(made[899].inputs["x"], source[899].inputs["x"])
    stream.close()  # type: ignore[attr-defined]


@pytest.mark.slow
def test_many_small_results_do_not_deadlock() -> None:
    samples = (Sample({name: np.zeros(1) for name in "abcd"}) for _ in range(9000))

    class Long(Same):
        group = 9000

    assert sum(1 for _ in process_samples(samples, [Long()])) == 9000
    samples = (Sample({name: np.zeros(1) for name in "abcd"}) for _ in range(9000))
    assert sum(1 for _ in process_samples(samples, [LongSame()], num_processes=2)) == 9000


class LongSame(Same):
    """In one large group."""

    group = 9000


def test_process_samples_does_not_depend_on_the_number_of_workers() -> None:
    samples = list(Counted().source(Mode.TRAIN))

    def numbers(count: int) -> list[bytes]:
        made = process_samples(iter(samples), [Jitter(), Pieces()], num_processes=count)
        return [sample.inputs["x"].tobytes() for sample in made]

    assert len(numbers(0)) == sum(number % 3 for number in range(50))
    assert numbers(0) == numbers(1) == numbers(2)


def test_an_idle_process_that_is_killed_blames_no_sample(caplog: pytest.LogCaptureFixture) -> None:
    data = Counted(processors=[Jitter()])
    batches = open_validation(data, data.source(Mode.EVALUATE), ValLoaderSettings(num_processes=1, batch_size=8), 7)
    assert batches is not None
    for _ in range(3):
        assert sum(len(batch) for batch in batches.iter_pass()) == 50
        assert batches.producer.workers is not None
        os.kill(batches.producer.workers.pids[0], signal.SIGKILL)
        time.sleep(0.3)
    batches.close()
    assert "while idle" in caplog.text


def test_ctrl_c_interrupts_scanning_caching_and_counting() -> None:
    def stop() -> None:
        raise Interrupted(signal.SIGINT)

    data = Counted(count=2000)
    for settings in (
        TrainLoaderSettings(filter=[ValueFilter(name="y", values=["3"])]),
        TrainLoaderSettings(cache="memory"),
    ):
        data = dataclasses.replace(data, processors=[AtSample(index=-1)])
        with pytest.raises(Interrupted):
            open_training(data, data.source(Mode.TRAIN), settings, None, 7, check=stop)
    for settings in (TrainLoaderSettings(), TrainLoaderSettings(cache="memory")):
        stream = dataclasses.replace(data, processors=[Same()])
        with pytest.raises(Interrupted):
            open_training(stream, stream.source(Mode.TRAIN), settings, None, 7, check=stop)


def test_each_group_has_different_random_numbers() -> None:
    data = Counted(count=10, processors=[Pieces(), Jitter()])
    source = Mixture([data.source(Mode.TRAIN)[:1], data.source(Mode.TRAIN)[1:]], weights=[0.5, 0.5])
    settings = TrainLoaderSettings(num_processes=0, batch_size=4, limit=None)
    batches = open_training(data, source, settings, 40, 7)
    groups = iter_groups(batches.samples, batches.order, 0, None, 4)
    rows = [row for made in map(GroupBuilder(batches.samples), groups) for row in made.rows]
    assert len(set(rows)) == len(rows)


def test_a_bad_group_is_skipped_and_named() -> None:
    data = Counted(processors=[Marks()])
    with pytest.raises(ValueError, match="not this group") as raised:
        list(open_loader(data, 40, shuffle=False).iter_training(0, 5))
    place = "training sample 13 of Counted, in the group that begins with training sample 10 of Counted"
    assert raised.value.__notes__ == [f"This was {place}."]
    skipping = open_loader(dataclasses.replace(data, on_bad_sample="skip"), 40, shuffle=False)
    bad = [one.place for batch in skipping.iter_training(0, 5) for one in batch.bad]
    assert bad == [place]


@pytest.mark.parametrize("what", ["raise", "drop"])
def test_the_first_sample_does_not_decide_what_is_cached(what: str) -> None:
    data = Counted(on_bad_sample="skip", processors=[AtSample(index=0, what=what), Jitter()])
    batches = open_loader(data, cache="memory")
    assert batches.samples.cache is not None
    assert batches.samples.cache.stages == 1


def test_a_processor_that_is_sometimes_random_cannot_be_cached() -> None:
    with pytest.raises(
        UsageError,
        match="Sometimes is not deterministic: it used its random generator on training sample 30 of Counted",
    ):
        open_loader(Counted(processors=[Sometimes()]), cache="memory")


def test_class_labels_may_be_any_hashable_value(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    batches = open_loader(Classes(processors=[AtSample(index=-1)]), balance="loss")
    assert "class weights: (0, 'pair') 1, (1, 'pair') 1" in caplog.text
    weights = batches.batch(0).weights
    assert weights is not None
    np.testing.assert_array_equal(weights, 1)


def test_an_unreadable_sample_does_not_change_the_balance() -> None:
    class Broken(Counted):
        def source(self, mode: Mode) -> Any:
            return [*super().source(mode), "no sample"]

    batches = open_loader(Broken(on_bad_sample="skip"), balance="sample")
    assert [bad.index for bad in batches.bad] == [50]
    assert len(batches) == 50


def test_weights_that_are_all_zero_are_reported() -> None:
    parts = [ArraySource({"x": np.zeros((9, 3))}, {"y": np.zeros(9, int)}) for _ in range(2)]
    mixture = Mixture(parts, weights=[0, 1])
    with pytest.raises(UsageError, match="have sampling weight 0"):
        open_training(Counted(), mixture, TrainLoaderSettings(limit=5), None, 7)
    with pytest.raises(UsageError, match="cannot be combined with resample"):
        open_training(Counted(), mixture, TrainLoaderSettings(resample=Uniform(target="y")), None, 7)
    with pytest.raises(UsageError, match="cannot be combined with length buckets"):
        open_training(Counted(ragged=True), mixture, TrainLoaderSettings(buckets=2), None, 7)


def test_numbers_of_files_that_only_a_larger_dtype_holds_are_kept(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.array([1], np.int8))
    np.savez(tmp_path / "b.npz", x=np.array([300]))
    for order in ("ab", "ba"):
        source = TableSource([tmp_path / f"{name}.npz" for name in order], {"x": "x"})
        assert sorted(source.inputs["x"].tolist()) == [1, 300]


SCENARIO = """
from worker_data import AtSample, Counted
from small import Line
from tfaip_like import *
from tfaip_like.settings import Trainer

class Two(Processor):
    def process(self, sample, random):
        return Sample({"x": sample.inputs["x"][:2]}, {"y": 0.0}, meta=sample.meta)

class Points(Counted):
    inputs = {"x": Spec((2,))}
    targets = {"y": Spec(())}

class Mine(Scenario):
    data: Data = Points(processors=[AtSample(what="drop", index=3), Two()])
    model: Model = Line()
    trainer: Trainer = Trainer(epochs=2)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "count"),
    [("tensorflow", 2), slow("jax", 0), slow("tensorflow", 0), slow("jax", 2)],
)
def test_validation_with_dropped_samples_works_on_each_backend(
    backend: str, count: int, run: Run, quick_run: Run, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(SCENARIO)
    environment = {"PYTHONPATH": str(Path(__file__).parent)}
    flags = ["--device.backend", backend, "--train.num_processes", count, "--val.num_processes", count]
    start = quick_run if backend == "tensorflow" else run
    done = start("train-scenario", "mine.py", *flags, cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    assert "epoch 2/2" in done.stderr
    for group, kind in (("train", "training"), ("val", "validation")):
        line = f"--{group}: AtSample dropped 1 of 50 samples ({kind} sample 3 of Points)"
        assert done.stderr.count(line) == 1
    assert "Warning" not in done.stderr


NEVER = """
class Never(Processor):
    modes = (Mode.EVALUATE,)
    def process(self, sample, random):
        return None

class Two"""


def test_an_empty_validation_set_is_reported(quick_run: Run, tmp_path: Path) -> None:
    text = SCENARIO.replace("class Two", NEVER).replace("Two()]", "Never(), Two()]")
    (tmp_path / "mine.py").write_text(text)
    environment = {"PYTHONPATH": str(Path(__file__).parent)}
    done = quick_run("train-scenario", "mine.py", cwd=tmp_path, environment=environment)
    assert done.returncode == 2
    assert "validation set is empty: every sample was dropped or failed" in done.stderr
