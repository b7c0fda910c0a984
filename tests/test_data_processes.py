"""Data workers: the same bytes for any number of them, faults that are named, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from conftest import REPOSITORY, reset_signal_handlers, slow
from worker_data import AtSample, Counted, Jitter, Pieces
from worker_loaders import CASES, batches_of, iter_single, open_loader, processors, to_bytes

from tfaip_like import Data, Mode, Processor, UsageError
from tfaip_like._user_code.code_errors import innermost_user_frame
from tfaip_like.data import RangeFilter, TrainLoaderSettings, ValLoaderSettings
from tfaip_like.data._loader.loader import LoaderClosedError
from tfaip_like.data._loader.loader_factory import open_training, open_validation
from tfaip_like.data._workers.pool import WorkerError
from tfaip_like.data._workers.shared_memory import SharedFile, pack, unpack_views

TESTS = Path(__file__).parent


@pytest.mark.parametrize("counts", [[2], slow([1, 4])])
@pytest.mark.parametrize("name", CASES)
def test_batches_are_the_same_bytes_with_any_number_of_processes_and_from_any_place(
    name: str, counts: list[int]
) -> None:
    data, settings = CASES[name]
    straight = batches_of(open_loader(data, 0, **settings), 0, 30)
    assert len(straight) == 30
    assert len(set(straight)) > 25
    for count in counts:
        assert batches_of(open_loader(data, count, **settings), 0, 30) == straight
    per_epoch = open_loader(data, 0, **settings).steps_per_epoch
    place = 2 * per_epoch + 3
    assert batches_of(open_loader(data, 2, **settings), place, 30) == straight[place:]


def test_an_exception_names_the_sample_and_the_line_of_the_user() -> None:
    batches = open_loader(Counted(count=2000, processors=processors(index=1234)), 2)
    with pytest.raises(ValueError, match="this one is bad") as raised:
        batches_of(batches, 0, 300)
    assert raised.value.__notes__ == ["This was training sample 1234 of Counted."]
    frame = innermost_user_frame(raised.value)
    assert frame is not None
    assert Path(frame.filename).name == "worker_data.py"
    assert frame.line == 'raise ValueError("this one is bad")'


def test_a_stuck_worker_is_reported_with_its_sample() -> None:
    batches = open_loader(Counted(processors=processors(what="sleep", index=41)), 2, shuffle=False)
    stream = batches.iter_training(0, 6, steps_per_execution=1)
    next(stream)
    assert batches.producer.workers is not None
    batches.producer.workers.timeout_seconds = 4  # only now: to start may take longer
    with pytest.raises(WorkerError, match=r"timed out after 4 s in AtSample, training sample 41 of Counted"):
        list(stream)


def test_a_worker_that_dies_once_is_restarted_without_changing_results(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    well = batches_of(open_loader(Counted(processors=processors(index=-1)), 0), 0, 12)
    died = processors(what="die_once", index=17, marker=str(tmp_path / "died"))
    assert batches_of(open_loader(Counted(processors=died), 2), 0, 12) == well
    assert "killed by SIGKILL (out of memory?) while processing AtSample, training sample 17 of Counted" in caplog.text


def test_a_sample_that_crashes_its_worker_twice_is_reported() -> None:
    batches = open_loader(Counted(processors=processors(what="die", index=17)), 2)
    with pytest.raises(WorkerError, match="while processing AtSample, training sample 17.*second time"):
        batches_of(batches, 0, 12)


def test_a_worker_killed_from_outside_is_restarted(caplog: pytest.LogCaptureFixture) -> None:
    data = Counted(count=400, processors=[Jitter()])
    straight = batches_of(open_loader(data, 0), 0, 200)
    batches = open_loader(data, 2, prefetch=4)
    made = []
    for number, batch in enumerate(batches.iter_training(0, 200)):
        made += [to_bytes(one) for one in iter_single(batches, batch)]
        if number == 0:
            assert batches.producer.workers is not None
            os.kill(batches.producer.workers.pids[0], signal.SIGKILL)
    batches.close()
    assert made == straight
    assert "restarting" in caplog.text


def test_validation_has_every_sample_once_and_leaves_out_those_that_are_dropped() -> None:
    data = Counted(processors=processors(what="drop", index=17))
    for count in (0, 2):
        batches = open_validation(
            data, data.source(Mode.EVALUATE), ValLoaderSettings(num_processes=count, batch_size=8), 7
        )
        assert batches is not None
        seen = [int(y) for batch in batches.iter_pass() for y in batch.targets["y"]]
        batches.close()
        assert seen == [number for number in range(50) if number != 17]


def test_bad_samples_are_skipped_listed_and_replaced() -> None:
    data = Counted(on_bad_sample="skip", processors=processors(index=17))
    batches = open_loader(data, 2)
    bad = [(one.index, one.reason) for batch in batches.iter_training(0, 12) for one in batch.bad]
    batches.close()
    assert set(bad) == {(17, "ValueError: this one is bad")}
    assert batches_of(open_loader(data, 2), 0, 12) == batches_of(open_loader(data, 0), 0, 12)


def test_dropping_everything_is_an_error() -> None:
    class Never(Processor):
        def process(self, sample: Any, random: np.random.Generator) -> None:
            return None

    with pytest.raises(UsageError, match="consecutive training samples of .* were dropped"):
        open_loader(Counted(processors=[Never()]), 0).batch(0)


SCRIPT = """
import sys, threading, time
sys.path.insert(0, {tests!r})
from worker_data import AtSample, Counted, Jitter
from tfaip_like import Mode
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.data._loader.loader_factory import open_training
data = Counted(count=1000, processors=[Jitter(), AtSample(what="sleep", index={sleep_at})])
settings = TrainLoaderSettings(num_processes=2, shuffle=False)
batches = open_training(data, data.source(Mode.TRAIN), settings, None, 7)
threading.Thread(target=lambda: list(batches.iter_training(0, 10**9)), daemon=True).start()
while not (batches.producer.workers and all(p.is_ready for p in batches.producer.workers._processes)):
    time.sleep(0.1)
