"""The commands that look at data: benchmark-input-pipeline and inspect-samples."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, Run, reset_signal_handlers, slow
from PIL import Image
from small import Noise, small
from stopping import NumberedPoints
from test_stream_training import Cut, Pack

from tfaip_like._inspection.benchmark import Measurement, diagnose_bottleneck
from tfaip_like._inspection.inspect_samples import InspectSamples, describe_arrays, inspect_samples

STEADY = Measurement(
    processes=2,
    start_seconds=1.0,
    seconds=10.0,
    samples=1000,
    batches=100,
    nbytes=10**6,
    stages={"reading": 1.0, "Shift": 16.0, "batching": 1.0},
    transfer_seconds=0.5,
    cpu_share=0.95,
    busy=0.95,
    queue_fill=0.1,
    shared_bytes=10**6,
)


@pytest.mark.parametrize("processes", [slow(0), 2])
def test_the_benchmark_reports_throughput_stages_and_advice(run: Run, processes: int) -> None:
    seconds = ("--benchmark.seconds", 1, "--benchmark.warmup_seconds", 0.2)
    words = ("--data.processors", "Shift", "--train.num_processes", processes, *seconds)
    done = run("benchmark-input-pipeline", "scenarios.tutorial", *words)
    assert done.returncode == 0, done.stderr
    for word in (
        "samples/s",
        "batches/s",
        "reading",
        "Shift",
        "batching",
        "transfer",
        "kB per sample",
        "verdict: ",
    ):
        assert word in done.stdout
    assert ("workers busy" in done.stdout) == (processes > 0)
    assert "first batch after" in done.stdout


def test_the_benchmark_measures_validation_and_a_number_of_samples(run: Run) -> None:
    words = ("--benchmark.mode", "val", "--benchmark.samples", 2000, "--benchmark.warmup_seconds", 0)
    done = run("benchmark-input-pipeline", "scenarios.minimal", *words)
    assert done.returncode == 0, done.stderr
    assert "nothing to change" in done.stdout


@pytest.mark.slow
def test_ctrl_c_ends_the_benchmark_with_its_result() -> None:
    command = [str(Path(sys.executable).parent / "benchmark-input-pipeline"), "scenarios.minimal"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=REPOSITORY, text=True, preexec_fn=reset_signal_handlers, **pipes) as process:
        assert process.stderr is not None
        assert "measuring; press Ctrl-C" in process.stderr.readline()
        time.sleep(1)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "verdict: " in out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "limited by processor Shift (86 % of the processing time)"),
        ({"transfer_seconds": 20.0}, "limited by the transfer of batches between processes"),
        ({"stages": {"reading": 9.0, "batching": 1.0}, "cpu_share": 0.2}, "limited by I/O"),
        ({"stages": {"reading": 9.0, "batching": 1.0}}, "limited by reading and decoding samples"),
        ({"stages": {"reading": 1.0, "batching": 9.0}}, "limited by batching (padding and stacking)"),
        ({"processes": 0}, "--train.num_processes"),
    ],
)
def test_the_verdict_names_the_bottleneck_and_advice(changes: dict[str, object], words: str) -> None:
    assert words in diagnose_bottleneck(dataclasses.replace(STEADY, **changes), "train", is_array_backed=False)  # type: ignore[arg-type]


def test_inspect_samples_shows_them_before_and_after_each_processor(run: Run, tmp_path: Path) -> None:
    words = ("--data.processors", "Shift", "--inspect.count", 6, "--inspect.output_dir", tmp_path / "look")
    done = run("inspect-samples", "scenarios.tutorial", *words)
    assert done.returncode == 0, done.stderr
    assert "as read\n  input image: float32 (8, 8), from 0 to 1" in done.stdout
    assert "after Shift" in done.stdout
    assert "target label: int64 (), values" in done.stdout
    first, second = sorted((tmp_path / "look").iterdir())
    images = [np.asarray(Image.open(file)) for file in (first, second)]
    assert images[0].shape == images[1].shape
    assert (images[0] != images[1]).any()


def test_the_verdict_on_a_source_without_an_index_does_not_advise_more_processes() -> None:
    measured = dataclasses.replace(STEADY, stages={"reading": 9.0, "batching": 1.0})
    assert "limited by the iterable-only source (86 % of the processing time)" in diagnose_bottleneck(
        measured, "train", False, is_read_in_order=True
    )


def test_inspect_samples_shows_them_after_each_stream_processor(tmp_path: Path) -> None:
    scenario = small(data=NumberedPoints(processors=[Noise(), Cut(group=10), Pack(), Noise()]))
    text = inspect_samples(scenario, InspectSamples(count=4, output_dir=tmp_path))
    titles = [line for line in text.splitlines() if not line.startswith(" ")]
    assert titles == ["as read", "after Cut", "after Noise"]


def test_the_contents_of_an_array_are_described() -> None:
    assert describe_arrays([np.array([1.0, np.nan]), np.array([3.0])]) == (
        "float64 (2,) ... (1,), from 1 to 3, mean 2, std 1, 1 NaN or infinity"
    )
    assert describe_arrays([np.array(3), np.array(4)]) == "int64 (), values 3 4"
    assert describe_arrays([np.zeros(0)]) == "float64 (0,), empty"
