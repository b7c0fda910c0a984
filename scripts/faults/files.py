"""Campaign of kills, full disks and I/O errors at every file operation of a run, which is resumed and compared.

A small library is compiled, and preloaded into the processes of the runs (`operations.c`), so operations of
TensorFlow's C++ are hit like those of Python. A first run counts the operations below its folder.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scripts.faults.outcome import Outcome
from scripts.faults.server import ForkServer, map_parallel
from scripts.faults.table import format_table

FAULT_KINDS = ("KILL", "ENOSPC", "EIO")
FLAGS = [
    *("--trainer.epochs", "2", "--trainer.random_seed", "7", "--trainer.samples_per_epoch", "8"),
    *("--train.batch_size", "4", "--train.num_processes", "0", "--val.num_processes", "0"),
    *("--trainer.jit_compile", "false", "--trainer.steps_per_execution", "2", "--trainer.keep_checkpoints", "1"),
    *("--trainer.sanity_check", "false"),  # it writes nothing below the folder
]
TRAIN = ["train-scenario", "scripts.faults.scenarios:Arrays", "--model", "Tiny", "--optimizer", "SGD", *FLAGS]
TIMEOUT_S = 1800.0
"""After which a run counts as hung; long, as the machine may be busy."""
DAMAGE_PATTERN = re.compile(r"is damaged|no complete checkpoint|Traceback|internal error|[Ss]egmentation|core dumped")
"""Texts that no log may contain, however a run was stopped."""


def compiler() -> str | None:
    """Return the path of a C compiler, if there is one."""
    return shutil.which("gcc") or shutil.which("cc")


def compile_library(folder: Path) -> Path:
    """Compile the library that hits operations."""
    library = folder / "operations.so"
    source = Path(__file__).with_name("operations.c")
    program = compiler()
    assert program is not None
    subprocess.run([program, "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True)
    return library


@dataclass(frozen=True)
class Injection:
    """One run of the campaign."""

    how: str
    at: int
    """Index of the operation."""


@dataclass
class Verdict:
    """Outcome of a hit."""

    hit: Injection
    operation: str
    """The operation and its file; empty if the run had fewer."""
    ending: str = ""
    """killed, continued (it ended as if nothing had happened), or failed (with a clear message)."""
    identical: bool = False
    hung: bool = False
    fault: str = ""


class Campaign:
    """Campaign that hits operations.

    Verdicts without a fault are kept in `verdicts.jsonl` of the folder, so an interrupted campaign continues there,
    unless the run has other operations now.

    Args:
        folder: of the runs; those that are as they should be are removed.
        servers: warm processes with the library.
    """

    def __init__(self, folder: Path, servers: Sequence[ForkServer]):
        self.folder = folder
        self.servers = servers
        folder.mkdir(parents=True, exist_ok=True)
        reference = folder / "reference"
        listed = reference.with_suffix(".operations")
        self._train(servers[0], reference, {"FAULTS_LIST": listed})
        self.reference = Outcome.read(reference)
        self.operations = listed.read_text().splitlines()
        self.record = folder / "verdicts.jsonl"
        self.known = self._read_record()

    def run(self, hits: Sequence[Injection]) -> list[Verdict]:
        """Return the verdicts of all hits, in their order."""
        missing = [hit for hit in hits if hit not in self.known]
        if self.known:
            print(f"{len(hits) - len(missing)} of {len(hits)} verdicts are in {self.record}", flush=True)
        self.known |= {verdict.hit: verdict for verdict in map_parallel(self.servers, self._run_injection, missing)}
        return [self.known[hit] for hit in hits]

    def hits(self, stride: int = 1) -> list[Injection]:
        """Return the hits: each operation, or every n-th with another beginning for each kind of fault."""
        return [
            Injection(how, at)
            for place, how in enumerate(FAULT_KINDS)
            for at in range(1 + place * stride // len(FAULT_KINDS), len(self.operations) + 1, stride)
        ]

    def _read_record(self) -> dict[Injection, Verdict]:
        """Return the verdicts of an earlier campaign on the same operations; begin a record if there is none."""
        names = [line.replace(f"{self.folder}/", "") for line in self.operations]
        if self.record.exists():
            first, *lines = map(json.loads, self.record.read_text().splitlines())
            if first == names:
                verdicts = [Verdict(**{**values, "hit": Injection(**values["hit"])}) for values in lines]
                return {verdict.hit: verdict for verdict in verdicts}
        self.record.write_text(json.dumps(names) + "\n")
        return {}

    def _train(self, server: ForkServer, run: Path, environment: dict[str, object]) -> int | None:
        words = [*TRAIN, "--trainer.output_dir", run]
        if (run / "trainer_params.json").exists():
            words = ["resume-training", run]
        command = server.start(words, run.with_suffix(".log"), {"FAULTS_BELOW": run, **environment}, exits_fast=True)
        code = command.wait(TIMEOUT_S)
        if code is None:
            command.kill()
            command.wait(TIMEOUT_S)
        return code

    def _run_injection(self, server: ForkServer, hit: Injection) -> Verdict:
        run = self.folder / f"{hit.how}_{hit.at:04d}"
        shutil.rmtree(run, ignore_errors=True)
        listed, log = run.with_suffix(".operations"), run.with_suffix(".log")
        environment = {"FAULTS_AT": hit.at, "FAULTS_HOW": hit.how, "FAULTS_LIST": listed}
        code = self._train(server, run, environment)
        hit_lines = [line for line in listed.read_text().splitlines() if line.endswith(" HIT")]
        verdict = Verdict(hit, hit_lines[0].replace(f"{run}/", "").removesuffix(" HIT") if hit_lines else "")
        self._check_outcome(server, run, code, verdict)
        if found := DAMAGE_PATTERN.search(log.read_text(errors="replace")):
            verdict.fault = verdict.fault or f"the log says {found[0]!r}"
        if verdict.fault:
            print(f"{hit.how} at {verdict.operation}: FAULT {verdict.fault} (see {log})", flush=True)
        else:
            shutil.rmtree(run, ignore_errors=True)
            for left in (listed, log):
                left.unlink()
            with self.record.open("a") as record:
                record.write(json.dumps(asdict(verdict)) + "\n")
        return verdict

    def _check_outcome(self, server: ForkServer, run: Path, code: int | None, verdict: Verdict) -> None:
        """Judge how the run ended, resume it if it did not end well, and compare."""
        if code is None:
            verdict.hung, verdict.fault = True, "hung"
            return
        verdict.ending = {0: "continued", -signal.SIGKILL: "killed"}.get(code, "failed")
        if code not in (0, 1, 2) and not (verdict.hit.how == "KILL" and code == -signal.SIGKILL):
            verdict.fault = f"exit code {code}"
            return
        if code != 0:
            again = self._train(server, run, {})
            if again is None:
                verdict.hung, verdict.fault = True, "the resumed run hangs"
                return
            if again:
                verdict.fault = f"after exit code {code} the resumed run ends with exit code {again}"
                return
        try:
            differences = Outcome.read(run).differences(self.reference)
        except (OSError, IndexError) as error:
            verdict.fault = f"incomplete: {error}"
            return
        verdict.identical = not differences
        if differences:
            verdict.fault = f"differs in {len(differences)}: {', '.join(differences[:4])}"
        rest = [path.name for path in (*run.glob(".*"), *(run / "checkpoints").glob(".*"))]
        if rest and not verdict.fault and verdict.hit.how != "EIO":  # what cannot be removed stays
            verdict.fault = f"left over: {', '.join(rest)}"


def counts(verdicts: Sequence[Verdict]) -> str:
    """Return a table of counts for each kind of fault."""
    header = ["", "operations", "hit", "killed", "continued", "failed", "identical", "hung", "faults"]
    rows = []
    for how in FAULT_KINDS:
        of_kind = [verdict for verdict in verdicts if verdict.hit.how == how]
        endings = [sum(verdict.ending == ending for verdict in of_kind) for ending in ("killed", "continued", "failed")]
        identical, hung = (sum(getattr(v, name) for v in of_kind) for name in ("identical", "hung"))
        hit = sum(bool(verdict.operation) for verdict in of_kind)
        rows.append([how, len(of_kind), hit, *endings, identical, hung, sum(bool(v.fault) for v in of_kind)])
    return format_table(header, rows)