time.sleep(0.5)
print(*batches.producer.workers.pids, flush=True)
time.sleep(1000)
"""


def wait_for_exit(pids: list[int], seconds: float = 120) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(map(psutil.pid_exists, pids)):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("sleep_at", [-1, slow(40)])
def test_workers_end_when_the_main_process_is_killed(sleep_at: int) -> None:
    script = SCRIPT.format(tests=str(TESTS), sleep_at=sleep_at)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment) as main:
        assert main.stdout is not None
        try:
            pids = [int(pid) for pid in main.stdout.readline().split()]
            assert len(pids) == 2
        finally:
            main.kill()
    assert wait_for_exit(pids)


def test_data_workers_do_not_load_tensorflow() -> None:
    batches = open_loader(Counted(processors=[Jitter()]), 1)
    next(batches.iter_training(0, 5))
    assert batches.producer.workers is not None
    maps = Path(f"/proc/{batches.producer.workers.pids[0]}/maps").read_text()
    batches.close()
    assert "numpy" in maps
    assert "tensorflow" not in maps


@pytest.mark.slow
def test_large_arrays_are_shared_and_not_copied_to_each_process() -> None:
    batches = open_loader(Big(processors=[Jitter()]), 2)
    next(batches.iter_training(0, 5))
    workers = batches.producer.workers
    assert workers is not None
    private = [_private_megabytes(pid) for pid in workers.pids]
    shared = workers.nbytes()
    batches.close()
    assert shared > 200e6
    assert max(private) < 150


def test_an_array_that_is_mapped_from_a_file_is_mapped_again(tmp_path: Path) -> None:
    x = np.arange(3_000_000, dtype="float32").reshape(-1, 3)
    np.save(tmp_path / "x.npy", x)
    batches = open_loader(Mapped(file=tmp_path / "x.npy", processors=[AtSample(index=-1)]), 1, shuffle=False)
    first = next(batches.iter_training(0, 5))
    assert batches.producer.workers is not None
    assert batches.producer.workers.nbytes() < 13e6  # indices and y; x would be 12 MB more
    batches.close()
    np.testing.assert_array_equal(first.inputs["x"].reshape(-1, 3)[:8], x[50:58])


class Mapped(Counted):
    """Numbers in a file."""

    file: Path = Path("x.npy")
    """The file."""

    def source(self, mode: Mode) -> Any:
        from tfaip_like import ArraySource

        x = np.load(self.file, mmap_mode="r")[50:]
        return ArraySource({"x": x}, {"y": np.zeros(len(x), "int32")})


class Big(Counted):
    """200 MB of numbers."""

    def source(self, mode: Mode) -> Any:
        from tfaip_like import ArraySource

        x = np.zeros((17_000_000, 3), "float32")
        return ArraySource({"x": x}, {"y": np.zeros(len(x), "int32")})


def _private_megabytes(pid: int) -> float:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in rollup[1:]}
    return (sizes["Private_Dirty"] + sizes["Private_Clean"]) / 1000


def test_a_full_dev_shm_does_not_matter(tmp_path: Path) -> None:
    # Shared memory is anonymous: nothing is ever written below /dev/shm.
    before = set(os.listdir("/dev/shm"))
    batches = open_loader(Counted(processors=[Jitter()]), 2)
    next(batches.iter_training(0, 5))
    assert set(os.listdir("/dev/shm")) == before
    batches.close()


def test_closing_while_another_thread_waits_ends_both() -> None:
    batches = open_loader(Counted(processors=processors(what="sleep", index=9)), 1, shuffle=False)

    def read() -> None:
        with pytest.raises(LoaderClosedError):
            list(batches.iter_training(0, 5))
        ended.set()

    ended = threading.Event()
    threading.Thread(target=read, daemon=True).start()
    time.sleep(1.5)
    batches.close()
    assert ended.wait(120)


def test_classes_that_cannot_be_sent_are_reported_or_worked_around(caplog: pytest.LogCaptureFixture) -> None:
    class Local(Processor):
        def process(self, sample: Any, random: np.random.Generator) -> Any:
            time.sleep(0.01)
            return sample

    data = Counted(processors=[Local()])
    with pytest.raises(UsageError, match=r"importable classes \(at module level\)"):
        batches_of(open_loader(data, 2), 0, 3)
    batches = open_training(data, data.source(Mode.TRAIN), TrainLoaderSettings(batch_size=8), None, 7)
    batches.auto_select_num_workers(10**6)
    assert len(batches_of(batches, 0, 3)) == 3
    assert "--train: falling back to single-process data loading" in caplog.text


SCRIPT_OF_A_USER = """
import numpy as np
from worker_data import Counted
from small import Line
from tfaip_like import *
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.settings import Trainer

