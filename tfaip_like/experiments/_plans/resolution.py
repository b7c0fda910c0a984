"""Resolution of planned runs: flags applied to the parameters of the scenario, and validated."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tfaip_like._runs.batch_layout import RUNS_DIR
from tfaip_like._scenario_lookup import find_scenario
from tfaip_like._user_code.trust import guarded_imports
from tfaip_like._utils.errors import UsageError
from tfaip_like.experiments._plans.flag_values import Flags
from tfaip_like.experiments._plans.plan import Plan, PlannedRun
from tfaip_like.experiments._plans.plan_reader import CONFIGURATION_KEYS
from tfaip_like.params._apply import ResolvedParams, Setting, SettingsNode, apply_settings
from tfaip_like.params._base import default_instance, field_types
from tfaip_like.params._ignored_flags import iter_ignored_params
from tfaip_like.params._tree import current_path, validate_params
from tfaip_like.scenario import Scenario

_LEADING_FLAG = re.compile(r"--(\S+)")


@dataclass(frozen=True)
class ResolvedRun:
    """Planned run with its parameters."""

    params: Scenario
    flags: Flags
    """Flags in effect; after `train-scenario SCENARIO` they give these parameters, except for a derived seed."""
    random_seed: int | None
    """Seed of this repetition, if it was derived from that of the plan."""
    ignored: Mapping[str, tuple[str, str]]
    """Flags without effect, with their locations and the reasons."""


class Resolver:
    """Resolver of the parameters of runs of a scenario; layers that runs share are resolved once."""

    def __init__(self, scenario: type[Scenario]):
        self.scenario = scenario
        defaults = default_instance(scenario)
        # Some flags require a run directory, which each run of a batch has.
        trainer = dataclasses.replace(defaults.trainer, output_dir=Path(RUNS_DIR))
        self._defaults = ResolvedParams(dataclasses.replace(defaults, trainer=trainer))
        self._runs: dict[tuple[int, ...], ResolvedRun] = {}
        self._resolved_layers: dict[tuple[int, ...], ResolvedParams] = {(): self._defaults}
        self._layer_references: list[Flags] = []

    def __call__(self, run: PlannedRun, repeat: int | None = None) -> ResolvedRun:
        """Return a run with its parameters and its flags in effect.

        Args:
            run: run to resolve.
            repeat: number of the repetition; by default that of the plan.

        Raises:
            UsageError: for an unknown flag or an invalid value; it names the location in the plan.
        """
        key = tuple(id(layer) for layer in run.layers)
        if key not in self._runs:
            self._runs[key] = self._resolve_first_repeat(run)
        resolved = self._runs[key]
        seed = _seed_of_repeat(resolved.params, repeat or run.repeat, run.repeats)
        if seed is None:
            return resolved
        trainer = dataclasses.replace(resolved.params.trainer, random_seed=seed)
        return dataclasses.replace(
            resolved, params=dataclasses.replace(resolved.params, trainer=trainer), random_seed=seed
        )

    def _resolve_first_repeat(self, run: PlannedRun) -> ResolvedRun:
        """Return a run with the seed of its first repetition."""
        in_effect = self._effective_flags(run)
        try:
            # Apply them as one command line, so that the listed flags reproduce the parameters.
            tree = validate_params(apply_settings(self._defaults, self._to_settings(in_effect)).tree)
        except UsageError as problem:
            raise UsageError(f"{_message_location(str(problem), run)}{problem}") from problem
        if not isinstance(tree, Scenario):
            raise TypeError(tree)
        ignored = _find_ignored_flags(tree, in_effect)
        flags = {flag: value for flag, value in in_effect.items() if flag not in ignored}
        return ResolvedRun(tree, flags, None, ignored)

    def _effective_flags(self, run: PlannedRun) -> Flags:
        """Return the flags whose parameters exist in the result.

        A later layer that selects another class, or another list, drops the parameters of the former one.
        """
        resolved = self._resolve_layers(run.layers)
        values = {
            current_path(resolved.tree, tuple(flag.split("."))): value
            for layer in run.layers
            for flag, value in layer.items()
        }
        return {".".join(path): value for path, value in values.items() if path in resolved.origins}

    def _resolve_layers(self, layers: tuple[Flags, ...]) -> ResolvedParams:
        key = tuple(id(layer) for layer in layers)
        if key not in self._resolved_layers:
            base = self._resolve_layers(layers[:-1])
            self._resolved_layers[key] = apply_settings(base, self._to_settings(layers[-1]))
            self._layer_references.append(layers[-1])  # keeps its id from being reused
        return self._resolved_layers[key]

    def _to_settings(self, flags: Flags) -> SettingsNode:
        settings = SettingsNode()
        for flag, value in flags.items():
            if hint := self._plan_key_hint(flag):
                raise UsageError(f"{_location_prefix(value.where)}unknown key {flag!r}; {hint}")
            where = f"{_location_prefix(value.where)}--{flag}"
            settings.at(flag.split(".")).setting = Setting(origin="plan", where=where, words=value.words)
        return settings

    def _plan_key_hint(self, flag: str) -> str:
        if flag.split(".")[0] in field_types(self.scenario):
            return ""
        near = difflib.get_close_matches(flag.split(".")[0], CONFIGURATION_KEYS, n=1, cutoff=0.75)
        return f"did you mean {near[0]!r}?" if near else ""


def load_plan_scenario(plan: Plan) -> type[Scenario]:
    """Return the scenario class that a plan names.

    Raises:
        UsageError: if it is not found; it names the location in the plan.
    """
    try:
        with guarded_imports():
            return find_scenario(plan.scenario)
    except UsageError as problem:
        raise type(problem)(f"{plan.location_of('scenario')}: {problem}") from problem


def iter_resolved(scenario: type[Scenario], runs: Iterable[PlannedRun]) -> Iterator[tuple[PlannedRun, Scenario]]:
    """Yield each run with its parameters."""
    resolver = Resolver(scenario)
    for run in runs:
        yield run, resolver(run).params


def _find_ignored_flags(tree: Scenario, flags: Flags) -> dict[str, tuple[str, str]]:
    """Return the flags without effect, with their locations in the plan and the reasons."""
    reasons = dict(iter_ignored_params(tree))
    ignored = {}
    for flag, value in flags.items():
        keys = tuple(flag.split("."))
        reason = next((reasons[keys[:end]] for end in range(len(keys), 0, -1) if keys[:end] in reasons), None)
        if reason is not None:
            ignored[flag] = (value.where, reason)
    return ignored


def _message_location(problem: str, run: PlannedRun) -> str:
    """Return the prefix of a message: the location of the flag that it names, or else the configuration."""
    match = _LEADING_FLAG.match(problem)
    parts = match[1].rstrip(":").split(".") if match else []
    for end in range(len(parts), 0, -1):
        name = ".".join(parts[:end])
        for layer in reversed(run.layers):
            if name in layer:
                return _location_prefix(layer[name].where)
    return f"{run.where}: {run.configuration}: "


def _location_prefix(where: str) -> str:
    """Return the prefix of a message; flags of the command line have no location."""
    return f"{where}: " if where else ""


def _seed_of_repeat(scenario: Scenario, repeat: int, repeats: int) -> int | None:
    """Return the seed of a repetition, counted from that of the plan, or from 1; None for a single run."""
    if repeats == repeat == 1:
        return None
    seed = scenario.trainer.random_seed
    return ((1 if seed is None else seed) + repeat - 1) % 2**32
