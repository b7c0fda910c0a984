"""Benchmark of an input pipeline: throughput, bottleneck and advice."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tfaip_like._inspection.opening import open_data_loader
from tfaip_like._utils.console import default_console_logging
from tfaip_like._utils.errors import Interrupted, pluralize
from tfaip_like._utils.interruption import InterruptFlag, graceful_shutdown_signals
from tfaip_like._utils.operating_system import num_usable_cpus
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.data._sample import Mode
from tfaip_like.params import Params
from tfaip_like.params._tree import validate_params
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)

READ_STAGE, BATCH_STAGE = 0, -1
LOG_INTERVAL_S = 5.0
HIGH_TRANSFER_SHARE = 0.4
DEFAULT_STEPS_PER_EPOCH = 1000
"""Assumed length of an epoch of a stream."""
IO_BOUND_CPU_SHARE = 0.5


class Benchmark(Params):
    """Settings of the benchmark."""

    mode: Literal["train", "val"] = "train"
    """Data to read: training or validation."""

    seconds: float | None = None
    """Duration in seconds after the warm-up; by default until Ctrl-C."""

    samples: int | None = None
    """Number of samples after the warm-up; by default unlimited."""

    warmup_seconds: float = 2.0
    """Duration of the warm-up in seconds, in which workers start and queues and caches fill."""

    def check(self) -> None:
        self.require(self.seconds is None or self.seconds > 0, "seconds", "must be above 0")
        self.require(self.samples is None or self.samples > 0, "samples", "must be above 0")
        self.require(self.warmup_seconds >= 0, "warmup_seconds", "must not be negative")


@dataclass(frozen=True)
class Measurement:
    """Measurements in steady state.

    Attributes:
        processes: Number of data workers; 0 without.
        start_seconds: Seconds until the first batch.
        seconds: Duration of the measurement.
        samples: Number of samples.
        batches: Number of batches.
        nbytes: Size of the batches in bytes.
        stages: Seconds of work by stage, summed over all workers.
        transfer_seconds: Seconds of packing and unpacking batches between processes.
        cpu_share: CPU time as a fraction of the workers' work.
        busy: Fraction of the time in which the workers were busy.
        queue_fill: Fraction of the prefetched batches that were ready when one was requested.
        shared_bytes: Size of the shared memory in bytes.
    """

    processes: int
    start_seconds: float
    seconds: float
    samples: int
    batches: int
    nbytes: int
    stages: dict[str, float]
    transfer_seconds: float
    cpu_share: float
    busy: float
    queue_fill: float
    shared_bytes: int

    @property
    def work(self) -> float:
        """Return the seconds of work in all stages, including the transfer between processes."""
        return sum(self.stages.values()) + self.transfer_seconds


@dataclass(frozen=True)
class BenchmarkResult:
    """Result of `benchmark`; its text is the report that `benchmark-input-pipeline` prints."""

    measurement: Measurement
    report: str

    @property
    def samples_per_second(self) -> float:
        """Return the throughput."""
        return self.measurement.samples / self.measurement.seconds

    def __str__(self) -> str:
        return self.report


def benchmark(
    scenario: Scenario,
    mode: Literal["train", "val"] = "train",
    seconds: float = 10.0,
    samples: int | None = None,
    warmup_seconds: float = 2.0,
) -> BenchmarkResult:
    """Measure the throughput of the input pipeline of a scenario, as `benchmark-input-pipeline` does.

    Args:
        scenario: Scenario whose input pipeline is measured.
        mode: Data to read: training or validation.
        seconds: Duration in seconds after the warm-up.
        samples: Number of samples after which the measurement ends earlier; by default unlimited.
        warmup_seconds: Duration of the warm-up in seconds, in which workers start and queues and caches fill.

    Raises:
        UsageError: If a setting is invalid, or there are no samples.

    Example:
        >>> result = benchmark(Digits(), seconds=5)  # doctest: +SKIP
        >>> result.samples_per_second  # doctest: +SKIP
        181034.2
        >>> print(result)  # doctest: +SKIP
    """
    settings = validate_params(Benchmark(mode=mode, seconds=seconds, samples=samples, warmup_seconds=warmup_seconds))
    with default_console_logging(), graceful_shutdown_signals() as interrupt:
        result = run_benchmark(validate_params(scenario), settings, interrupt)
        interrupt.disarm()
    return result


def run_benchmark(scenario: Scenario, settings: Benchmark, interrupt: InterruptFlag) -> BenchmarkResult:
    """Read batches at full speed until the limit or Ctrl-C.

    Args:
        scenario: Scenario whose input pipeline is measured.
        settings: Settings of the benchmark.
        interrupt: Flag that Ctrl-C sets.
    """
    with open_data_loader(scenario, settings.mode, "--benchmark.mode", interrupt.check) as batches:
        epochs = scenario.trainer.epochs
        steps = (
            DEFAULT_STEPS_PER_EPOCH
            if batches.stream is not None
            else batches.steps_per_epoch or batches.num_batches or 0
        )
        batches.auto_select_num_workers(epochs * steps)
        measured = _measure(batches, settings, interrupt)
        return BenchmarkResult(measured, format_report(scenario, batches, measured, settings.mode))


def _measure(batches: DataLoader, settings: Benchmark, interrupt: InterruptFlag) -> Measurement:
    begin = time.perf_counter()
    stream = _repeat_epochs(batches)
    next(stream)
    started = time.perf_counter()
    while time.perf_counter() - started < settings.warmup_seconds and interrupt.signum is None:
        next(stream)
    window = _MeasurementWindow(batches)
    logger.info("measuring; press Ctrl-C to stop and print the report")
    with contextlib.suppress(Interrupted):  # raised while waiting for a data worker
        while interrupt.signum is None and not window.is_over(settings):
            window.add(next(stream))
            window.log_progress()
    return window.measured(started - begin)


def _repeat_epochs(batches: DataLoader) -> Iterator[Batch]:
    if batches.samples.mode is Mode.TRAIN:
        yield from batches.iter_training(0, 2**62)
    while True:
        yield from batches.iter_pass()


class _MeasurementWindow:
    """Counters from the construction on."""

    def __init__(self, batches: DataLoader):
        self.batches = batches
        self.workers = batches.producer.workers
        self.begin = time.perf_counter()
        self.cpu_begin = time.process_time()
        self.stages_begin = self._stages().copy()
        self.workers_begin = self.workers.seconds.copy() if self.workers else np.zeros(0)
        self.transfer_begin = self.workers.transfer_seconds if self.workers else 0.0
        self.workers_cpu_begin = self.workers.cpu if self.workers else 0.0
        self.samples = self.count = self.nbytes = 0
        self.fills: list[float] = []
        self._last_log_time = self.begin

    def _stages(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Return the seconds by stage in all processes: the main process reads and batches streams."""
        main_process = self.batches.samples.seconds
        return main_process + self.workers.seconds if self.workers else main_process

    def add(self, batch: Batch) -> None:
        """Count a batch, or several stacked batches."""
        steps = len(batch) if self.batches.yields_stacked_steps else 1
        self.count += steps
        self.samples += steps * self.batches.batch_size if self.batches.yields_stacked_steps else len(batch)
        self.nbytes += batch.nbytes()
        if self.workers:
            self.fills.append(min(1.0, self.workers.num_ready() / self.workers.max_outstanding))

    def log_progress(self) -> None:
        """Log the throughput every `LOG_INTERVAL_S` seconds."""
        now = time.perf_counter()
        if now - self._last_log_time > LOG_INTERVAL_S:
            self._last_log_time = now
            logger.info("%.0f s: %.1f samples/s", now - self.begin, self.samples / (now - self.begin))

    def is_over(self, settings: Benchmark) -> bool:
        """Return whether the time or sample limit is reached."""
        is_late = settings.seconds is not None and time.perf_counter() - self.begin >= settings.seconds
        return is_late or (settings.samples is not None and self.samples >= settings.samples)

    def measured(self, start_seconds: float) -> Measurement:
        """Return the measurement so far.

        Args:
            start_seconds: Seconds until the first batch.
        """
        seconds = time.perf_counter() - self.begin
        stages = _seconds_per_stage(self.batches.samples.stages, (self._stages() - self.stages_begin).tolist())
        transfer_seconds = self.workers.transfer_seconds - self.transfer_begin if self.workers else 0.0
        work = sum(stages.values()) + transfer_seconds
        cpu = (self.workers.cpu - self.workers_cpu_begin) if self.workers else time.process_time() - self.cpu_begin
        count = self.workers.num_workers if self.workers else 0
        return Measurement(
            processes=count,
            start_seconds=start_seconds,
            seconds=seconds,
            samples=self.samples,
            batches=self.count,
            nbytes=self.nbytes,
            stages=stages,
            transfer_seconds=transfer_seconds,
            cpu_share=min(1.0, cpu / work) if work else 1.0,
            busy=self._busy(seconds, work),
            queue_fill=float(np.mean(self.fills)) if self.fills else 0.0,
            shared_bytes=self.workers.nbytes() if self.workers else 0,
        )

    def _busy(self, seconds: float, work: float) -> float:
        """Return the fraction of the time in which the workers, or without workers this process, were busy."""
        if not seconds:
            return 0.0
        if self.workers is None:
            return min(1.0, work / seconds)
        busy_seconds = float(self.workers.seconds.sum() - self.workers_begin.sum()) + self.workers.transfer_seconds
        return min(1.0, (busy_seconds - self.transfer_begin) / (seconds * self.workers.num_workers))


