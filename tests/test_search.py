# ruff: noqa: E501
"""Search: values are chosen by what earlier runs have reached; it can be killed and resumed."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
from pathlib import Path

import pytest
from batches import command, environment, experiments, states, wait_until

from tfaip_like._cli.experiments import experiments as main
from tfaip_like._utils.locks import file_lock
from tfaip_like.experiments import add
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments._plans.flag_values import FlagValue
from tfaip_like.experiments._plans.plan_reader import read_plan
from tfaip_like.experiments._search.search import Searcher, create_search
from tfaip_like.experiments._search.settings import LOCK_FILENAME, SearchOptions, read_search_settings, search_dir
from tfaip_like.experiments._status_table import collect_statuses, format_table
from tfaip_like.experiments._submit import SubmitOptions
from tfaip_like.experiments.launchers._tickets import make_ticket, write_ticket

optuna = pytest.importorskip("optuna")

PLAN = """\
scenario: experts
description: how large should steps be?
configurations:
  fixed:
    trainer.epochs: 5
  steps:
    extends: fixed
    random:
      draws: 8
      seed: 3
      values:
        learning_rate.lr: {log_uniform: [0.0001, 1]}
        optimizer: {choice: [Adam, SGD]}
"""

JOB = """\
#!/bin/bash
# Stands for a training whose loss is smallest at a rate of 0.01; a rate above 0.5 fails.
batch=$(cd "$(dirname "$0")" && pwd); mkdir -p "$batch/runs/$1"
exec python3 - "$batch/jobs/$1.json" "$batch/runs/$1" <<'END'
import json, math, pathlib, sys, time
params, out = json.load(open(sys.argv[1])), pathlib.Path(sys.argv[2])
rate = params["learning_rate"]["lr"]
assert rate < 0.5, "train-scenario: the loss is NaN"
text = "epoch,loss,val_loss,seconds\\n"
for epoch in range(1, params["trainer"]["epochs"] + 1):
    time.sleep(SECONDS)
    loss = (math.log10(rate) + 2) ** 2 + 1 / epoch if epoch % 2 else ""  # not validated in every epoch
    text += f"{epoch},-1,{loss},0.1\\n"
    (out / ".new").write_text(text)
    (out / ".new").rename(out / "history.csv")
(out / "run.json").write_text(json.dumps({"format_version": 1, "status": "done"}))
END
"""


def start_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float = 0.02, jobs: int = 1) -> Batch:
    """Return a search whose jobs take no time."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.yaml").write_text(PLAN)
    folder = tmp_path / "batches" / "steps"
    batch = create_search(read_plan(Path("plan.yaml")), folder, PLAN, SearchOptions(jobs=jobs))
    batch.job_script_path.write_text(JOB.replace("SECONDS", str(seconds)))
    return batch


def decided(batch: Batch) -> dict[str, str]:
    """Return the state of the trial of each run."""
    backend = optuna.storages.journal.JournalFileBackend(str(search_dir(batch) / "study.journal"))
    study = optuna.load_study(study_name="steps", storage=optuna.storages.JournalStorage(backend))
    return {trial.user_attrs["run"]: trial.state.name for trial in study.trials if trial.user_attrs}


def test_all_trials_are_runs_of_a_normal_batch_and_the_best_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = start_search(tmp_path, monkeypatch)
    lines: list[str] = []
    search = Searcher(batch, read_plan(batch.plan_path), SubmitOptions(jobs=2), lines.append)
    search.run()
    outcomes = decided(batch)
    assert len(outcomes) == len(lines) == len(batch.read_index().runs) == 8
    assert set(outcomes.values()) <= {"COMPLETE", "PRUNED", "FAIL"}
    for name, state in states(batch).items():
        assert state == {"COMPLETE": "done", "PRUNED": "cancelled", "FAIL": "failed"}[outcomes[name]]
    best = search.best()
    assert best is not None
    rate = json.loads(batch.params_path(best[0]).read_text())["learning_rate"]["lr"]
    assert 0.0005 < rate < 0.2
    assert any(line.startswith(f"{best[0]}: val_loss") and "(best so far)" in line for line in lines)
    assert "to resume" not in format_table(collect_statuses([str(batch.path)]))


