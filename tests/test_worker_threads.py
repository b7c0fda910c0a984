"""Worker threads: the same guarantees as worker processes, and the choice between the two."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worker_data import WAKE, Counted, Jitter
from worker_loaders import CASES, batches_of, open_loader, processors

from tfaip_like import Data, Mode, Processor, Sample
from tfaip_like._user_code.code_errors import innermost_user_frame
from tfaip_like.data import ImageFolder, TrainLoaderSettings
from tfaip_like.data._loader.loader import LoaderClosedError
from tfaip_like.data._loader.loader_factory import open_training
from tfaip_like.data._workers import worker_choice
from tfaip_like.data._workers.background import is_user_code_running
from tfaip_like.data._workers.pool import WorkerError, WorkerPool
from tfaip_like.data._workers.process_pool import ProcessPool
from tfaip_like.data._workers.thread_pool import ThreadPool


@pytest.fixture(autouse=True)
def wake_threads() -> Iterator[None]:
    """End the threads that a test has left asleep: other tests wait until no user code is running."""
    yield
    WAKE.set()
    while is_user_code_running():
        time.sleep(0.01)
    WAKE.clear()


class CountingThreads(Processor):
    """Fails if two threads share it."""

    is_thread_safe = True

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        if vars(self).get("_copy") != id(self):
            vars(self).update(_copy=id(self), _thread=threading.get_ident())
        assert vars(self)["_thread"] == threading.get_ident() or not threading.current_thread().name.startswith(
            "data w"
        )
        return sample


@pytest.mark.parametrize("name", CASES)
def test_batches_are_the_same_bytes_with_threads(name: str) -> None:
    data, settings = CASES[name]
    straight = batches_of(open_loader(data, 0, **settings), 0, 30)
    assert batches_of(open_loader(data, 2, worker_type="thread", **settings), 0, 30) == straight
    per_epoch = open_loader(data, 0, **settings).steps_per_epoch
    place = 2 * per_epoch + 3
    resumed = batches_of(open_loader(data, 3, worker_type="thread", **settings), place, 30)
    assert resumed == straight[place:]


def test_each_thread_has_its_own_copy_of_the_processors() -> None:
    loader = open_loader(Counted(processors=[CountingThreads()]), 2, worker_type="thread", prefetch=64)
    assert len(batches_of(loader, 0, 60)) == 60


def test_an_exception_in_a_thread_names_the_sample_and_the_line_of_the_user() -> None:
    loader = open_loader(Counted(count=200, processors=processors(index=123)), 2, worker_type="thread")
    with pytest.raises(ValueError, match="this one is bad") as raised:
        batches_of(loader, 0, 30)
    assert raised.value.__notes__ == ["This was training sample 123 of Counted."]
    frame = innermost_user_frame(raised.value)
    assert frame is not None
    assert Path(frame.filename).name == "worker_data.py"


def test_a_stuck_thread_is_reported_with_its_sample() -> None:
    data = Counted(processors=processors(what="sleep", index=41))
    loader = open_loader(data, 2, worker_type="thread", shuffle=False, timeout_seconds=1)
    with pytest.raises(WorkerError, match=r"timed out after 1 s in AtSample, training sample 41 of Counted"):
        list(loader.iter_training(0, 6, steps_per_execution=1))
    loader.close()


def test_bad_samples_are_skipped_in_threads() -> None:
    data = Counted(on_bad_sample="skip", processors=processors(index=17))
    loader = open_loader(data, 2, worker_type="thread")
    bad = [(one.index, one.reason) for batch in loader.iter_training(0, 12) for one in batch.bad]
    loader.close()
    assert set(bad) == {(17, "ValueError: this one is bad")}


def test_closing_while_threads_hang_ends_the_reader() -> None:
    loader = open_loader(Counted(processors=processors(what="sleep", index=20)), 2, worker_type="thread", shuffle=False)
    batches = loader.iter_training(0, 5, steps_per_execution=1)
    next(batches)
    threading.Timer(0.2, loader.close).start()
    with pytest.raises(LoaderClosedError):
        list(batches)


@pytest.mark.parametrize(
    ("data", "is_safe"),
    [
        (Counted(processors=[CountingThreads()]), True),
        (Counted(processors=[CountingThreads(), Jitter()]), False),
    ],
)
def test_threads_are_considered_only_if_all_processors_declare_that_they_are_safe(data: Data, is_safe: bool) -> None:
    assert open_loader(data, 0).samples.is_thread_safe == is_safe


def test_the_image_source_is_thread_safe_and_others_must_declare_it() -> None:
    class Source(list[Sample]):
        pass

    class WithSource(Counted):
        def source(self, mode: Mode) -> Any:
            return Source(super().source(mode))

    data = WithSource()
    assert ImageFolder.is_thread_safe
    loader = open_training(data, data.source(Mode.TRAIN), TrainLoaderSettings(), None, 1)
    assert not loader.samples.is_thread_safe


class FakePool:
    """Pool that does nothing."""

    num_workers = 2

    def __init__(self, kind: type[WorkerPool]):
        self.type, self.kind, self.is_closed = kind, kind.kind, False

    def __enter__(self) -> FakePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.is_closed = True


def choose(
    monkeypatch: pytest.MonkeyPatch, threads: float, processes: float
) -> tuple[FakePool, dict[type[WorkerPool], FakePool]]:
    """Choose between pools that take this time for two tasks, one of which takes a second alone."""
    started: dict[type[WorkerPool], FakePool] = {}

    def start(kind: type[WorkerPool]) -> Any:
        return started.setdefault(kind, FakePool(kind))

    def measure(pool: FakePool, tasks: list[Any], repeats: int = 1) -> float:
        return (1.0 if len(tasks) == 1 else threads) if pool.type is ThreadPool else processes

    monkeypatch.setattr(worker_choice, "_measure", measure)
    make_probe: Callable[[int], Any] = lambda size: size  # noqa: E731
    chosen: Any = worker_choice.start_faster_pool(start, make_probe, "train")
    return chosen, started


def test_processes_are_not_started_if_threads_do_not_slow_each_other_down(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, started = choose(monkeypatch, threads=1.05, processes=1.0)
    assert chosen.type is ThreadPool
    assert list(started) == [ThreadPool]
    assert not chosen.is_closed


@pytest.mark.parametrize(("processes", "expected"), [(1.1, ProcessPool), (2.5, ThreadPool)])
def test_the_faster_of_threads_and_processes_is_chosen(
    processes: float, expected: type[WorkerPool], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        chosen, started = choose(monkeypatch, threads=1.9, processes=processes)
    assert chosen.type is expected
    assert [pool.is_closed for pool in started.values()] == [pool is not chosen for pool in started.values()]
    assert "--train: data workers are" in caplog.text
    assert "threads 1.05, processes" in caplog.text


def test_the_automatic_choice_delivers_the_same_batches() -> None:
    data = Counted(processors=[CountingThreads()])
    straight = batches_of(open_loader(data, 0), 0, 30)
    assert batches_of(open_loader(data, 2), 0, 30) == straight