def _seconds_per_stage(stages: Sequence[str], seconds: Sequence[float]) -> dict[str, float]:
    """Return the seconds by stage; processors of the same class are numbered."""
    by_stage: dict[str, float] = {}
    for number, (stage, stage_seconds) in enumerate(zip(stages, seconds, strict=True)):
        by_stage[stage if stages.count(stage) == 1 else f"{stage} ({number})"] = stage_seconds
    return by_stage


def format_report(scenario: Scenario, batches: DataLoader, measured: Measurement, group: str) -> str:
    """Return the report with a diagnosis of the bottleneck.

    Args:
        scenario: Scenario whose input pipeline was measured.
        batches: Its data loader.
        measured: Measurements.
        group: Flag group of the data (`train` or `val`).
    """
    if not measured.samples:
        return "nothing measured: the time was too short for a batch; increase --benchmark.seconds"
    workers = pluralize(measured.processes, "data worker")
    size = pluralize(len(batches), "sample") if len(batches) else "a stream of samples"
    lines = [
        f"{type(scenario).__name__}, --{group}: {size}, batch size {batches.batch_size}, {workers}",
        f"first batch after {measured.start_seconds:.2f} s; measured for {measured.seconds:.1f} s",
        "",
        f"  samples/s  {measured.samples / measured.seconds:12.1f}",
        f"  batches/s  {measured.batches / measured.seconds:12.1f}",
        "",
        f"  {'stage':<24}{'share':>8}{'ms per sample':>16}",
    ]
    stages = {**measured.stages, "transfer": measured.transfer_seconds}
    for name, seconds in stages.items():
        share, each = seconds / max(measured.work, 1e-9), 1000 * seconds / measured.samples
        lines.append(f"  {name:<24}{100 * share:>6.0f} %{each:>16.4f}")
    lines += ["", f"  {measured.nbytes / measured.samples / 1e3:.3g} kB per sample, {_describe_copies(measured)}"]
    if measured.processes:
        lines.append(
            f"  workers busy {100 * measured.busy:.0f} %, prefetch queue filled {100 * measured.queue_fill:.0f} %"
        )
    is_read_in_order = batches.order is None
    return "\n".join(
        [
            *lines,
            "",
            f"verdict: {diagnose_bottleneck(measured, group, batches.samples.is_array_backed, is_read_in_order)}",
        ]
    )