@pytest.mark.slow
def test_a_stopped_search_is_shown_with_the_command_to_resume_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = start_search(tmp_path, monkeypatch)
    command = f"experiments search {batch.path}"
    assert f"search stopped after 0 of 8 runs; run `{command}` to resume it" in format_table(
        collect_statuses([str(batch.path)])
    )
    plan = read_plan(batch.plan_path)
    name, _ = plan.search_space(None)
    [run] = add(batch, plan, runs=[plan.make_trial_run(name, {"learning_rate.lr": FlagValue(("0.1",))})])
    write_ticket(batch, run.name, make_ticket())
    assert f"scheduler is not running; run `{command}` to restart it" in format_table(
        collect_statuses([str(batch.path)])
    )
    with file_lock(search_dir(batch) / LOCK_FILENAME):  # as a search does, which restarts its queue
        assert "to resume" not in format_table(collect_statuses([str(batch.path)]))
    main(["cancel", str(batch.path)])
    assert f"cancelled; to resume: {command}\n" in capsys.readouterr().out


@pytest.mark.slow
def test_a_search_that_was_killed_resumes_with_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = start_search(tmp_path, monkeypatch, seconds=0.2)
    words = command("search", batch.path, "--jobs", 2)
    process = subprocess.Popen(words, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True)
    wait_until(lambda: len(batch.read_index().runs) >= 3)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = [run.name for run in batch.read_index().runs]
    done = experiments(tmp_path, "search", batch.path, "--jobs", 2)
    assert done.returncode == 0, done.stderr
    outcomes = decided(batch)
    assert list(outcomes)[: len(before)] == before
    assert list(outcomes) == [run.name for run in batch.read_index().runs]
    assert len(outcomes) == 8
    assert "RUNNING" not in outcomes.values()
    assert "best: " in done.stdout
    more = experiments(tmp_path, "search", batch.path, "--trials", 9)
    assert more.returncode == 0, more.stderr
    assert len(decided(batch)) == 9


@pytest.mark.parametrize(
    ("change", "words", "says"),
    [
        (("random:", "list:\n      - {model.dropout: 0.1}\n    random:"), "", "plan.yaml, line 6: 'steps' has `list`; a search supports `random` values only"),
        (("  steps:", "  more: {random: {draws: 2, values: {learning_rate.lr: {uniform: [0.1, 1]}}}}\n  steps:"), "", "plan.yaml, line 3: expected one configuration with `random` values, got more, steps; choose one with --configuration"),
        (("", ""), "--configuration fixed", "plan.yaml, line 4: 'fixed' has no `random` values to search"),
        (("", ""), "--configuration stesp", "--configuration: unknown configuration 'stesp'; did you mean 'steps'?"),
        (("learning_rate.lr", "learning_rate.rate"), "", "plan.yaml, line 12: --learning_rate.rate: unknown flag; did you mean --learning_rate.lr?"),
        (("", ""), "--dry_run true", "--dry_run true: not available: a search always runs and waits for its runs"),
        (("", ""), "--trials 0", "--trials 0: must be at least 1"),
    ],
)  # fmt: skip
def test_invalid_searches_are_reported(tmp_path: Path, change: tuple[str, str], words: str, says: str) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN.replace(*change, 1) if change[0] else PLAN)
    done = experiments(tmp_path, "search", "plan.yaml", *words.split())
    assert (done.returncode, done.stderr) == (2, f"experiments: {says}\n")
    assert not (tmp_path / "batches").exists()


@pytest.mark.slow
def test_a_search_that_resumes_draws_other_values_and_works_as_it_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = start_search(tmp_path, monkeypatch, jobs=2)
    dataclasses.replace(read_search_settings(batch), trials=3).write(batch)
    for more in ([], ["--trials", "6"]):
        main(["search", str(batch.path), *more])
        assert "of steps, 2 at a time" in capsys.readouterr().out
    rates = [run.flags["learning_rate.lr"] for run in batch.read_index().runs]
    assert len(set(rates)) == len(rates) == 6


@pytest.mark.slow
def test_texts_with_spaces_are_searched_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = "trainer.description: {choice: ['one two']}\n        warmstart.include: {choice: [['a b', 'c']]}"
    plan = PLAN.replace("optimizer: {choice: [Adam, SGD]}", texts).replace(
        "epochs: 5", "epochs: 1\n    warmstart.model: m"
    )
    monkeypatch.setattr("test_search.PLAN", plan)
    batch = start_search(tmp_path, monkeypatch)
    dataclasses.replace(read_search_settings(batch), trials=1).write(batch)
    Searcher(batch, read_plan(batch.plan_path), SubmitOptions(), lambda line: None).run()
    [run] = batch.read_index().runs
    params = json.loads(batch.params_path(run.name).read_text())
    assert (params["trainer"]["description"], params["warmstart"]["include"]) == ("one two", ["a b", "c"])
