"""Plans: the runs of a batch, independent of the scenario's parameters and of any files."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tfaip_like._utils.errors import UsageError
from tfaip_like.experiments._plans.configuration import Configuration, RandomSearchSpace, ResolvedConfiguration
from tfaip_like.experiments._plans.flag_values import Flags, Value, flatten_flags, to_flag_value


@dataclass(frozen=True)
class PlannedRun:
    """Run of a plan, before its parameters are resolved.

    Example:
        >>> plan = Plan("scenarios.tutorial", {"wide": Configuration({"model.units": 512}, repeat=2)})
        >>> [(run.configuration, run.repeat) for run in plan.runs()]
        [('wide', 1), ('wide', 2)]
    """

    configuration: str
    """Name of the configuration."""
    layers: tuple[Flags, ...]
    """Flags; later layers take precedence."""
    expert: str | None = None
    """Name of the expert that is trained."""
    repeat: int = 1
    """Number of the repetition, from 1; the random seed depends on it."""
    repeats: int = 1
    """Number of repetitions with the same flags."""
    where: str = ""
    """Location of the configuration in the plan file, for messages."""
    version: str | None = None
    """Version of the configuration."""
    task: int | None = None
    """Number of the array task that trains it, from 1; None for a separate task per run."""


@dataclass(frozen=True)
class Plan:
    """Named configurations of a scenario, and the selection of those that are run.

    Example:
        >>> base = Configuration({"trainer.epochs": 5}, abstract=True)
        >>> narrow = Configuration(extends=["base"], grid={"model.units": [32, 64]})
        >>> plan = Plan("scenarios.tutorial", {"base": base, "narrow": narrow})
        >>> [run.configuration for run in plan.runs()]
        ['narrow', 'narrow']
    """

    scenario: str
    """Scenario as `train-scenario` takes it: a module, a class in it, or a path."""
    configurations: Mapping[str, Configuration] = field(default_factory=dict)
    """Configurations by name."""
    description: str = ""
    """Purpose of the batch."""
    compare_to: str | None = None
    """Run or batch directory to compare with."""
    names: str | None = None
    """Template of run names, such as `{configuration}_{learning_rate.lr}`; by default the name of the configuration."""
    common: Mapping[str, Value] = field(default_factory=dict)
    """Flags of all configurations; those of a configuration itself take precedence."""
    defaults: Mapping[str, Value] = field(default_factory=dict)
    """Flags with the lowest precedence: those of the batch that the runs are added to."""
    overrides: Mapping[str, Value] = field(default_factory=dict)
    """Flags with the highest precedence: those of the command line."""
    models: Mapping[str, Value] = field(default_factory=dict)
    """Number of runs of each `class.architecture`; see `expand_models`."""
    run: Sequence[str] | None = None
    """Configurations to run; by default all that are not abstract."""
    locations: Mapping[str, str] = field(default_factory=dict)
    """Locations of its parts in the plan file, for messages."""

    def location_of(self, part: str) -> str:
        """Return the location of a part of the plan in its file, or the name of the part."""
        return self.locations.get(part, part)

    def select_configurations(self) -> list[str]:
        """Return the names of the configurations to run.

        Raises:
            UsageError: if there are none, or one of them is unknown or abstract.
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
                raise UsageError(f"{self.location_of('run')}: {name!r} is abstract and cannot be run")
        return list(dict.fromkeys(self.run))

    def runs(self) -> list[PlannedRun]:
        """Return all runs, in the order of the configurations.

        Raises:
            UsageError: if a configuration is inconsistent.
        """
        return [run for name in self.select_configurations() for run in self._expand_configuration(name)]

    def search_space(self, name: str | None) -> tuple[str, RandomSearchSpace]:
        """Return the name of the configuration to search, and its random values.

        Args:
            name: name of the configuration; None if only one has random values.

        Raises:
            UsageError: if the configuration is not unique, has no random values, or varies other values too.
        """
        if name is None:
            drawing = [known for known in self.select_configurations() if self._resolve(known).random is not None]
            if len(drawing) != 1:
                found = f"got {', '.join(drawing)}; choose one with --configuration" if drawing else "got none"
                raise UsageError(
                    f"{self.location_of('configurations')}: expected one configuration with `random` values, {found}"
                )
            (name,) = drawing
        self._get_configuration(name, "--configuration")
        resolved = self._resolve(name)
        where = self.configurations[name].where or name
        if resolved.random is None:
            raise UsageError(f"{where}: {name!r} has no `random` values to search")
        for part in ("grid", "list", "experts"):
            if getattr(resolved, part):
                raise UsageError(f"{where}: {name!r} has `{part}`; a search supports `random` values only")
        return name, resolved.random

    def make_trial_run(self, name: str, values: Flags) -> PlannedRun:
        """Return a run of a configuration with given values for its random flags.

        Args:
            name: name of the configuration.
            values: values of the flags in `random`.
        """
        resolved = replace(self._resolve(name), random=None)
        layers = (*self._base_layers(name), *resolved.layers, values, flatten_flags(self.overrides, ""))
        flags = tuple(layer for layer in layers if layer)
        return PlannedRun(name, flags, where=self.configurations[name].where or name, version=resolved.version)

    def _base_layers(self, name: str) -> tuple[Flags, ...]:
        """Return the layers with lower precedence than those of a configuration."""
        class_defaults = flatten_flags(self.configurations[name].defaults, self.configurations[name].where)
        return class_defaults, flatten_flags(self.defaults, ""), flatten_flags(self.common, self.location_of("common"))

    def _resolve(self, name: str) -> ResolvedConfiguration:
        """Return a configuration with everything that it inherits."""
        resolved = ResolvedConfiguration()
        for ancestor in self._inheritance_order(name):
            resolved = resolved.extend_with(self.configurations[ancestor])
        resolved.check(self._location(name, "for_expert"))
        return resolved

    def _expand_configuration(self, name: str) -> list[PlannedRun]:
        where = self.configurations[name].where or name
        resolved = self._resolve(name)
        overrides = flatten_flags(self.overrides, "")
        layers = (*self._base_layers(name), *resolved.layers)
        runs = []
        for expert in resolved.experts or (None,):
            for_expert = dict(resolved.for_expert.get(expert or "", {}))
            if expert is not None:
                expert_value = to_flag_value(expert, self._location(name, "experts"))
                for_expert = {resolved.expert_flag: expert_value, **for_expert}
            for varied in resolved.points():
                flags = tuple(layer for layer in (*layers, varied, for_expert, overrides) if layer)
                runs += [
                    PlannedRun(name, flags, expert, repeat, resolved.repeat, where, version=resolved.version)
                    for repeat in range(1, resolved.repeat + 1)
                ]
        return runs

    def _inheritance_order(self, name: str, derived: tuple[str, ...] = ()) -> list[str]:
        """Return the names of the bases of a configuration, each once, followed by its own name."""
        if name in derived:
            cycle = " -> ".join([*derived[derived.index(name) :], name])
            raise UsageError(f"{self._location(derived[-1], 'extends')}: {derived[-1]!r} extends itself: {cycle}")
        order: list[str] = []
        configuration = self.configurations[name]
        for base in configuration.extends:
            self._get_configuration(base, self._location(name, "extends"))
            order += [known for known in self._inheritance_order(base, (*derived, name)) if known not in order]
        return [*order, name]

    def _location(self, name: str, part: str) -> str:
        """Return the location of a part of a configuration in the plan file."""
        return self.locations.get(f"configurations.{name}.{part}") or self.configurations[name].where or name

    def _get_configuration(self, name: str, where: str) -> Configuration:
        if name not in self.configurations:
            near = difflib.get_close_matches(name, self.configurations, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"available: {', '.join(self.configurations) or 'none'}"
            raise UsageError(f"{where}: unknown configuration {name!r}; {hint}")
        return self.configurations[name]