def _describe_copies(measured: Measurement) -> str:
    if not measured.shared_bytes:  # no workers, or threads
        return "built in this process, no copies"
    return f"written once into {measured.shared_bytes / 1e6:.3g} MB of shared memory"


def diagnose_bottleneck(
    measured: Measurement, group: str, is_array_backed: bool, is_read_in_order: bool = False
) -> str:
    """Return the bottleneck of the pipeline and advice.

    Args:
        measured: Measurements.
        group: Flag group of the data (`train` or `val`).
        is_array_backed: Whether batches are slices of arrays in memory.
        is_read_in_order: Whether the source is iterable-only.
    """
    cores = num_usable_cpus()
    flag = f"--{group}.num_processes"
    if is_array_backed:
        return "batches are slices of arrays in memory, which is optimal; nothing to change"
    if measured.transfer_seconds > HIGH_TRANSFER_SHARE * measured.work:
        return (
            "limited by the transfer of batches between processes (pickling and copying); "
            f"{flag} 0 builds them in the main process"
        )
    name, seconds = max(measured.stages.items(), key=lambda stage: stage[1])
    share = f"{100 * seconds / max(measured.work, 1e-9):.0f} % of the processing time"
    stages = list(measured.stages)
    if name == stages[READ_STAGE] and is_read_in_order:
        return (
            f"limited by the iterable-only source ({share}), which the main process reads sequentially; add "
            "__len__ and __getitem__ to it, or read files in a processor"
        )
    if name == stages[READ_STAGE] and measured.cpu_share < IO_BOUND_CPU_SHARE:
        return (
            f"limited by I/O: CPU time is only {100 * measured.cpu_share:.0f} % of the processing time; "
            f"use more workers ({flag} {max(4, 2 * measured.processes)}), "
            f"or read each sample only once (--{group}.cache memory)"
        )
    bottleneck = {
        stages[READ_STAGE]: "reading and decoding samples",
        stages[BATCH_STAGE]: "batching (padding and stacking)",
    }.get(name, f"processor {name}")
    if measured.processes < cores:
        advice = f"use all {cores} cores: {flag} {cores}"
    else:
        advice = (
            f"all {cores} cores are in use; optimize it, or cache its output with --{group}.cache memory if it is "
            "deterministic"
        )
    if measured.cpu_share < IO_BOUND_CPU_SHARE:
        advice += (
            f"\n(CPU time is only {100 * measured.cpu_share:.0f} % of the workers' time: is the machine overloaded?)"
        )
    return f"limited by {bottleneck} ({share}); {advice}"
