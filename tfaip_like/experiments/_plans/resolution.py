"""Parameters of planned runs: their flags applied to the tree of the scenario, checked."""

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
from tfaip_like.params._tree import validate_params
from tfaip_like.scenario import Scenario

_LEADING_FLAG = re.compile(r"--(\S+)")


@dataclass(frozen=True)
class ResolvedRun:
    """A planned run with its parameters."""

    params: Scenario
    flags: Flags
    """Flags in effect: typed after `train-scenario SCENARIO` they give these parameters, but for a counted seed."""
    random_seed: int | None
    """Seed of this repetition, if it was counted up from that of its plan."""
    ignored: Mapping[str, tuple[str, str]]
    """Flags whose values change nothing: where each was given, and the reason."""


class Resolver:
    """Resolves the parameters of runs of one scenario; layers that runs have in common are resolved once."""

    def __init__(self, scenario: type[Scenario]):
        self.scenario = scenario
        defaults = default_instance(scenario)
        # Some flags need an output folder, which each run of a batch has.
        trainer = dataclasses.replace(defaults.trainer, output_dir=Path(RUNS_DIR))
        self._defaults = ResolvedParams(dataclasses.replace(defaults, trainer=trainer))
        self._runs: dict[tuple[int, ...], ResolvedRun] = {}
        self._resolved_layers: dict[tuple[int, ...], ResolvedParams] = {(): self._defaults}
        self._layer_references: list[Flags] = []

    def __call__(self, run: PlannedRun, repeat: int | None = None) -> ResolvedRun:
        """Return the parameters of a run and its flags in effect.

        Args:
            repeat: which repetition it is, if others came before those of its plan.

        Raises:
            UsageError: for a flag or a value that the scenario does not take; it says where it was given.
        """
        key = tuple(id(layer) for layer in run.layers)
        if key not in self._runs:
            self._runs[key] = self._resolve_first_repeat(run)
        found = self._runs[key]
        seed = _seed_of_repeat(found.params, repeat or run.repeat, run.repeats)
        if seed is None:
            return found
        trainer = dataclasses.replace(found.params.trainer, random_seed=seed)
        return dataclasses.replace(found, params=dataclasses.replace(found.params, trainer=trainer), random_seed=seed)

    def _resolve_first_repeat(self, run: PlannedRun) -> ResolvedRun:
        """Return the first repetition of a run."""
        in_effect = self._effective_flags(run)
        try:
            # As one command line: what is listed of a run gives its parameters.
            tree = validate_params(apply_settings(self._defaults, self._to_settings(in_effect)).tree)
        except UsageError as problem:
            raise UsageError(f"{_message_location(str(problem), run)}{problem}") from problem
        if not isinstance(tree, Scenario):
            raise TypeError(tree)
        ignored = _find_ignored_flags(tree, in_effect)
        flags = {flag: value for flag, value in in_effect.items() if flag not in ignored}
        return ResolvedRun(tree, flags, None, ignored)

    def _effective_flags(self, run: PlannedRun) -> Flags:
        """Return the flags whose parameters are there in the end.

        A later layer that chooses another class, or another list, leaves nothing of the parts of the first.
        """
        origins = self._resolve_layers(run.layers).origins
        given = {flag: value for layer in run.layers for flag, value in layer.items()}
        return {flag: value for flag, value in given.items() if tuple(flag.split(".")) in origins}

    def _resolve_layers(self, layers: tuple[Flags, ...]) -> ResolvedParams:
        key = tuple(id(layer) for layer in layers)
        if key not in self._resolved_layers:
            before = self._resolve_layers(layers[:-1])
            self._resolved_layers[key] = apply_settings(before, self._to_settings(layers[-1]))
            self._layer_references.append(layers[-1])  # so that its id stays its own
        return self._resolved_layers[key]

    def _to_settings(self, flags: Flags) -> SettingsNode:
        settings = SettingsNode()
        for flag, value in flags.items():
            if hint := self._plan_key_hint(flag):
                raise UsageError(f"{_location_prefix(value.where)}there is no {flag!r} here; {hint}")
            where = f"{_location_prefix(value.where)}--{flag}"
            settings.at(flag.split(".")).setting = Setting(origin="plan", where=where, words=value.words)
        return settings

    def _plan_key_hint(self, flag: str) -> str:
        if flag.split(".")[0] in field_types(self.scenario):
            return ""
        near = difflib.get_close_matches(flag.split(".")[0], CONFIGURATION_KEYS, n=1, cutoff=0.75)
        return f"did you mean {near[0]!r}?" if near else ""


def load_plan_scenario(plan: Plan) -> type[Scenario]:
    """The scenario that a plan names."""
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
    """Return the flags whose values change nothing, with their places in the plan and the reasons."""
    reasons = dict(iter_ignored_params(tree))
    ignored = {}
    for flag, value in flags.items():
        place = tuple(flag.split("."))
        reason = next((reasons[place[:end]] for end in range(len(place), 0, -1) if place[:end] in reasons), None)
        if reason is not None:
            ignored[flag] = (value.where, reason)
    return ignored


def _message_location(problem: str, run: PlannedRun) -> str:
    """How a message begins that names a flag: where that was given, or else the run's configuration."""
    match = _LEADING_FLAG.match(problem)
    parts = match[1].rstrip(":").split(".") if match else []
    for end in range(len(parts), 0, -1):
        name = ".".join(parts[:end])
        for layer in reversed(run.layers):
            if name in layer:
                return _location_prefix(layer[name].where)
    return f"{run.where}: {run.configuration}: "


def _location_prefix(where: str) -> str:
    """How a message begins; what was typed on the command line needs no place."""
    return f"{where}: " if where else ""


def _seed_of_repeat(scenario: Scenario, repeat: int, repeats: int) -> int | None:
    """Return the seed of a repetition, counted up from the given one, or from 1; None for a run without others."""
    if repeats == repeat == 1:
        return None
    given = scenario.trainer.random_seed
    return ((1 if given is None else given) + repeat - 1) % 2**32
