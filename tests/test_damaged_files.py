"""Files that we read back, damaged in every way: the answer names the file and the key or line, or it is right."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batches import make_fake_batch
from conftest import slow
from damage import RAW, Damage, damages
from small import Small, small

from tfaip_like import Spec, UsageError, train
from tfaip_like._cli.resume_training import COMMAND as RESUME
from tfaip_like._cli.train_scenario import COMMAND as TRAIN
from tfaip_like._export.pipeline import load_pipeline
from tfaip_like._export.scenario_loading import load_scenario
from tfaip_like._report.comparison import Comparison
from tfaip_like._report.summary_html import render_summary
from tfaip_like._report.summary_store import list_stored_summaries, store_summaries
from tfaip_like._runs.batch_layout import run_code_name_path
from tfaip_like._runs.git import read_git_state
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.reader import read_runs
from tfaip_like._training.checkpointing.checkpoints import CHECKSUMS_FORMAT, list_checkpoints
from tfaip_like._training.resume import load_resume_state
from tfaip_like._user_code.trust import _warn_damaged_record, is_recorded, record_trusted_code
from tfaip_like.data._loader.bad_samples import BadSampleLog
from tfaip_like.data._sources.file_lists import iter_list_file
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments._batches.generation import expand_plan, prepare_runs
from tfaip_like.experiments._plans.plan_reader import read_plan
from tfaip_like.experiments._plans.resolution import load_plan_scenario
from tfaip_like.experiments._resources.calibration import Calibration, make_setup_key
from tfaip_like.experiments._resources.estimate import (
    CALIBRATIONS_FORMAT,
    Estimates,
    _StoredCalibrations,
    read_calibrations,
)
from tfaip_like.experiments._search.journal import open_journal
from tfaip_like.experiments._search.settings import SearchSettings, read_search_settings, read_submit_options
from tfaip_like.experiments._status_table import collect_statuses, format_table
from tfaip_like.experiments.launchers import Slurm
from tfaip_like.experiments.launchers._local_scheduler import QueueSettings, _read_settings
from tfaip_like.experiments.launchers._submissions import record_submission
from tfaip_like.experiments.launchers._tickets import make_ticket, read_tickets, write_ticket
from tfaip_like.inference._experts import gather_experts, read_expert_exports
from tfaip_like.inference._input_files import read_samples
from tfaip_like.params._apply import ResolvedParams, apply_settings, settings_from_file, validate_resolved
from tfaip_like.params._base import default_instance
from tfaip_like.params._files import read_param_file
from tfaip_like.settings import Resume
from tfaip_like.summaries import ConfusionMatrix, Histogram, PRCurve, Summary

SAMPLE, ALL = 25, 2500
ONE_OF_EACH = 0
"""One damage of each kind for each file, instead of a number."""
ENDS_ANYWHERE = ("bad_samples.csv", "history.csv", "study.journal")


@dataclass(frozen=True)
class Subject:
    """A file, and what reads it."""

    file: Path
    read: Callable[[], object]
    may_be_missing: bool = False
    defaults: bool = False
    """Whether keys that are missing have a default."""


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Subject]]:
    """Every file that we read: of a batch with a run that was trained, its export, a search."""
    folder = tmp_path_factory.mktemp("damaged")
    with pytest.MonkeyPatch.context() as patch:
        # A separate record of trusted code: that of all tests has thousands of entries, and each is damaged.
        patch.setenv("XDG_CONFIG_HOME", str(folder / "configuration"))
        batch = make_fake_batch(folder, "  wide: {trainer.epochs: 2, data.processors: [{class: Noise, scale: 0.5}]}\n")
        trained = train_into(batch, folder)
        patch.chdir(folder)
        export = trained / "best"
        found = [of_batch(batch), of_run(trained), of_export(export, folder), of_search(batch), of_summaries(folder)]
        found.append(of_cluster(folder))
        yield [subject for subjects in (*found, of_lines(folder)) for subject in subjects]


def train_into(batch: Batch, folder: Path) -> Path:
    """Train as a run of a batch."""
    run = batch.run_dir("wide").path
    train(small(run, trainer={"epochs": 2}))
    write_ticket(batch, "wide", make_ticket().replace(state="ended", code=0))
    QueueSettings(2, (0, 1)).write(batch)
    (run / "bad_samples.csv").write_text("sample,reason\nsample 3,it is bad\n")
    return run


def of_batch(batch: Batch) -> Iterator[Subject]:
    def shown() -> str:
        return format_table(collect_statuses([str(batch.path)]))

    run = batch.run_dir("wide")
    yield Subject(batch.index_file, batch.read_index, defaults=True)
    yield Subject(batch.queue_dir / "wide.json", lambda: read_tickets(batch), may_be_missing=True, defaults=True)
    yield Subject(batch.queue_dir / ".settings", lambda: _read_settings(batch), may_be_missing=True, defaults=True)
    for file in (run.run, run.summary, run.history, run.best / "metrics.json"):
        yield Subject(file, shown, may_be_missing=True, defaults=True)
    code = run_code_name_path(batch.path, "wide")
    code.write_text("code\n")
    yield Subject(code, lambda: batch.run_code_dir("wide").name, may_be_missing=True)
    yield Subject(batch.code_dir / ".git_state.json", lambda: read_git_state(batch.code_dir / "x.py"), True, True)
    yield Subject(batch.plan_path, lambda: runs_of(batch.plan_path), defaults=True)
    yield Subject(
        batch.params_path("wide"),
        lambda: TRAIN.read_scenario(["--params", str(batch.params_path("wide"))]),
        defaults=True,
    )
    yaml_file = batch.path / "params.yaml"
    yaml_file.write_text(
        "trainer:\n  epochs: 2\nmodel: {dropout: 0.5}\ndata:\n  processors:\n  - class: Noise\n    scale: 0.5\n"
    )
    yield Subject(yaml_file, lambda: resolved(yaml_file), defaults=True)


def of_cluster(folder: Path) -> Iterator[Subject]:
    """Yield the files that only a batch on a cluster has."""
    (folder / "cluster").mkdir()
    batch = make_fake_batch(folder / "cluster", "  wide: {trainer.epochs: 2}\n")
    submission = record_submission(batch, [["wide"]], lambda folder: "# job\n", Slurm().to_dict(), Slurm.task_id)
    job = submission.folder / "job"
    job.write_text("12\n")
    yield Subject(
        submission.folder / "submission.json", lambda: read_tickets(batch), may_be_missing=True, defaults=True
    )
    yield Subject(job, lambda: read_tickets(batch), may_be_missing=True)
    runs = batch.read_index().runs
    calibration = Calibration("wide", make_setup_key(runs[0]), 100, 1000, 100, 1.0, 2.0, 0.5, 300.0, when="today")
    file = batch.path / "calibrations.json"
    CALIBRATIONS_FORMAT.write(file, _StoredCalibrations((calibration,)))

    def estimated() -> object:
        estimates = Estimates(batch, read_calibrations(batch) or [calibration], 60)
        return estimates.limits(runs), estimates.text(runs, [])

    yield Subject(file, estimated, may_be_missing=True, defaults=True)


def runs_of(plan_file: Path) -> object:
    plan = read_plan(plan_file)
    scenario = load_plan_scenario(plan)
    return [(one.run, one.params) for one in prepare_runs(expand_plan(plan, scenario), plan, scenario, ())]


def resolved(file: Path) -> object:
    from experts import Experts

    return validate_resolved(
        apply_settings(ResolvedParams(default_instance(Experts)), settings_from_file(read_param_file(file), str(file)))
    )


def of_run(run: Path) -> Iterator[Subject]:
    def compared() -> object:
        runs = read_runs([run])
        shown = [*(problem for one in runs for problem in one.problems), Comparison(runs).json()]
        return "\n".join([*shown, *(str(dict(one.parameters)) for one in runs)])

    for name in ("run.json", "summary.json", "history.csv"):
        yield Subject(run / name, compared, may_be_missing=True, defaults=True)
    yield Subject(run / "trainer_params.json", lambda: RESUME.read_scenario([str(run)]), defaults=True)
    checkpoint = list_checkpoints(run / "checkpoints")[-1]
    for name in ("state.json", "params.json", "checksums.json"):
        yield Subject(checkpoint.path / name, lambda: with_warnings(lambda: state_of(run)), defaults=True)
    for name in ("state.json", "params.json"):
        yield Subject(checkpoint.path / name, lambda: read_with_valid_checksums(checkpoint.path, run), defaults=True)
    yield Subject(
        run / "bad_samples.csv", lambda: BadSampleLog(run / "bad_samples.csv", 9).samples, may_be_missing=True
    )


def read_with_valid_checksums(checkpoint: Path, run: Path) -> object:
    """Return what is read of a checkpoint whose files somebody has edited with all care."""
    file = checkpoint / "checksums.json"
    before = file.read_bytes()
    names = ("variables.npz", "state.json", "params.json")
    digests = {name: sha256((checkpoint / name).read_bytes()) for name in names if (checkpoint / name).is_file()}
    checksums = {name: digests[name].hexdigest() if name in digests else "" for name in names}
    CHECKSUMS_FORMAT.write(file, checksums)  # type: ignore[arg-type]
    try:
        return with_warnings(lambda: state_of(run))
    finally:
        file.write_bytes(before)


def state_of(run: Path) -> object:
    found = load_resume_state(OutputDir(run), Resume())
    assert found is not None
    asked = RESUME.read_scenario([str(run)])
    scenario = asked.scenario if asked is not None else Small()
    return (
        found.checkpoint.path.name,
        replace(found.state, selection=replace(found.state.selection, stop_reason=None, stop_settings={})),
        found.changed_params(scenario, OutputDir(run)),
    )


def of_export(export: Path, folder: Path) -> Iterator[Subject]:
    from tfaip_like._export.layout import read_versions
    from tfaip_like._runs.run_files import read_metrics

    yield Subject(export / "scenario_params.json", lambda: load_scenario(export), defaults=True)
    yield Subject(export / "pipeline.json", lambda: load_pipeline(export), defaults=True)
    yield Subject(export / "metrics.json", lambda: read_metrics(export), may_be_missing=True, defaults=True)
    yield Subject(export / "versions.json", lambda: read_versions(export), defaults=True)
    experts = folder / "experts"
    gather_experts({"one": export, "two": export}, experts)
    yield Subject(experts / "experts.json", lambda: read_expert_exports(experts), may_be_missing=True, defaults=True)
    code = folder / "code.py"
    code.touch()
    record_trusted_code([code])
    record = Path(os.environ["XDG_CONFIG_HOME"], "tfaip_like", "trusted_code.json")
    yield Subject(record, lambda: with_warnings(lambda: is_recorded(code)), may_be_missing=True, defaults=True)


def with_warnings(read: Callable[[], object]) -> object:
    """Return what is read, and what is warned of."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    _warn_damaged_record.cache_clear()
    logging.getLogger("tfaip_like").addHandler(handler)
    try:
        return read(), messages
    finally:
        logging.getLogger("tfaip_like").removeHandler(handler)


