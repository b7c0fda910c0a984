"""How fast an input pipeline is, what limits it, and what to change."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tfaip_like._inspection.opening import opened
from tfaip_like._utils.errors import Interrupted, counted
from tfaip_like._utils.interruption import InterruptFlag
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import Batches
from tfaip_like.data._sample import Mode
from tfaip_like.params import Params
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)

READING, BATCHING = 0, -1
SECONDS_BETWEEN_LINES = 5.0
HANDING_OVER_IS_MUCH = 0.4
MANY = 1000
"""Batches of an epoch, where nobody has counted them."""
WAITING_FOR_A_DISK = 0.5


class Benchmark(Params):
    """What is measured, and for how long."""

    mode: Literal["train", "val"] = "train"
    """Which data."""

    seconds: float | None = None
    """Stop after this time; by default at Ctrl-C."""

    samples: int | None = None
    """Stop after so many samples."""

    warmup_seconds: float = 2.0
    """Time at the beginning that does not count: processes start, queues and caches fill."""

    def check(self) -> None:
        self.require(self.seconds is None or self.seconds > 0, "seconds", "must be above 0")
        self.require(self.samples is None or self.samples > 0, "samples", "must be above 0")
        self.require(self.warmup_seconds >= 0, "warmup_seconds", "must be 0 or more")


@dataclass(frozen=True)
class Measured:
    """What was measured in a window of steady work.

    Attributes:
        start_seconds: until the first batch was there.
        seconds: length of the window.
        stages: seconds of work in each stage, over all processes.
        handing_over: seconds of packing and unpacking between processes.
        cpu_share: of the time of the data processes' work, what a processor computed.
        busy: part of the window in which the data processes worked.
        queue_fill: part of the batches ahead that were ready when one was asked for.
    """

    processes: int
    start_seconds: float
    seconds: float
    samples: int
    batches: int
    nbytes: int
    stages: dict[str, float]
    handing_over: float
    cpu_share: float
    busy: float
    queue_fill: float
    shared_bytes: int

    @property
    def work(self) -> float:
        """Seconds of work in all stages, and handing over."""
        return sum(self.stages.values()) + self.handing_over


def measure(scenario: Scenario, settings: Benchmark, interrupt: InterruptFlag) -> str:
    """Reads batches as fast as they come, until the time is over or Ctrl-C; the result as text."""
    with opened(scenario, settings.mode, "--benchmark.mode", interrupt.check) as batches:
        epochs = scenario.trainer.epochs
        steps = MANY if batches.stream is not None else batches.steps_per_epoch or batches.steps or 0
        batches.decide_processes(epochs * steps)
        measured = _measured(batches, settings, interrupt)
        return report(scenario, batches, measured, settings.mode)


def _measured(batches: Batches, settings: Benchmark, interrupt: InterruptFlag) -> Measured:
    begin = time.perf_counter()
    stream = _endless(batches)
    next(stream)
    started = time.perf_counter()
    while time.perf_counter() - started < settings.warmup_seconds and interrupt.number is None:
        next(stream)
    window = _Window(batches)
    logger.info("measuring now; Ctrl-C ends it with the result")
    with contextlib.suppress(Interrupted):  # raised while waiting for a data process
        while interrupt.number is None and not window.is_over(settings):
            window.add(next(stream))
            window.tell_now_and_then()
    return window.measured(started - begin)


def _endless(batches: Batches) -> Iterator[Batch]:
    if batches.samples.mode is Mode.TRAIN:
        yield from batches.training(0, 2**62)
    while True:
        yield from batches.once()


class _Window:
    """Counts what happens from now on."""

    def __init__(self, batches: Batches):
        self.batches = batches
        self.workers = batches.makers.workers
        self.begin = time.perf_counter()
        self.cpu_begin = time.process_time()
        self.stages_begin = self._stages().copy()
        self.workers_begin = self.workers.seconds.copy() if self.workers else np.zeros(0)
        self.handing_begin = self.workers.handing_over if self.workers else 0.0
        self.workers_cpu_begin = self.workers.cpu if self.workers else 0.0
        self.samples = self.count = self.nbytes = 0
        self.fills: list[float] = []
        self._told = self.begin

    def _stages(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Return the seconds of each stage, in all processes: this one reads and batches streams."""
        here = self.batches.samples.seconds
        return here + self.workers.seconds if self.workers else here

    def add(self, batch: Batch) -> None:
        """Counts a batch (or several, stacked)."""
        steps = len(batch) if self.batches.is_stacked else 1
        self.count += steps
        self.samples += steps * self.batches.batch_size if self.batches.is_stacked else len(batch)
        self.nbytes += batch.nbytes()
        if self.workers:
            self.fills.append(min(1.0, self.workers.ready() / self.workers.ahead))

    def tell_now_and_then(self) -> None:
        """Logs the speed so far."""
        now = time.perf_counter()
        if now - self._told > SECONDS_BETWEEN_LINES:
            self._told = now
            logger.info("%.0f s: %.1f samples/s", now - self.begin, self.samples / (now - self.begin))

    def is_over(self, settings: Benchmark) -> bool:
        """Return whether enough was measured."""
        late = settings.seconds is not None and time.perf_counter() - self.begin >= settings.seconds
        return late or (settings.samples is not None and self.samples >= settings.samples)

    def measured(self, start_seconds: float) -> Measured:
        """The result."""
        seconds = time.perf_counter() - self.begin
        stages = _by_name(self.batches.samples.stages, (self._stages() - self.stages_begin).tolist())
        handing_over = self.workers.handing_over - self.handing_begin if self.workers else 0.0
        work = sum(stages.values()) + handing_over
        cpu = (self.workers.cpu - self.workers_cpu_begin) if self.workers else time.process_time() - self.cpu_begin
        count = self.workers.count if self.workers else 0
        return Measured(
            processes=count,
            start_seconds=start_seconds,
            seconds=seconds,
            samples=self.samples,
            batches=self.count,
            nbytes=self.nbytes,
            stages=stages,
            handing_over=handing_over,
            cpu_share=min(1.0, cpu / work) if work else 1.0,
            busy=self._busy(seconds, work),
            queue_fill=float(np.mean(self.fills)) if self.fills else 0.0,
            shared_bytes=self.workers.nbytes() if self.workers else 0,
        )

    def _busy(self, seconds: float, work: float) -> float:
        """Return the part of the time in which the data processes worked, or this one where there are none."""
        if not seconds:
            return 0.0
        if self.workers is None:
            return min(1.0, work / seconds)
        own = float(self.workers.seconds.sum() - self.workers_begin.sum()) + self.workers.handing_over
        return min(1.0, (own - self.handing_begin) / (seconds * self.workers.count))


