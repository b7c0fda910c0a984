"""Hyperparameter search with Optuna in a normal batch.

Values are sampled by TPE (Bergstra et al. 2011, https://papers.nips.cc/paper/4443). A run is pruned if its value is
worse than the median of earlier runs at the same epoch.

BATCH/search/
  search.json    settings of the search
  study.journal  trials and their results
"""

from __future__ import annotations

import json
import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.reader import Run
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.json_files import format_json
from tfaip_like._utils.locks import file_lock
from tfaip_like.experiments._batches.batch import Batch, BatchRun
from tfaip_like.experiments._batches.generation import add, generate, load_batch_scenario
from tfaip_like.experiments._cancel import cancel
from tfaip_like.experiments._plans.configuration import Distribution
from tfaip_like.experiments._plans.flag_values import FlagValue, to_flag_value
from tfaip_like.experiments._plans.plan import Plan, PlannedRun
from tfaip_like.experiments._plans.resolution import Resolver, load_plan_scenario
from tfaip_like.experiments._search.journal import open_journal, remove_leftovers
from tfaip_like.experiments._search.settings import (
    LOCK_FILENAME,
    SearchOptions,
    SearchSettings,
    encode_options,
    read_search_settings,
    search_dir,
)
from tfaip_like.experiments._status.batch_status import read_status
from tfaip_like.experiments._status.run_state import ACTIVE_STATES
from tfaip_like.experiments._submit import SubmitOptions, submit
from tfaip_like.experiments.launchers._recorded import restart_queues
from tfaip_like.params._formatting import format_flag_words

logger = logging.getLogger(__name__)

POLL_INTERVAL_S = 1.0
LOCK_TIMEOUT_S = 0.2
"""`is_search_running` of another process holds the lock for a moment."""
JOURNAL_FILENAME = "study.journal"
RUN_ATTRIBUTE = "run"
"""User attribute of a trial with the name of its run."""
NUM_STARTUP_TRIALS = 5
"""Number of finished trials before the first one is pruned."""


def create_search(plan: Plan, folder: Path, text: str | None, options: SearchOptions) -> Batch:
    """Create the batch of a search, without runs.

    Args:
        plan: plan with the configuration to search.
        folder: see `generate`.
        text: see `generate`.
        options: options of the search, which are stored for resuming it.

    Raises:
        UsageError: if the plan is invalid.
    """
    name, draws = plan.search_space(options.configuration)
    scenario = load_plan_scenario(plan)
    source = random.Random(draws.seed)  # noqa: S311  (no secret)
    trial = plan.make_trial_run(name, {flag: values.draw(source) for flag, values in draws.values.items()})
    tree = Resolver(scenario)(trial).params
    mode = tree.early_stopping.mode or type(tree.model).best[1]
    batch = generate(plan, folder, text, runs=())
    trials = options.trials or draws.draws
    SearchSettings(name, trials, draws.seed, options.prune, mode, encode_options(options)).write(batch)
    return batch


