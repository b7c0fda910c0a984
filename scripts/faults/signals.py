"""Campaign of signals in every phase of a training, for every pipeline and network; runs are resumed and compared.

A cell is a signal, a phase, a pipeline and a network. The list of cells is fixed: a third of all combinations, chosen
so that every combination of any three of the four occurs. How a phase is hit (in its beginning or its end, in this
epoch or that, with or without data workers) follows from the number of the cell.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGINT, SIGKILL, SIGSTOP, Signals
from typing import NamedTuple

import psutil

from scripts.faults import fault_points
from scripts.faults.outcome import Outcome
from scripts.faults.scenarios import BATCH, ORDER_FILE_VARIABLE, SAMPLES, STEPS, TARGET_SAMPLE_VARIABLE, write_lists
from scripts.faults.server import Command, ForkServer, map_parallel, session_processes, wait_until
from scripts.faults.table import format_table

SIGNALS = ("INT", "TERM", "USR1", "twice", "STOP", "KILL")
PHASES = ("step", "waiting", "validation", "export", "checkpoint", "within", "callback", "logger")
"""Phases; `within` is a validation within an epoch, every `VALIDATION_STEPS`, and `logger` the thread of a logger."""
VALIDATION_STEPS = 3
PIPELINES = ("Arrays", "Processes", "Streams", "Lists")
NETWORKS: Mapping[str, Sequence[str]] = {
    "BatchNorm": ["--trainer.calc_ema", "0.9", "--learning_rate", "CosineDecay"],
    "Recurrent": ["--optimizer", "RMSprop", "--optimizer.momentum", "0.9"],
    "VAE": ["--learning_rate", "ReduceOnPlateau", "--learning_rate.patience", "1", "--learning_rate.min_delta", "10"],
    "Plain": ["--trainer.precision", "mixed_float16"],
    "BFloat16": ["--optimizer", "SGD", "--optimizer.momentum", "0.9"],
    "Custom": ["--optimizer", "ScheduleFreeAdamW"],
}
"""The networks, each with settings that have a state."""
ACCUMULATE_STEPS = {"Recurrent": 2, "Plain": 2}
"""Batches of a step, where it is not one."""
XLA_COMBINATIONS = {("Arrays", "VAE"), ("Lists", "Custom"), ("Arrays", "BatchNorm")}
"""Compiled by XLA, unless a fault is injected in a step: XLA cannot call back into Python."""
EPOCHS = 3
FLAGS = [
    *("--trainer.epochs", str(EPOCHS), "--trainer.random_seed", "7", "--trainer.samples_per_epoch", str(SAMPLES)),
    *("--trainer.steps_per_execution", "2", "--trainer.keep_checkpoints", "100", "--early_stopping.n_to_go", "50"),
    *("--train.prefetch", "1", "--val.batch_size", str(BATCH), "--learning_rate.lr", "0.01"),
]
TIMEOUT_S = 5.0
"""The time limit for a sample in runs that are suspended, which takes longer."""
REACH_TIMEOUT_S, END_TIMEOUT_S, TRAINING_TIMEOUT_S = 120.0, 60.0, 240.0
"""Limits for a run to reach its point, to end after its signal, and for a whole training."""
SIGNAL_DEBOUNCE_S = 0.2
"""Seconds within which the same signal may be taken for a copy of the first."""
MAX_TRIES = 3
SHUFFLE_STRIDE = 211


class Reference(NamedTuple):
    """Uninterrupted run that others are compared with."""

    pipeline: str
    network: str
    is_compiled: bool
    validates_within: bool
    """Whether it is validated within epochs."""


@dataclass(frozen=True)
class Cell:
    """One interrupted run of the campaign."""

    number: int
    signal: str
    phase: str
    pipeline: str
    network: str

    def __str__(self) -> str:
        return f"{self.number:03d} {self.signal:5} {self.phase:10} {self.pipeline:9} {self.network}"

    @property
    def reference(self) -> Reference:
        """Return what is the same for all runs that must end alike."""
        is_compiled = (self.pipeline, self.network) in XLA_COMBINATIONS and self.phase != "step"
        if (backend := os.environ.get("KERAS_BACKEND", "tensorflow")) != "tensorflow":
            is_compiled = backend == "jax"
        return Reference(self.pipeline, self.network, is_compiled, self.phase == "within")

    @property
    def epoch(self) -> int:
        """Return the interrupted epoch, from 1; the number of epochs plus 1 after the last."""
        if self.point == "export trace":  # once in a run
            return 1
        return EPOCHS + 1 if self.point == "last export" else 2 + (self.number // 7) % 2

    @property
    def is_last_step(self) -> bool:
        """Return whether the network waits for the last step of the epoch, not for one in the middle."""
        return bool((self.number // 5) % 2)

    @property
    def processes(self) -> int:
        """Number of data workers."""
        return {"Arrays": 0, "Processes": 1 + self.number % 2}.get(self.pipeline, (self.number // 3) % 2)

    @property
    def point(self) -> str:
        """Return the armed fault point."""
        points = {
            "validation": ["evaluator", "validation data"],
            "within": ["evaluator", "validation data"],
            "export": ["export config", "export trace", "export sync", "last export"],
            "checkpoint": ["checkpoint sync", "checkpoint rename"],
            "callback": ["callback step", "callback validation", "callback epoch"],
        }.get(self.phase, [self.phase])
        return points[(self.number // 2) % len(points)]

    @property
    def sent_signal(self) -> Signals:
        """Return the signal to send."""
        name = ("INT", "TERM", "USR1")[self.number % 3] if self.signal == "twice" else self.signal
        return Signals[f"SIG{name}"]

    @property
    def exit_code(self) -> int:
        """Return the documented exit code."""
        if self.signal == "STOP":
            return 0
        if self.signal == "KILL":
            return -SIGKILL
        return 130 if self.sent_signal is SIGINT else 143

    @property
    def hold_s(self) -> float:
        """Return the seconds for which the training stays in the phase after the fault."""
        return {"step": 0.5, "waiting": 1.0}.get(self.phase, 0.2)

    @property
    def is_finished(self) -> bool:
        """Return whether nothing may be left to train, so that a late signal need not stop the run."""
        may_be_last = ("export", "checkpoint", "callback")
        return self.phase == "logger" or (self.phase in may_be_last and self.epoch >= EPOCHS)

    @property
    def expects_checkpoint(self) -> bool:
        """Return whether the signal asks for the state to be saved; a second Ctrl-C asks to stop without."""
        return self.signal in ("INT", "TERM", "USR1") or (self.signal == "twice" and self.sent_signal is not SIGINT)

    def flags(self) -> list[str]:
        """Return the flags beyond those of the reference; none may change a number."""
        flags = ["--train.num_processes", str(self.processes), "--val.num_processes", str(self.processes)]
        if self.number % 4 or self.point == "export trace":  # it takes a third of the time of such a short run
            flags += ["--trainer.sanity_check", "false"]
        if self.signal == "STOP":
            flags += ["--train.timeout_seconds", str(TIMEOUT_S), "--val.timeout_seconds", str(TIMEOUT_S)]
        if self.phase == "checkpoint" and self.number % 2:
            flags += ["--trainer.checkpoint_every", "4steps"]
        if self.phase == "logger":
            flags += ["--loggers", "scripts.faults.scenarios:FaultPointLogger"]
        return flags


def all_cells() -> list[Cell]:
    """Return the cells of the whole campaign."""
    factors = (SIGNALS, PHASES, PIPELINES, tuple(NETWORKS))
    places = itertools.product(*(range(len(factor)) for factor in factors))
    third = [place for place in places if sum(place) % 3 == 0]
    return [
        Cell(number, *(factor[at] for factor, at in zip(factors, place, strict=True)))
        for number, place in enumerate(third)
    ]


def cells_of_backend(backend: str) -> list[Cell]:
    """Return the cells of the campaign on a backend.

    On another one than TensorFlow, these are a third of those of two networks, with BatchNormalization and averages,
    and with dropout; on PyTorch without those of the export, which a separate process writes.
    """
    cells = all_cells()
    if backend == "tensorflow":
        return cells
    chosen = [cell for cell in cells if cell.network in ("BatchNorm", "Recurrent")]
    return [cell for cell in chosen if backend == "jax" or cell.phase != "export"][::3]


def slice_of_cells() -> list[Cell]:
    """Return few cells with each signal, phase and pipeline, and few references."""
    chosen = [
        ("INT", "step", "Arrays", "Plain"),
        ("TERM", "waiting", "Processes", "BFloat16"),
        ("USR1", "validation", "Streams", "VAE"),
        ("twice", "checkpoint", "Lists", "BFloat16"),
        ("STOP", "within", "Arrays", "Plain"),
        ("KILL", "export", "Lists", "BFloat16"),
        ("TERM", "callback", "Arrays", "Plain"),
        ("USR1", "logger", "Arrays", "Plain"),
    ]
    return [Cell(number, *values) for number, values in enumerate(chosen)]


@dataclass
class Verdict:
    """Outcome of a cell."""

    cell: Cell
    hit: bool = False
    misses: int = 0
    identical: bool = False
    differs: bool = False
    hung: bool = False
    orphans: bool = False
    faults: list[str] = field(default_factory=list)
    """Descriptions of the faults."""

    def add_fault(self, text: str) -> None:
        """Note a fault."""
        self.faults.append(text)


class Campaign:
    """Campaign that interrupts a run for each cell.

    Args:
        folder: of the runs; those of cells that are as they should be are removed.
        servers: the warm processes; as many runs at a time.
    """

    def __init__(self, folder: Path, servers: Sequence[ForkServer]):
        self.folder = folder
        self.servers = servers
        self._references: dict[Reference, tuple[Outcome, list[int]]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._lists = write_lists(folder)

    def run(self, cells: Sequence[Cell]) -> list[Verdict]:
        """Return the verdicts of all cells, in their order; each is printed when it is known."""
        references = sorted({cell.reference for cell in cells})
        map_parallel(self.servers, self._train_reference, references)
        # Neighbours in the list are alike; in this order the first results already cover each factor.
        mixed = sorted(cells, key=lambda cell: cell.number * SHUFFLE_STRIDE % len(cells))
        verdicts = map_parallel(self.servers, self._run_cell, mixed)
        return sorted(verdicts, key=lambda verdict: verdict.cell.number)

    def _words(self, reference: Reference, run: Path) -> list[object]:
        pipeline, network, is_compiled, validates_within = reference
        words = [
            "train-scenario",
            f"scripts.faults.scenarios:{pipeline}",
            "--model",
            network,
            *FLAGS,
            *NETWORKS[network],
        ]
        words += self._lists if pipeline == "Lists" else []
        accumulated = ACCUMULATE_STEPS.get(network, 1)
        words += ["--trainer.accumulate_steps", str(accumulated), "--train.batch_size", str(BATCH // accumulated)]
        words += ["--trainer.val_every_n", f"{VALIDATION_STEPS}steps"] if validates_within else []
        return [*words, "--trainer.jit_compile", str(is_compiled).lower(), "--trainer.output_dir", run]

    def _train_reference(self, server: ForkServer, reference: Reference) -> None:
        run = self.folder / "_".join(map(str, ("reference", *reference)))
        order = run.with_suffix(".order")
        processes = str(int(reference[0] != "Arrays"))
        flags = ["--train.num_processes", processes, "--val.num_processes", processes]
        begin = time.monotonic()
        command = server.start(
            [*self._words(reference, run), *flags],
            run.with_suffix(".log"),
            {ORDER_FILE_VARIABLE: order},
            exits_fast=True,
        )
        if command.wait(TRAINING_TIMEOUT_S) != 0:
            command.kill()
            raise RuntimeError(f"the uninterrupted run failed, see {command.log}")
        samples = list(map(int, order.read_text().split()))
        self._references[reference] = Outcome.read(run), find_epoch_samples(samples)
        print(f"{run.name}: {time.monotonic() - begin:.1f} s", flush=True)

    def _run_cell(self, server: ForkServer, cell: Cell) -> Verdict:
        verdict = Verdict(cell)
        run = self.folder / f"cell_{cell.number:03d}"
        begin = time.monotonic()
        while not self._interrupt(server, cell, run, verdict) and verdict.misses < MAX_TRIES:
            pass
        if verdict.hit and not verdict.hung:
            self._resume(server, cell, run, verdict)
        summary = "ok" if not verdict.faults else "FAULT " + "; ".join(verdict.faults)
        print(f"{cell}: {summary} ({time.monotonic() - begin:.1f} s)", flush=True)
        if not verdict.faults:
            shutil.rmtree(run)
            for left in self.folder.glob(f"{run.name}.*"):
                left.unlink()
        return verdict

    def _interrupt(self, server: ForkServer, cell: Cell, run: Path, verdict: Verdict) -> bool:
        """Train until the fault and judge how the run ends; return whether the phase was hit."""
        shutil.rmtree(run, ignore_errors=True)
        for name in (fault_points.REACHED, fault_points.INJECTED, fault_points.LEFT):
            fault_points.marker(run, name).unlink(missing_ok=True)
        environment = {
            fault_points.POINT_VARIABLE: cell.point,
            fault_points.RUN_DIR_VARIABLE: run,
            fault_points.AFTER_EPOCHS_VARIABLE: cell.epoch - 1,
            fault_points.HOLD_S_VARIABLE: cell.hold_s,
            TARGET_SAMPLE_VARIABLE: self._target(cell),
        }
        log = run.with_suffix(".log")
        command = server.start([*self._words(cell.reference, run), *cell.flags()], log, environment)
        reached = fault_points.marker(run, fault_points.REACHED)
        wait_until(lambda: reached.exists() or not command.is_running, REACH_TIMEOUT_S)
        if not reached.exists():
            verdict.misses += 1
            code = command.wait(0)
            if code is None:
                command.kill()
                command.wait(END_TIMEOUT_S)
            if verdict.misses == MAX_TRIES:
                verdict.add_fault(f"the phase was not reached in {MAX_TRIES} runs, the last ended with {code}")
            return False
        verdict.hit = True
        if cell.phase == "waiting":
            wait_until_idle(command.pid)
        send_signals(cell, command, run)
        code = command.wait(END_TIMEOUT_S)
        if code is None:
            verdict.hung = True
            verdict.add_fault(f"hung: still running {END_TIMEOUT_S:.0f} s after the signal")
            command.kill()
            command.wait(END_TIMEOUT_S)
            return True
        if left := command.orphans():
            verdict.orphans = True
            verdict.add_fault(f"orphans: {len(left)} processes were left")
        fault_points.marker(run, fault_points.INJECTED).touch()
        # A second Ctrl-C may hit the exit of the process and end it, which a shell also reports as 130.
        ends_at_exit = cell.signal == "twice" and code == -SIGINT and cell.sent_signal is SIGINT
        if code != cell.exit_code and not ends_at_exit and not (code == 0 and cell.is_finished):
            verdict.add_fault(f"exit code {code}, expected {cell.exit_code}")
        if (
            cell.signal == "twice"
            and not cell.expects_checkpoint
            and fault_points.marker(run, fault_points.LEFT).exists()
        ):
            verdict.add_fault("the second signal did not end it immediately")
        if cell.expects_checkpoint and code:
            self._check_saved(cell, run, verdict)
        return True

    def _target(self, cell: Cell) -> int:
        """Return the number of the sample at which points of the pipeline are reached."""
        if cell.phase != "waiting":
            return SAMPLES + BATCH + 2  # even: streams have no others
        _, order = self._references[cell.reference]
        # Batches that were made ahead in the epoch before do not reach as far as the last three.
        batch = STEPS - 1 if cell.is_last_step else STEPS - 3
        return order[(cell.epoch - 1) * SAMPLES + batch * BATCH]

    def _check_saved(self, cell: Cell, run: Path, verdict: Verdict) -> None:
        """Check that the state was saved once, where the signal came."""
        begin, end = (cell.epoch - 1) * STEPS, cell.epoch * STEPS
        positions = sorted(steps_at_checkpoint(path) for path in (run / "checkpoints").glob("epoch_*"))
        new = [position for position in positions if position > begin]
        if cell.phase in ("step", "waiting") and not (len(new) == 1 and begin < new[0] < end):
            verdict.add_fault(f"state saved at steps {new}, expected one in {begin + 1} to {end - 1}")
        if (cell.phase == "validation" or cell.point == "export trace") and new != [end]:
            verdict.add_fault(f"state saved at steps {new}, expected {end}")
        # best/ is written while the next epoch trains: that of the epoch before may be the one that was hit.
        if cell.point in ("export config", "export sync") and not begin <= positions[-1] <= end + STEPS:
            verdict.add_fault(f"state saved at steps {positions}, expected one in {begin} to {end + STEPS}")
        within = (begin // VALIDATION_STEPS + 1) * VALIDATION_STEPS
        if cell.phase == "within" and new != [within]:
            verdict.add_fault(f"state saved at steps {new}, expected {within}")
        if cell.phase == "checkpoint" and begin not in positions:
            verdict.add_fault(f"state saved at steps {positions}, expected {begin} too")
        if (status := json.loads((run / "run.json").read_text()).get("status")) != "stopped":
            verdict.add_fault(f"status {status!r} after a signal")
        self._check_leftovers(run, verdict)

    def _check_leftovers(self, run: Path, verdict: Verdict) -> None:
        rest = [str(path.relative_to(run)) for path in (*run.glob(".*"), *(run / "checkpoints").glob(".*"))]
        if rest:
            verdict.add_fault(f"left over: {', '.join(rest)}")

    def _resume(self, server: ForkServer, cell: Cell, run: Path, verdict: Verdict) -> None:
        """Train to the end and compare."""
        if cell.signal != "STOP":
            flags = ["--train.num_processes", str(cell.processes)]
            command = server.start(["resume-training", run, *flags], run.with_suffix(".log"), exits_fast=True)
            code = command.wait(TRAINING_TIMEOUT_S)
            if code is None:
                verdict.hung = True
                verdict.add_fault("the resumed run hangs")
                command.kill()
                command.wait(END_TIMEOUT_S)
                return
            if code:
                verdict.add_fault(f"the resumed run ends with exit code {code}")
                return
        reference, _ = self._references[cell.reference]
        try:
            differences = Outcome.read(run).differences(reference)
        except (OSError, IndexError) as error:
            verdict.add_fault(f"incomplete: {error}")
            return
        verdict.identical, verdict.differs = not differences, bool(differences)
        if differences:
            verdict.add_fault(f"differs in {len(differences)}: {', '.join(differences[:4])}")
        self._check_leftovers(run, verdict)


def counts(verdicts: Sequence[Verdict]) -> str:
    """Return a table of counts for each value of each factor."""
    header = ["", "", "runs", "hit", "identical", "differs", "hung", "orphans", "other faults", "missed faults"]
    rows = []
    for name in ("signal", "phase", "pipeline", "network"):
        label = name
        for value in dict.fromkeys(getattr(verdict.cell, name) for verdict in verdicts):
            rows.append([label, value, *_count_row([v for v in verdicts if getattr(v.cell, name) == value])])
            label = ""
    return format_table(header, [*rows, ["all", "", *_count_row(verdicts)]])


def _count_row(verdicts: Sequence[Verdict]) -> list[int]:
    return [
        len(verdicts),
        sum(verdict.hit for verdict in verdicts),
        sum(verdict.identical for verdict in verdicts),
        sum(verdict.differs for verdict in verdicts),
        sum(verdict.hung for verdict in verdicts),
        sum(verdict.orphans for verdict in verdicts),
        sum(bool(verdict.faults) for verdict in verdicts if not verdict.differs | verdict.hung | verdict.orphans),
        sum(verdict.misses for verdict in verdicts),
    ]


def find_epoch_samples(read: Sequence[int]) -> list[int]:
    """Return the part of all samples that were read which the epochs consist of.

    Before it, some are read to learn their shapes; after it, a stream is read ahead. Each epoch has all of them.
    """
    each = Counter(sorted(set(read)) * (SAMPLES // len(set(read))))
    for begin in range(len(read) - EPOCHS * SAMPLES + 1):
        epochs = [read[begin + n * SAMPLES :][:SAMPLES] for n in range(EPOCHS)]
        if all(Counter(epoch) == each for epoch in epochs):
            return list(itertools.chain(*epochs))
    raise RuntimeError(f"the order of the samples is not known: {read}")


def steps_at_checkpoint(checkpoint: Path) -> int:
    """Return the steps of the run before a checkpoint."""
    _, epoch, *rest = checkpoint.name.split("_")
    return int(epoch) * STEPS + (int(rest[-1]) if rest else 0)


def wait_until_idle(pid: int, limit_s: float = 20.0) -> None:
    """Wait until a process computes nothing: the network has taken all batches that were ready."""

    def cpu_seconds() -> float:
        times = psutil.Process(pid).cpu_times()
        return times.user + times.system

    end = time.monotonic() + limit_s
    with contextlib.suppress(psutil.NoSuchProcess):
        before = cpu_seconds()
        while time.monotonic() < end:
            time.sleep(0.3)
            if (now := cpu_seconds()) - before < 0.025:
                return
            before = now


def send_signals(cell: Cell, command: Command, run: Path) -> None:
    """Send the signal, or signals, of a cell to a run that is blocked in its phase."""
    injected = fault_points.marker(run, fault_points.INJECTED)
    size = command.log.stat().st_size
    if cell.signal == "STOP":
        for number in (SIGSTOP, SIGCONT):
            for pid in session_processes(command.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if number == SIGSTOP:
                time.sleep(TIMEOUT_S + 1)
        injected.touch()
        return
    os.kill(command.pid, cell.sent_signal)
    if cell.signal == "twice":
        # Only after the first was acknowledged on the console; what comes in the same moment is a copy of it.
        wait_until(lambda: command.log.stat().st_size > size or not command.is_running, 5.0)
        time.sleep(SIGNAL_DEBOUNCE_S)
        with contextlib.suppress(ProcessLookupError):
            os.kill(command.pid, cell.sent_signal)
    if cell.expects_checkpoint:
        injected.touch()