def _by_name(stages: Sequence[str], seconds: Sequence[float]) -> dict[str, float]:
    """Return the seconds of each stage; processors of one class get numbers."""
    named: dict[str, float] = {}
    for place, (stage, of_stage) in enumerate(zip(stages, seconds, strict=True)):
        name = stage if stages.count(stage) == 1 else f"{stage} ({place})"
        named[name] = of_stage
    return named


def report(scenario: Scenario, batches: Batches, measured: Measured, group: str) -> str:
    """The result as text, with a verdict."""
    if not measured.samples:
        return "nothing was measured: the time was too short for a batch"
    processes = counted(measured.processes, "data process").replace("processs", "processes")
    size = counted(len(batches), "sample") if len(batches) else "a stream of samples"
    lines = [
        f"{type(scenario).__name__}, --{group}: {size}, batches of {batches.batch_size}, {processes}",
        f"first batch after {measured.start_seconds:.2f} s; then measured for {measured.seconds:.1f} s",
        "",
        f"  samples/s  {measured.samples / measured.seconds:12.1f}",
        f"  batches/s  {measured.batches / measured.seconds:12.1f}",
        "",
        f"  {'stage':<24}{'share':>8}{'ms per sample':>16}",
    ]
    stages = {**measured.stages, "handing over": measured.handing_over}
    for name, seconds in stages.items():
        share, each = seconds / max(measured.work, 1e-9), 1000 * seconds / measured.samples
        lines.append(f"  {name:<24}{100 * share:>6.0f} %{each:>16.4f}")
    lines += ["", f"  {measured.nbytes / measured.samples / 1e3:.3g} kB per sample, {_copies(measured)}"]
    if measured.processes:
        lines.append(
            f"  processes busy {100 * measured.busy:.0f} %, batches ahead ready {100 * measured.queue_fill:.0f} %"
        )
    is_read_in_order = batches.order is None
    return "\n".join([*lines, "", f"verdict: {verdict(measured, group, batches.samples.is_plain, is_read_in_order)}"])


def _copies(measured: Measured) -> str:
    if not measured.processes:
        return "made in this process, not copied between any"
    return f"copied twice: into {measured.shared_bytes / 1e6:.3g} MB of shared memory and out of it"


def verdict(measured: Measured, group: str, is_plain: bool, is_read_in_order: bool = False) -> str:
    """Return what limits the pipeline, and what to change.

    Args:
        is_plain: whether batches are cut out of arrays.
        is_read_in_order: whether the source has no index.
    """
    cores = len(os.sched_getaffinity(0))
    flag = f"--{group}.num_processes"
    if is_plain:
        return "batches are cut out of arrays in memory, as fast as that can be; nothing to change"
    if measured.handing_over > HANDING_OVER_IS_MUCH * measured.work:
        return (
            "limited by handing batches from process to process (pickling and copying), not by making them; "
            f"{flag} 0 makes them in the main process"
        )
    name, seconds = max(measured.stages.items(), key=lambda stage: stage[1])
    share = f"{100 * seconds / max(measured.work, 1e-9):.0f} % of the work"
    stages = list(measured.stages)
    if name == stages[READING] and is_read_in_order:
        return (
            f"limited by the source ({share}), which the main process reads one sample after another; give it __len__ "
            "and __getitem__, or read files in a processor"
        )
    if name == stages[READING] and measured.cpu_share < WAITING_FOR_A_DISK:
        return (
            f"limited by the disk: processors compute only {100 * measured.cpu_share:.0f} % of the time; "
            f"more processes can wait at the same time ({flag} {max(4, 2 * measured.processes)}), "
            f"and --{group}.cache memory reads each sample once"
        )
    what = {stages[READING]: "reading and decoding samples", stages[BATCHING]: "batching (padding and stacking)"}.get(
        name, f"the processor {name}, in Python"
    )
    if measured.processes < cores:
        change = f"{flag} {cores} uses all {cores} cores"
    else:
        change = f"all {cores} cores are used; make it faster, or keep its results with --{group}.cache memory"
        change += " if it is not random"
    others = ""
    if measured.cpu_share < WAITING_FOR_A_DISK:
        others = (
            f"\n(The processes got a core for {100 * measured.cpu_share:.0f} % of their time: is the machine busy?)"
        )
    return f"limited by {what} ({share}); {change}{others}"