class Searcher:
    """Hyperparameter search in a batch; resumes an interrupted search.

    Args:
        batch: batch that `create_search` made.
        plan: plan of the batch.
        options: options for submitting the runs.
        log: called with a line of text for each run that has ended.
    """

    def __init__(self, batch: Batch, plan: Plan, options: SubmitOptions, log: Callable[[str], None]):
        self.batch = batch
        self.plan = plan
        self.options = options
        self.log = log
        self.settings = read_search_settings(batch)
        self.name, draws = plan.search_space(self.settings.configuration)
        self.space = {flag: _to_optuna_distribution(values) for flag, values in draws.values.items()}
        self.study = self._open_study()
        self.running: dict[str, Any] = {}
        """Unfinished trials, by the names of their runs."""
        self.reported: dict[str, int] = {}
        """Last epoch of each run that was reported to its trial."""
        self.pruned: set[str] = set()

    @property
    def num_parallel_runs(self) -> int:
        """Return the number of parallel runs."""
        return self.options.jobs or self.options.launcher.default_jobs(self.options.make_request())

    def run(self) -> None:
        """Run the search until all trials are finished.

        Raises:
            UsageError: if another process is running the search.
        """
        with _exclusive_search(self.batch):
            remove_leftovers(search_dir(self.batch) / JOURNAL_FILENAME)
            self._recover_trials()
            while self._poll_runs():
                time.sleep(max(POLL_INTERVAL_S, self.options.launcher.poll_interval_s))

    def best(self) -> tuple[str, float] | None:
        """Return the name and the value of the best run; None if no run is done."""
        if not any(trial.state.name == "COMPLETE" for trial in self.study.get_trials(deepcopy=False)):
            return None
        best = self.study.best_trial
        return str(best.user_attrs[RUN_ATTRIBUTE]), float(best.value)

    def _poll_runs(self) -> bool:
        """Finish trials whose runs have ended, and start new ones; return whether any are unfinished."""
        batch_status = read_status(self.batch)
        if batch_status.needs_scheduler:  # it was killed
            restart_queues(self.batch)
        status = {run.name: run for run in batch_status.runs}
        runs = {run.name: run for run in self.batch.read_index().runs}
        for name, trial in list(self.running.items()):
            values = _read_monitor_values(self.batch.run_dir(name), runs[name].monitor)
            self._report(name, trial, values)
            state = status[name].state
            if state not in ACTIVE_STATES:
                self._finish_trial(runs[name], trial, state, values, status[name].reason)
            elif self.settings.prune and name not in self.pruned and trial.should_prune():
                self.pruned.add(name)
                cancel(self.batch, [name])
        num_started = len(self._trials_by_run())
        while len(self.running) < self.num_parallel_runs and num_started < self.settings.trials:
            self._start_trial()
            num_started += 1
        return bool(self.running)

    def _start_trial(self) -> None:
        trial = self.study.ask(self.space)
        (run,) = add(self.batch, self.plan, runs=[self._plan_trial(trial.params)])
        trial.set_user_attr(RUN_ATTRIBUTE, run.name)
        self.running[run.name] = trial
        submit(self.batch, [run.name], self.options)

    def _plan_trial(self, params: Mapping[str, object]) -> PlannedRun:
        return self.plan.make_trial_run(self.name, {flag: _to_flag_value(value) for flag, value in params.items()})

    def _trials_by_run(self) -> dict[str, Any]:
        """Return all trials that have a run, by the name of the run."""
        trials = self.study.get_trials(deepcopy=False)
        return {trial.user_attrs[RUN_ATTRIBUTE]: trial for trial in trials if RUN_ATTRIBUTE in trial.user_attrs}

    def _report(self, name: str, trial: Any, values: Mapping[int, float]) -> None:
        for epoch, value in values.items():
            if epoch > self.reported.get(name, 0):
                self.reported[name] = epoch
                trial.report(value, epoch)

    def _finish_trial(self, run: BatchRun, trial: Any, state: str, values: Mapping[int, float], reason: str) -> None:
        from optuna.trial import TrialState

        del self.running[run.name]
        better = max if self.settings.mode == "max" else min
        flags = " ".join(
            format_flag_words(f"--{flag}", _to_flag_value(value).words) for flag, value in trial.params.items()
        )
        finite = [value for value in values.values() if math.isfinite(value)]
        if run.name in self.pruned and state != "done":  # it may have finished before the cancellation
            self.study.tell(trial, state=TrialState.PRUNED)
            self.log(f"{run.name}: pruned after epoch {max(values, default=0)}: {flags}")
        elif state != "done" or not finite:
            self.study.tell(trial, state=TrialState.FAIL)
            self.log(f"{run.name}: {state}{f', {reason}' if reason else ''}: {flags}")
        else:
            value = better(finite)
            best = self.best()
            is_best = best is None or better(value, best[1]) != best[1]
            self.study.tell(trial, value)
            self.log(f"{run.name}: {run.monitor} {value:.6g}{' (best so far)' if is_best else ''}: {flags}")

    def _recover_trials(self) -> None:
        """Recover the unfinished trials of an interrupted search."""
        import optuna

        unfinished = [trial for trial in self.study.get_trials(deepcopy=False) if trial.state.name == "RUNNING"]
        if not unfinished:
            return
        owned = self._trials_by_run()
        resolver = Resolver(load_batch_scenario(self.batch))
        orphans = {_flags_key(run.flags): run.name for run in self.batch.read_index().runs if run.name not in owned}
        for frozen in unfinished:
            trial = optuna.trial.Trial(self.study, frozen._trial_id)
            name = frozen.user_attrs.get(RUN_ATTRIBUTE) or orphans.get(self._params_key(resolver, frozen.params))
            if name is None:  # the search was killed before the run was added
                self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            trial.set_user_attr(RUN_ATTRIBUTE, name)
            self.running[name] = trial
            self.reported[name] = max(frozen.intermediate_values, default=0)
            submit(self.batch, [name], self.options)

    def _params_key(self, resolver: Resolver, params: Mapping[str, object]) -> str:
        flags = resolver(self._plan_trial(params)).flags
        return _flags_key({flag: value.words for flag, value in flags.items()})

    def _open_study(self) -> Any:
        optuna = _import_optuna()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with open_journal(search_dir(self.batch) / JOURNAL_FILENAME) as backend:
            study = optuna.create_study(
                study_name=self.name,
                storage=optuna.storages.JournalStorage(backend),
                direction="maximize" if self.settings.mode == "max" else "minimize",
                pruner=optuna.pruners.MedianPruner(n_startup_trials=NUM_STARTUP_TRIALS, n_warmup_steps=1),
                load_if_exists=True,
            )
        # A resumed search needs another seed, or it samples the same values again. The constant liar keeps parallel
        # trials apart.
        seed = self.settings.seed + len(study.get_trials(deepcopy=False))
        study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        return study


