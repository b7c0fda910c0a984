"""`Plan`: which runs a batch is made of. Nothing here knows a scenario's parameters or a disk."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tfaip_like.errors import UsageError
from tfaip_like.experiments.configuration import Configuration, Draws, Whole
from tfaip_like.experiments.values import Flags, Value, flags_of, given


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

    @property
    def flags(self) -> dict[str, tuple[str, ...]]:
        """Return the flags in effect and their words.

        A later layer that chooses another class, or another list of classes, leaves nothing of the parts of the first.
        """
        flags: dict[str, tuple[str, ...]] = {}
        for layer in self.layers:
            replaced = [flag for flag in flags if any(_is_replaced(flag, flags, of, layer[of].words) for of in layer)]
            flags = {flag: words for flag, words in flags.items() if flag not in replaced}
            flags |= {flag: value.words for flag, value in layer.items()}
        return flags


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
    common: Mapping[str, Value] = field(default_factory=dict)
    """Flags of all configurations, which may say otherwise."""
    overrides: Mapping[str, Value] = field(default_factory=dict)
    """Flags that win over what any configuration says: those of the command line."""
    models: Mapping[str, Value] = field(default_factory=dict)
    """How many runs of each `class.architecture`; see `with_models`."""
    run: Sequence[str] | None = None
    """Which configurations are run; by default all that are not abstract."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Where its parts are written, for messages."""

    def where(self, part: str) -> str:
        """Where a part of the plan is written."""
        return self.places.get(part, part)

    def with_models(self, flags: Sequence[str]) -> Plan:
        """The plan in which each of `models` is a configuration of its name.

        Args:
            flags: what the parts of a name stand for: model, model.graph.

        Raises:
            UsageError: for a name with too many parts, or one that a configuration has already.
        """
        made = {}
        for name, count in self.models.items():
            where = self.where(f"models.{name}")
            words = name.split(".")
            if len(words) > len(flags) or not all(words):
                expected = ".".join(flag.rsplit(".", 1)[-1].upper() for flag in flags)
                raise UsageError(f"{where}: {name}: expected {expected} ({', '.join(f'--{flag}' for flag in flags)})")
            if name in self.configurations:
                raise UsageError(f"{where}: {name} is a configuration too; give one of them another name")
            values: dict[str, Value] = {flag: given(word, where) for flag, word in zip(flags, words, strict=False)}
            made[name] = Configuration(values, repeat=_count(count, f"{where}: {name}"), where=where)
        run = self.run if self.run is None else [*self.run, *made]
        return replace(self, configurations={**self.configurations, **made}, models={}, run=run)

    def chosen(self) -> list[str]:
        """The names of the configurations that are run.

        Raises:
            UsageError: when there is none, or one of them is unknown or abstract.
        """
        if self.run is None:
            chosen = [name for name, configuration in self.configurations.items() if not configuration.abstract]
            if not chosen:
                raise UsageError(f"{self.where('configurations')}: there is nothing to run: every one is abstract")
            return chosen
        for name in self.run:
            if self._known(name, self.where("run")).abstract:
                raise UsageError(f"{self.where('run')}: {name!r} is abstract: it can only be extended")
        return list(dict.fromkeys(self.run))

    def runs(self) -> list[PlannedRun]:
        """All runs, in the order of the configurations.

        Raises:
            UsageError: for configurations that contradict themselves or each other.
        """
        return [run for name in self.chosen() for run in self._runs_of(name)]

    def search_space(self, name: str | None) -> tuple[str, Draws]:
        """The configuration whose random values are searched, and these.

        Args:
            name: of the configuration; it can be left out where only one draws values.

        Raises:
            UsageError: when there is none, or more than one, or it varies something else too.
        """
        if name is None:
            drawing = [known for known in self.chosen() if self._whole(known).random is not None]
            if len(drawing) != 1:
                found = f"{', '.join(drawing)} do; say which with --configuration" if drawing else "none does"
                raise UsageError(
                    f"{self.where('configurations')}: one configuration must have `random` values: {found}"
                )
            (name,) = drawing
        self._known(name, "--configuration")
        whole = self._whole(name)
        where = self.configurations[name].where or name
        if whole.random is None:
            raise UsageError(f"{where}: {name!r} has no `random` values to search")
        for part in ("grid", "list", "experts"):
            if getattr(whole, part):
                raise UsageError(
                    f"{where}: {name!r} varies values by `{part}` too; a search chooses `random` ones only"
                )
        return name, whole.random

    def trial(self, name: str, values: Flags) -> PlannedRun:
        """A run of a configuration with these in place of its random values."""
        whole = replace(self._whole(name), random=None)
        layers = (flags_of(self.common, self.where("common")), *whole.layers, values, flags_of(self.overrides, ""))
        return PlannedRun(
            name, tuple(layer for layer in layers if layer), where=self.configurations[name].where or name
        )

    def _whole(self, name: str) -> Whole:
        """A configuration with all that it extends."""
        whole = Whole()
        for ancestor in self._lineage(name):
            whole = whole.extended(self.configurations[ancestor])
        whole.check(self._place(name, "for_expert"))
        return whole

    def _runs_of(self, name: str) -> list[PlannedRun]:
        where = self.configurations[name].where or name
        whole = self._whole(name)
        common = flags_of(self.common, self.where("common"))
        overrides = flags_of(self.overrides, "")
        layers = (common, *whole.layers)
        runs = []
        for expert in whole.experts or (None,):
            is_for = {} if expert is None else {whole.expert_flag: given(expert, self._place(name, "experts"))}
            own = {**is_for, **whole.for_expert.get(expert or "", {})}
            for varied in whole.points():
                flags = tuple(layer for layer in (*layers, varied, own, overrides) if layer)
                runs += [
                    PlannedRun(name, flags, expert, repeat, whole.repeat, where)
                    for repeat in range(1, whole.repeat + 1)
                ]
        return runs

    def _lineage(self, name: str, below: tuple[str, ...] = ()) -> list[str]:
        """A configuration after all that it extends, each once."""
        if name in below:
            circle = " -> ".join([*below[below.index(name) :], name])
            raise UsageError(f"{self._place(below[-1], 'extends')}: {below[-1]!r} extends itself: {circle}")
        order: list[str] = []
        configuration = self.configurations[name]
        for base in configuration.extends:
            self._known(base, self._place(name, "extends"))
            order += [known for known in self._lineage(base, (*below, name)) if known not in order]
        return [*order, name]

    def _place(self, name: str, part: str) -> str:
        """Where a part of a configuration is written."""
        return self.places.get(f"configurations.{name}.{part}") or self.configurations[name].where or name

    def _known(self, name: str, where: str) -> Configuration:
        if name not in self.configurations:
            near = difflib.get_close_matches(name, self.configurations, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(self.configurations) or 'none'}"
            raise UsageError(f"{where}: there is no configuration {name!r}; {hint}")
        return self.configurations[name]


def _is_replaced(flag: str, flags: Mapping[str, Sequence[str]], other: str, words: Sequence[str]) -> bool:
    """Return whether a flag is a part of what another flag gives other words."""
    if not flag.startswith(f"{other}."):
        return False
    is_item = flag.removeprefix(f"{other}.").split(".")[0].isdecimal()
    return is_item or tuple(words) != tuple(flags.get(other, ()))


def _count(value: Value, where: str) -> int:
    word = str(given(value, ""))
    if not word.isdigit() or int(word) < 1:
        raise UsageError(f"{where}: expected how many runs, got {word!r}")
    return int(word)
