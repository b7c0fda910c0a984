"""Parameters of planned runs: their flags applied to the tree of the scenario, checked."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tfaip_like._runs.batch_layout import RUNS
from tfaip_like._scenario_lookup import find_scenario
from tfaip_like._user_code.trust import guarded_imports
from tfaip_like._utils.errors import UsageError
from tfaip_like.experiments._plans.plan import Plan, PlannedRun
from tfaip_like.experiments._plans.plan_file import OF_CONFIGURATION
from tfaip_like.experiments._plans.values import Flags
from tfaip_like.params._apply import Node, Resolved, Setting, apply
from tfaip_like.params._base import field_types, with_defaults
from tfaip_like.params._given import without_effect
from tfaip_like.params._tree import check_tree
from tfaip_like.scenario import Scenario

_FLAG = re.compile(r"--(\S+)")


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
        defaults = with_defaults(scenario)
        # Some flags need an output folder, which each run of a batch has.
        trainer = dataclasses.replace(defaults.trainer, output_dir=Path(RUNS))
        self._defaults = Resolved(dataclasses.replace(defaults, trainer=trainer))
        self._runs: dict[tuple[int, ...], ResolvedRun] = {}
        self._known: dict[tuple[int, ...], Resolved] = {(): self._defaults}
        self._kept: list[Flags] = []

    def __call__(self, run: PlannedRun, repeat: int | None = None) -> ResolvedRun:
        """Return the parameters of a run and its flags in effect.

        Args:
            repeat: which repetition it is, if others came before those of its plan.

        Raises:
            UsageError: for a flag or a value that the scenario does not take; it says where it was given.
        """
        key = tuple(id(layer) for layer in run.layers)
        if key not in self._runs:
            self._runs[key] = self._first_of(run)
        found = self._runs[key]
        seed = _counted_seed(found.params, repeat or run.repeat, run.repeats)
        if seed is None:
            return found
        trainer = dataclasses.replace(found.params.trainer, random_seed=seed)
        return dataclasses.replace(found, params=dataclasses.replace(found.params, trainer=trainer), random_seed=seed)

    def _first_of(self, run: PlannedRun) -> ResolvedRun:
        """Return the first repetition of a run."""
        in_effect = self._in_effect(run)
        try:
            # As one command line: what is listed of a run gives its parameters.
            tree = check_tree(apply(self._defaults, self._settings(in_effect)).tree)
        except UsageError as problem:
            raise UsageError(f"{_origin(str(problem), run)}{problem}") from problem
        if not isinstance(tree, Scenario):
            raise TypeError(tree)
        ignored = _ignored(tree, in_effect)
        flags = {flag: value for flag, value in in_effect.items() if flag not in ignored}
        return ResolvedRun(tree, flags, None, ignored)

    def _in_effect(self, run: PlannedRun) -> Flags:
        """Return the flags whose parameters are there in the end.

        A later layer that chooses another class, or another list, leaves nothing of the parts of the first.
        """
        origins = self._resolved(run.layers).origins
        given = {flag: value for layer in run.layers for flag, value in layer.items()}
        return {flag: value for flag, value in given.items() if tuple(flag.split(".")) in origins}

    def _resolved(self, layers: tuple[Flags, ...]) -> Resolved:
        key = tuple(id(layer) for layer in layers)
        if key not in self._known:
            before = self._resolved(layers[:-1])
            self._known[key] = apply(before, self._settings(layers[-1]))
            self._kept.append(layers[-1])  # so that its id stays its own
        return self._known[key]

    def _settings(self, flags: Flags) -> Node:
        settings = Node()
        for flag, value in flags.items():
            if hint := self._meant_for_the_plan(flag):
                raise UsageError(f"{_prefix(value.where)}there is no {flag!r} here; {hint}")
            where = f"{_prefix(value.where)}--{flag}"
            settings.at(flag.split(".")).setting = Setting(origin="plan", where=where, words=value.words)
        return settings

    def _meant_for_the_plan(self, flag: str) -> str:
        if flag.split(".")[0] in field_types(self.scenario):
            return ""
        near = difflib.get_close_matches(flag.split(".")[0], OF_CONFIGURATION, n=1, cutoff=0.75)
        return f"did you mean {near[0]!r}?" if near else ""


def scenario_of(plan: Plan) -> type[Scenario]:
    """The scenario that a plan names."""
    try:
        with guarded_imports():
            return find_scenario(plan.scenario)
    except UsageError as problem:
        raise type(problem)(f"{plan.where('scenario')}: {problem}") from problem


def resolve_all(scenario: type[Scenario], runs: Iterable[PlannedRun]) -> Iterator[tuple[PlannedRun, Scenario]]:
    """Yield each run with its parameters."""
    resolver = Resolver(scenario)
    for run in runs:
        yield run, resolver(run).params


def _ignored(tree: Scenario, flags: Flags) -> dict[str, tuple[str, str]]:
    """Return the flags whose values change nothing, with their places in the plan and the reasons."""
    reasons = dict(without_effect(tree))
    ignored = {}
    for flag, value in flags.items():
        place = tuple(flag.split("."))
        reason = next((reasons[place[:end]] for end in range(len(place), 0, -1) if place[:end] in reasons), None)
        if reason is not None:
            ignored[flag] = (value.where, reason)
    return ignored


def _origin(problem: str, run: PlannedRun) -> str:
    """How a message begins that names a flag: where that was given, or else the run's configuration."""
    match = _FLAG.match(problem)
    parts = match[1].rstrip(":").split(".") if match else []
    for end in range(len(parts), 0, -1):
        name = ".".join(parts[:end])
        for layer in reversed(run.layers):
            if name in layer:
                return _prefix(layer[name].where)
    return f"{run.where}: {run.configuration}: "


def _prefix(where: str) -> str:
    """How a message begins; what was typed on the command line needs no place."""
    return f"{where}: " if where else ""


def _counted_seed(scenario: Scenario, repeat: int, repeats: int) -> int | None:
    """Return the seed of a repetition, counted up from the given one, or from 1; None for a run without others."""
    if repeats == repeat == 1:
        return None
    given = scenario.trainer.random_seed
    return ((1 if given is None else given) + repeat - 1) % 2**32