def of_search(batch: Batch) -> Iterator[Subject]:
    SearchSettings("wide", 3, 1, True, "min", {"jobs": 2}).write(batch)
    settings, journal = (batch.path / "search" / name for name in ("search.json", "study.journal"))
    yield Subject(settings, lambda: read_submit_options(batch, read_search_settings(batch)), True, True)
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def study() -> Any:
        with open_journal(journal) as backend:
            storage = optuna.storages.JournalStorage(backend)
            return optuna.create_study(study_name="wide", storage=storage, load_if_exists=True)

    for value in (1.0, 2.0):
        trial = study().ask({"x": optuna.distributions.FloatDistribution(0, 1)})
        trial.set_user_attr("run", "wide")
        study().tell(trial, value)
    yield Subject(journal, lambda: [(trial.params, trial.value) for trial in study().get_trials()], may_be_missing=True)


def of_summaries(folder: Path) -> Iterator[Subject]:
    summaries: dict[str, Summary] = {
        "histogram": Histogram(np.arange(5.0), buckets=3),
        "curve": PRCurve(np.array([0, 1, 1]), np.array([0.1, 0.4, 0.9])),
        "matrix": ConfusionMatrix(np.array([0, 1, 1]), np.array([0, 1, 0]), names=("a", "b")),
    }
    store_summaries(folder / "summaries", summaries)
    for one in list_stored_summaries(folder / "summaries"):
        yield Subject(one.path, partial(lambda one: str(render_summary(one)), one))


