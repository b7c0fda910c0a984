"""States of runs, from what they leave behind."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from batches import make_fake_batch

from tfaip_like import UsageError
from tfaip_like._cli.experiments import experiments
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments._status.batch_status import read_status
from tfaip_like.experiments._status.run_state import determine_state, final_state
from tfaip_like.experiments._status_table import collect_statuses, find_batches, format_table, only_runs
from tfaip_like.experiments.launchers import JobStatus, Slurm
from tfaip_like.experiments.launchers._slurm import make_job_status
from tfaip_like.experiments.launchers._tickets import Ticket, make_ticket, write_ticket

KILLED = ("failed", "killed by signal 9")


@pytest.mark.parametrize(
    ("code", "cancelled", "record", "expected"),
    [
        (0, False, {"status": "done"}, ("done", "")),
        (0, True, {"status": "done"}, ("done", "")),
        (None, False, {"status": "done"}, ("done", "")),
        (143, True, {"status": "stopped"}, ("cancelled", "")),
        (None, True, {}, ("cancelled", "")),
        (143, False, {"status": "stopped"}, ("stopped", "")),
        (None, False, {"status": "stopped"}, ("stopped", "")),
        (1, False, {"status": "failed", "error": "the loss is nan\nand more"}, ("failed", "the loss is nan")),
        (None, False, {"status": "failed", "error": "no data"}, ("failed", "no data")),
        (2, False, {}, ("failed", "")),
        (-9, False, {"status": "running"}, KILLED),
        (137, False, {"status": "running"}, KILLED),
        (None, False, {"status": "running"}, ("failed", "killed")),
    ],
)
def test_state_of_an_ended_run(
    code: int | None, cancelled: bool, record: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert final_state(code, Ticket("ended", cancelled=cancelled), record) == (*expected, None)


@pytest.mark.parametrize(
    ("job", "begun", "record", "expected"),
    [
        (make_job_status("PENDING"), False, {}, ("waiting", "", None)),
        (make_job_status("PENDING"), False, {"status": "failed"}, ("waiting", "", None)),
        (make_job_status("PENDING"), True, {"status": "stopped"}, ("preempted", "", None)),
        (make_job_status("RUNNING", "n1"), True, {"status": "running"}, ("running", "", "n1")),
        (make_job_status("COMPLETED", "n1"), True, {"status": "done", "host": "n1"}, ("done", "", "n1")),
        (
            make_job_status("CANCELLED"),
            True,
            {"status": "stopped", "host": "n1"},
            ("cancelled", "", "n1"),
        ),
        (
            make_job_status("TIMEOUT"),
            True,
            {"status": "running"},
            ("failed", "time limit exceeded (--time)", None),
        ),
        (make_job_status("PENDING", reason="Priority"), False, {}, ("waiting", "", None)),
        (make_job_status("PENDING", reason="Nodes"), False, {}, ("waiting", "pending: Nodes", None)),
        (make_job_status("FAILED"), False, {"status": "stopped"}, ("failed", "exceeded memory limit", None)),
        (None, False, {}, ("failed", "exceeded memory limit", None)),
        (None, True, {"status": "done"}, ("done", "", None)),
    ],
)
def test_state_of_a_run_on_a_cluster(
    job: JobStatus | None, begun: bool, record: dict[str, Any], expected: tuple[str, str, str | None], tmp_path: Path
) -> None:
    batch = Batch(tmp_path)
    ticket = Ticket("waiting", Slurm().to_dict(), submitted=time.time(), job="7_0")
    folder = batch.run_dir("wide")
    folder.path.mkdir(parents=True)
    folder.run.write_text('{"format_version": 1}')
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "slurm-7_0.log").write_text("slurmstepd: error: exceeded memory limit\nerror: cancelled\n")
    ticket = ticket.replace(submitted=0.0 if begun else 1e12)
    assert determine_state(batch, "wide", ticket, record, job) == expected


def test_progress_is_read_from_history_and_the_best_export(tmp_path: Path) -> None:
    batch = make_fake_batch(tmp_path, "  wide: {trainer.epochs: 10}\n  other: {}\n")
    run = batch.run_dir("wide")
    run.best.mkdir(parents=True)
    run.run.write_text(json.dumps({"format_version": 1, "status": "stopped", "host": "n1"}))
    run.history.write_text("epoch,loss,val_loss,seconds\n1,0.5,0.4,9\n2,0.3,0.25,2\n3,0.2,,2\n")
    (run.best / "metrics.json").write_text(json.dumps({"format_version": 1, "epoch": 2, "loss": 0.3, "val_loss": 0.25}))
    with batch.lock():
        write_ticket(batch, "wide", make_ticket())
    status = read_status(batch)
    wide = status.runs[0]
    assert (wide.state, wide.epoch, wide.epochs, wide.monitor, wide.best) == ("waiting", 3, 10, "val_loss", 0.25)
    assert wide.seconds_left == pytest.approx(7 * 13 / 3)
    assert status.needs_scheduler
    assert "wide   waiting  3/10   val_loss 0.25  0:00:30" in format_table([status])


@pytest.mark.parametrize(("last_epoch", "best"), [(1, 0.25), (3, 0.4)])
def test_the_best_value_ignores_a_summary_from_before_a_resume(tmp_path: Path, last_epoch: int, best: float) -> None:
    batch = make_fake_batch(tmp_path, "  wide: {trainer.epochs: 10}\n")
    run = batch.run_dir("wide")
    run.best.mkdir(parents=True)
    run.run.write_text(json.dumps({"format_version": 1, "status": "running"}))
    run.history.write_text("epoch,loss,val_loss,seconds\n1,0.5,0.4,9\n2,0.3,0.25,2\n3,0.2,,2\n")
    (run.best / "metrics.json").write_text(json.dumps({"format_version": 1, "epoch": 2, "loss": 0.3, "val_loss": 0.25}))
    best_epoch = {"epoch": 1, "monitor": "val_loss", "mode": "min", "value": 0.4}
    summary = {"format_version": 1, "best": best_epoch, "last": {"epoch": last_epoch}}
    run.summary.write_text(json.dumps(summary))
    assert read_status(batch).runs[0].best == best


def test_batches_are_found_below_a_folder_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("a/version_10", "a/version_9", "b", ".hidden/c", "x/x/x/x/x"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "batch.json").touch()
    (tmp_path / "b" / "runs" / "inner").mkdir(parents=True)
    found = [batch.path.relative_to(tmp_path).as_posix() for batch in find_batches(tmp_path)]
    assert found == ["a/version_9", "a/version_10", "b"]
    assert list(find_batches(tmp_path / "b")) == [Batch(tmp_path / "b")]


def test_a_cancelled_run_stays_cancelled_if_the_cluster_is_unreachable(tmp_path: Path) -> None:
    batch = Batch(tmp_path)
    ticket = Ticket("waiting", Slurm().to_dict(), submitted=time.time(), job="7_0")
    assert determine_state(batch, "wide", ticket, {}, JobStatus("unknown")) == ("waiting", "", None)
    cancelled = ticket.replace(cancelled=True, state="ended")
    assert determine_state(batch, "wide", cancelled, {}, JobStatus("unknown")) == ("cancelled", "", None)


def test_a_damaged_batch_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_fake_batch(tmp_path, "  wide: {}\n")
    damaged = ["{", "[]", "{}", "{V}", '{V, "runs": [{"name": 1}]}', '{V, "more": 1, "runs": []}']
    for number, text in enumerate(text.replace("V", '"format_version": 1') for text in damaged):
        (tmp_path / f"bad_{number}").mkdir()
        (tmp_path / f"bad_{number}" / "batch.json").write_text(text)
    *bad, good = collect_statuses([])
    assert [status.problem.partition(": ")[2].partition(";")[0] for status in bad] == [
        "not valid JSON: Expecting property name enclosed in double quotes",
        "expected an object, got []",
        "format_version: missing key",
        "scenario: missing key",
        "runs.0.name: expected a string, got 1",
        "more: unknown key",
    ]
    assert good.counts == {"new": 1}
    with pytest.raises(UsageError, match=r"bad_0/batch.json, line 1: not valid JSON"):
        collect_statuses(["bad_0"])


def test_show_can_select_runs_and_configurations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batch = make_fake_batch(tmp_path, "  wide: {grid: {model.dropout: [0.0, 0.2]}}\n  deep: {}\n")
    found = collect_statuses([str(batch.path)])
    assert [run.name for run in only_runs(found, ["wide"])[0].runs] == ["wide.01", "wide.02"]
    assert only_runs(found, ["wide.02", "d*"])[0].counts == {"new": 2}
    capsys.readouterr()
    experiments(["show", str(batch.path), "wide.02", "--brief"])
    assert capsys.readouterr().out.startswith(f"{batch.path}: 1 run: 1 new")
    with pytest.raises(UsageError, match="^wild: no run or configuration matches; available: wide.01, wide.02, deep$"):
        experiments(["show", str(batch.path), "wild"])
