"""`Plan`: which runs a batch is made of. Nothing here knows a scenario's parameters or a disk."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tfaip_like._utils.errors import UsageError
from tfaip_like.experiments._plans.configuration import Configuration, RandomSearchSpace, ResolvedConfiguration
from tfaip_like.experiments._plans.flag_values import Flags, Value, flatten_flags, to_flag_value


@dataclass(frozen=True)
class PlannedRun:
    """One run of a plan."""

    configuration: str
    layers: tuple[Flags, ...]
    """Its flags; the later layers win."""
    expert: str | None = None
    """The expert that its network is for."""
    repeat: int = 1
    """Which of those with the same flags it is; its random seed depends on it."""
    repeats: int = 1
    """How many of those there are."""
    where: str = ""
    """Where its configuration is written, for messages."""
    version: str | None = None
    """Version of its configuration."""
    task: int | None = None
    """Number of the array task that trains it, from 1; None where each run is a task."""


@dataclass(frozen=True)
class Plan:
    """Named configurations of a scenario, and which of them are run."""

    scenario: str
    """What `train-scenario` takes: a module, a class in it, a path."""
    configurations: Mapping[str, Configuration] = field(default_factory=dict)
    description: str = ""
    """What the batch is for."""
    compare_to: str | None = None
    """Folder of an earlier run to compare with."""
    names: str | None = None
    """Template of the names of runs, such as `{configuration}_{learning_rate.lr}`; by default their configurations."""
    common: Mapping[str, Value] = field(default_factory=dict)
    """Flags of all configurations, which may say otherwise."""
    defaults: Mapping[str, Value] = field(default_factory=dict)
    """Flags that all others win over: those of the batch that the runs are added to."""
    overrides: Mapping[str, Value] = field(default_factory=dict)
    """Flags that win over what any configuration says: those of the command line."""
    models: Mapping[str, Value] = field(default_factory=dict)
    """How many runs of each `class.architecture`; see `models.expand_models`."""
    run: Sequence[str] | None = None
    """Which configurations are run; by default all that are not abstract."""
    locations: Mapping[str, str] = field(default_factory=dict)
    """Where its parts are written, for messages."""

    def location_of(self, part: str) -> str:
        """Where a part of the plan is written."""
        return self.locations.get(part, part)

    def select_configurations(self) -> list[str]:
        """The names of the configurations that are run.

        Raises:
            UsageError: when there is none, or one of them is unknown or abstract.
        """
        if self.run is None:
            chosen = [name for name, configuration in self.configurations.items() if not configuration.abstract]
            if not chosen:
                raise UsageError(
                    f"{self.location_of('configurations')}: nothing to run: all configurations are abstract"
                )
            return chosen
        for name in self.run:
            if self._get_configuration(name, self.location_of("run")).abstract:
                raise UsageError(f"{self.location_of('run')}: {name!r} is abstract: it can only be extended")
        return list(dict.fromkeys(self.run))

    def runs(self) -> list[PlannedRun]:
        """All runs, in the order of the configurations.

        Raises:
            UsageError: for configurations that contradict themselves or each other.
        """
        return [run for name in self.select_configurations() for run in self._expand_configuration(name)]

    def search_space(self, name: str | None) -> tuple[str, RandomSearchSpace]:
        """The configuration whose random values are searched, and these.

        Args:
            name: of the configuration; it can be left out where only one draws values.

        Raises:
            UsageError: when there is none, or more than one, or it varies something else too.
        """
        if name is None:
            drawing = [known for known in self.select_configurations() if self._resolve(known).random is not None]
            if len(drawing) != 1:
                found = f"{', '.join(drawing)} do; say which with --configuration" if drawing else "none does"
                raise UsageError(
                    f"{self.location_of('configurations')}: one configuration must have `random` values: {found}"
                )
            (name,) = drawing
        self._get_configuration(name, "--configuration")
        whole = self._resolve(name)
        where = self.configurations[name].where or name
        if whole.random is None:
            raise UsageError(f"{where}: {name!r} has no `random` values to search")
        for part in ("grid", "list", "experts"):
            if getattr(whole, part):
                raise UsageError(
                    f"{where}: {name!r} varies values by `{part}` too; a search chooses `random` ones only"
                )
        return name, whole.random

    def make_trial_run(self, name: str, values: Flags) -> PlannedRun:
        """A run of a configuration with these in place of its random values."""
        whole = replace(self._resolve(name), random=None)
        layers = (*self._base_layers(name), *whole.layers, values, flatten_flags(self.overrides, ""))
        flags = tuple(layer for layer in layers if layer)
        return PlannedRun(name, flags, where=self.configurations[name].where or name, version=whole.version)

    def _base_layers(self, name: str) -> tuple[Flags, ...]:
        """Return the flags that those of a configuration win over."""
        class_defaults = flatten_flags(self.configurations[name].defaults, self.configurations[name].where)
        return class_defaults, flatten_flags(self.defaults, ""), flatten_flags(self.common, self.location_of("common"))

    def _resolve(self, name: str) -> ResolvedConfiguration:
        """A configuration with all that it extends."""
        whole = ResolvedConfiguration()
        for ancestor in self._inheritance_order(name):
            whole = whole.extend_with(self.configurations[ancestor])
        whole.check(self._location(name, "for_expert"))
        return whole

    def _expand_configuration(self, name: str) -> list[PlannedRun]:
        where = self.configurations[name].where or name
        whole = self._resolve(name)
        overrides = flatten_flags(self.overrides, "")
        layers = (*self._base_layers(name), *whole.layers)
        runs = []
        for expert in whole.experts or (None,):
            is_for = (
                {} if expert is None else {whole.expert_flag: to_flag_value(expert, self._location(name, "experts"))}
            )
            own = {**is_for, **whole.for_expert.get(expert or "", {})}
            for varied in whole.points():
                flags = tuple(layer for layer in (*layers, varied, own, overrides) if layer)
                runs += [
                    PlannedRun(name, flags, expert, repeat, whole.repeat, where, version=whole.version)
                    for repeat in range(1, whole.repeat + 1)
                ]
        return runs

    def _inheritance_order(self, name: str, below: tuple[str, ...] = ()) -> list[str]:
        """A configuration after all that it extends, each once."""
        if name in below:
            circle = " -> ".join([*below[below.index(name) :], name])
            raise UsageError(f"{self._location(below[-1], 'extends')}: {below[-1]!r} extends itself: {circle}")
        order: list[str] = []
        configuration = self.configurations[name]
        for base in configuration.extends:
            self._get_configuration(base, self._location(name, "extends"))
            order += [known for known in self._inheritance_order(base, (*below, name)) if known not in order]
        return [*order, name]

    def _location(self, name: str, part: str) -> str:
        """Where a part of a configuration is written."""
        return self.locations.get(f"configurations.{name}.{part}") or self.configurations[name].where or name

    def _get_configuration(self, name: str, where: str) -> Configuration:
        if name not in self.configurations:
            near = difflib.get_close_matches(name, self.configurations, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self.configurations) or 'none'}"
            raise UsageError(f"{where}: there is no configuration {name!r}; {hint}")
        return self.configurations[name]