def of_lines(folder: Path) -> Iterator[Subject]:
    samples, names = folder / "samples.jsonl", folder / "names.txt"
    samples.write_text('{"x": [1, 2]}\n{"x": [3, 4]}\n')
    names.write_text("# some\na.png\nb.png\n")
    yield Subject(samples, lambda: list(read_samples([str(samples)], {"x": Spec((2,))}, "--x")), defaults=True)
    yield Subject(names, lambda: list(iter_list_file(names)))


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("number", [SAMPLE, slow(ONE_OF_EACH), slow(ALL)])
def test_a_damaged_file_is_named_with_the_key_or_line_or_read_rightly(number: int, subjects: list[Subject]) -> None:
    cases = [
        (subject, damage)
        for subject in subjects
        for damage in damages(subject.file.read_bytes(), subject.file.suffix or subject.file.name)
    ]
    if number == ONE_OF_EACH:
        chosen = list(
            {(subject.file, subject.read, kind_of(damage)): (subject, damage) for subject, damage in cases}.values()
        )
    else:
        step = len(cases) / min(number, len(cases))
        chosen = [cases[int(index * step)] for index in range(min(number, len(cases)))]
    faults = [
        f"{subject.file.name}: {damage.name}: {fault}"
        for subject, damage in chosen
        if (fault := fault_of(subject, damage))
    ]
    print(f"{len(faults)} of {len(chosen)} (of {len(cases)} in all)", file=sys.stderr)
    assert not faults, "\n".join([f"{len(faults)} of {len(chosen)}", *faults])