def require_optuna() -> None:
    """Raise `UsageError` if Optuna is not installed."""
    _import_optuna()


def _import_optuna() -> Any:
    try:
        import optuna
        import optuna.storages.journal
    except ModuleNotFoundError as error:
        raise UsageError("optuna is not installed; pip install 'tfaip_like[search]'") from error
    return optuna


def _to_optuna_distribution(values: Distribution) -> Any:
    from optuna import distributions

    if values.kind == "choice":
        # Optuna supports strings as choices: the words of each value, as a list in JSON.
        choices = [format_json(list(to_flag_value(value, "").words)) for value in values.values]
        return distributions.CategoricalDistribution(list(dict.fromkeys(choices)))
    low, high = (float(word) for word in to_flag_value(values.values, "").words)
    if values.kind == "integer":
        return distributions.IntDistribution(int(low), int(high))
    return distributions.FloatDistribution(low, high, log=values.kind == "log_uniform")


def _to_flag_value(value: object) -> FlagValue:
    """Return the words of a value that Optuna sampled."""
    if isinstance(value, str):
        return FlagValue(tuple(json.loads(value)))
    return FlagValue((f"{value:.6g}" if isinstance(value, float) else str(value),))


def _flags_key(flags: Mapping[str, Sequence[str]]) -> str:
    return format_json(sorted((flag, list(words)) for flag, words in flags.items()))


def _read_monitor_values(run: OutputDir, monitor: str) -> dict[int, float]:
    """Return the last value of the monitor in each completed epoch that has one."""
    reader = Run(run)
    rows = [row for row in reader.history if row["epoch"] <= reader.num_epochs]
    # Without validation data, the training value is used in all epochs.
    name = monitor if any(monitor in row for row in rows) else monitor.removeprefix("val_")
    return {math.ceil(row["epoch"]): row[name] for row in rows if name in row}


@contextmanager
def _exclusive_search(batch: Batch) -> Iterator[None]:
    try:
        with file_lock(search_dir(batch) / LOCK_FILENAME, timeout_s=LOCK_TIMEOUT_S):
            yield
    except BlockingIOError as error:
        raise UsageError(f"{batch.path}: another process is running this search") from error
