"""The parameters of a planned run: its flags on the tree of the scenario, checked."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Iterator

from tfaip_like.errors import UsageError
from tfaip_like.experiments.plan import Plan, PlannedRun
from tfaip_like.experiments.plan_file import OF_CONFIGURATION
from tfaip_like.experiments.values import Flags
from tfaip_like.params.apply import Node, Resolved, Setting, apply
from tfaip_like.params.base import field_types, with_defaults
from tfaip_like.params.tree import check_tree
from tfaip_like.scenario import Scenario
from tfaip_like.scenario_lookup import find_scenario
from tfaip_like.trust import guarded_imports

_FLAG = re.compile(r"--(\S+)")


class Resolver:
    """Makes the parameters of runs of one scenario; what runs have in common is resolved once."""

    def __init__(self, scenario: type[Scenario]):
        self.scenario = scenario
        self._known: dict[tuple[int, ...], Resolved] = {(): Resolved(with_defaults(scenario))}
        self._kept: list[Flags] = []

    def __call__(self, run: PlannedRun, repeat: int | None = None) -> Scenario:
        """The tree of a run.

        Args:
            repeat: which repetition it is, if others came before those of its plan.

        Raises:
            UsageError: for a flag or a value that the scenario does not take; it says where it was given.
        """
        resolved = self._resolved(run.layers)
        try:
            tree = check_tree(resolved.tree)
        except UsageError as problem:
            raise UsageError(f"{_origin(str(problem), run)}{problem}") from problem
        if not isinstance(tree, Scenario):
            raise TypeError(tree)
        return _with_seed(tree, repeat or run.repeat, run.repeats)

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
    """Each run with its parameters."""
    resolver = Resolver(scenario)
    for run in runs:
        yield run, resolver(run)


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


def _with_seed(scenario: Scenario, repeat: int, repeats: int) -> Scenario:
    """Repetitions count their seeds up from the given one, or from 1; a run alone draws one if none is given."""
    seed = scenario.trainer.random_seed
    if seed is None and repeats == 1 and repeat == 1:
        return scenario
    seed = ((1 if seed is None else seed) + repeat - 1) % 2**32
    return dataclasses.replace(scenario, trainer=dataclasses.replace(scenario.trainer, random_seed=seed))