def kind_of(damage: Damage) -> str:
    """Return what was done to a file, without the place."""
    if damage.key is None:
        return re.sub(r"\d+", "", damage.name)
    change = re.sub(r"^(line \d+: )?\S+?(?=[ :])", "", damage.name)
    return f"{change} of {type(damage.before).__name__}"


def fault_of(subject: Subject, damage: Damage) -> str:
    """Return what is wrong with the answer to a damaged file."""
    usual = read_intact(subject)
    content = subject.file.read_bytes()
    aside = subject.file.with_name(f"{subject.file.name}.aside")
    subject.file.rename(aside)
    try:
        write_damaged(subject.file, damage)
        try:
            answer = repr(subject.read())
        except UsageError as error:
            if damage.kind == "missing" and subject.may_be_missing:
                return ""  # names the directory: a batch without search.json is not a search
            return fault_of_message(subject, damage, str(error))
        except Exception as error:
            return f"{type(error).__name__}: {str(error)[:100]}"
        if answer == usual or not fault_of_message(subject, damage, answer):
            return ""
        if damage.kind == "missing" and subject.may_be_missing:
            return ""
        return "" if is_another_valid_file(subject, damage, answer) else f"silently read as {difference(usual, answer)}"
    finally:
        if subject.file.is_dir() and not subject.file.is_symlink():
            subject.file.rmdir()
        else:
            subject.file.unlink(missing_ok=True)
        aside.rename(subject.file)
        assert subject.file.read_bytes() == content


@cache
def read_intact(subject: Subject) -> str:
    return repr(subject.read())


def write_damaged(file: Path, damage: Damage) -> None:
    if damage.content is not None:
        file.write_bytes(damage.content)
    elif damage.kind == "directory":
        file.mkdir()
    elif damage.kind == "dangling link":
        file.symlink_to("nowhere")


def fault_of_message(subject: Subject, damage: Damage, text: str) -> str:
    if subject.file.name not in text:
        return f"does not name the file: {text[:150]}"
    names_place = (
        re.search(r"line \d+|\.(json|yaml|settings): ([\w.]+: |checksum mismatch)", text)
        or (damage.key or text) in text
    )
    if not names_place and damage.kind == "file":
        return f"names neither key nor line: {text[:150]}"
    return ""


def is_another_valid_file(subject: Subject, damage: Damage, answer: str) -> bool:
    """Return whether a damaged file is one that somebody could have written so."""
    before, after = damage.before, damage.after
    is_yaml = subject.file.suffix == ".yaml"
    if damage.name.startswith("cut") and (is_yaml or subject.file.name in ENDS_ANYWHERE):
        return True  # at the end of a line
    if damage.name == "twice" and subject.file.name == "study.journal":
        return True  # it is added to
    if damage.name == "empty" and subject.file.name == "study.journal":
        return True  # of a search that was killed before its first trial
    if damage.name == "broken character" and subject.file.name == "bad_samples.csv":
        return True  # names of files may be of any bytes
    if subject.file.name == "names.txt":
        return damage.kind == "file"  # every line is the name of a file, of any bytes; it is opened later
    if subject.file.name == "samples.jsonl" and damage.name in ("empty", "only white space", "twice", "another file"):
        return True  # any number of samples; their inputs are checked against the network later
    if subject.file.name == "samples.jsonl" and damage.name.startswith("cut"):
        return (damage.content or b"").rstrip().endswith(b"}")  # at the end of a line
    if damage.name == "an empty object":
        return subject.defaults
    if damage.content is None or after is RAW:
        return False
    if damage.name.startswith("launcher."):
        return True  # checked when the launcher is loaded, which may not be installed on this machine
    if damage.name.endswith("misspelt"):
        # The keys are paths, or names of packages of which only some are read.
        may_be_any = subject.file.name == "trusted_code.json" or (
            subject.file.name == "versions.json" and isinstance(before, str)
        )
        return may_be_any or f"{damage.key}x" in answer
    if before is None or after is None or type(before) is type(after) or (subject.defaults and is_deleted(damage)):
        return True
    if is_yaml and isinstance(before, str):  # every word there can be a text
        return not isinstance(after, (list, dict))
    return is_number(before) and is_number(after)


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_deleted(damage: Damage) -> bool:
    return damage.name.endswith("deleted")


def difference(usual: str, answer: str) -> str:
    start = next((i for i, (a, b) in enumerate(zip(usual, answer, strict=False)) if a != b), 0)
    return f"{answer[max(0, start - 20) : start + 80]!r}"