class Twice(Processor):
    def process(self, sample, random):
        return Sample({"x": sample.inputs["x"][:2] * 2}, {"y": 0.0})

class Points(Counted):
    inputs = {"x": Spec((2,))}
    targets = {"y": Spec(())}

class Mine(Scenario):
    data: Data = Points(processors=[Twice()])
    model: Model = Line()
    trainer: Trainer = Trainer(epochs=1, val_every_n=0)
    train: TrainLoaderSettings = TrainLoaderSettings(num_processes=2)

"""


@pytest.mark.slow
@pytest.mark.parametrize("guarded", [False, True])
def test_a_script_without_a_main_guard_is_reported(guarded: bool, tmp_path: Path) -> None:
    call = 'if __name__ == "__main__":\n    train(Mine())' if guarded else "train(Mine())"
    (tmp_path / "mine.py").write_text(SCRIPT_OF_A_USER + call)
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{TESTS}"}
    command = [sys.executable, "mine.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    if guarded:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode != 0
        assert 'put the code that starts them under `if __name__ == "__main__":`' in done.stderr


HANGS = """
from worker_data import AtSample
from mine import Mine, Points, Twice

class Hangs(Mine):
    data: Points = Points(processors=[AtSample(what="sleep", index=40), Twice()])
"""


@pytest.mark.slow
@pytest.mark.parametrize(("count", "signals"), [(2, 1), slow(0, 2)])
def test_ctrl_c_ends_a_training_whose_data_hang(count: int, signals: int, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SCRIPT_OF_A_USER)
    (tmp_path / "hangs.py").write_text(HANGS)
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{TESTS}"}
    flags = ["--train.num_processes", str(count), "--train.shuffle", "false"]
    command = [str(Path(sys.executable).parent / "train-scenario"), "hangs.py", *flags]
    pipes: dict[str, Any] = {"stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, preexec_fn=reset_signal_handlers, **pipes) as process:
        assert process.stderr is not None
        try:
            while "1 epoch x" not in (line := process.stderr.readline()):
                assert line, "it ended"
            time.sleep(4)
            for _ in range(signals):
                process.send_signal(signal.SIGINT)
                time.sleep(0.5)
            assert process.wait(120) == 130
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        (
            Counted(iterable=True),
            {"filter": [RangeFilter(name="y")]},
            "filter requires a random-access source",
        ),
        (Counted(iterable=True), {"cache": "memory"}, "cache requires a random-access source"),
        (Counted(iterable=True), {"balance": "sample"}, "balance requires a random-access source"),
        (
            Counted(processors=[Pieces()]),
            {"buckets": 2},
            "buckets: length buckets require samples with an axis of unknown",
        ),
    ],
)
def test_settings_unsupported_by_streams_are_rejected(data: Data, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"--train.{message}"):
        open_loader(data, 0, samples_per_epoch=16, **settings)


def test_bad_samples_that_are_found_while_looking_or_caching_are_listed() -> None:
    data = Counted(on_bad_sample="skip", processors=[AtSample(index=3), AtSample(index=4, what="drop")])
    for settings in ({"cache": "memory"}, {"cache": "disk"}):
        batches = open_loader(data, 0, **settings)
        assert [bad.index for bad in batches.bad] == [3]
        seen = {int(y) for batch in batches.iter_pass() for y in batch.targets["y"]}
        assert seen == set(range(50)) - {3, 4}


def test_results_that_are_kept_are_not_overwritten() -> None:
    loader = open_loader(Counted(), 2)
    kept = list(loader.iter_pass())
    loader.close()
    alone = open_loader(Counted(), 0)
    for batch, expected in zip(kept, alone.iter_pass(), strict=True):
        np.testing.assert_array_equal(batch.inputs["x"], expected.inputs["x"])


def test_arrays_allocated_in_shared_memory_are_transferred_without_a_copy() -> None:
    memory, released = SharedFile.in_memory(), list[bool]()
    memory.start_over()
    array = memory.allocate((2, 3), np.dtype("float32"))
    array[...] = 1
    pack({"allocated": array, "other": np.arange(3), "empty": np.zeros(0)}, memory)
    array[...] = 2
    made = unpack_views(memory, on_release=lambda: released.append(True))
    np.testing.assert_array_equal(made["allocated"], np.full((2, 3), 2))
    np.testing.assert_array_equal(made["other"], np.arange(3))
    assert made["empty"].shape == (0,)
    view = made["allocated"][0]
    del made
    assert not released
    del view
    assert released
