"""Configurations: named settings of a plan, and their inheritance."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tfaip_like._utils.errors import UsageError
from tfaip_like.experiments._plans.flag_values import (
    Flags,
    FlagValue,
    Value,
    flatten_flags,
    to_flag_value,
    to_flag_values,
)

DEFAULT_EXPERT_FLAG = "data.expert"


@dataclass(frozen=True)
class Distribution:
    """Distribution of a random value: `uniform`, `log_uniform` or `integer` with two bounds, or a `choice`.

    Example:
        >>> rates = Distribution("log_uniform", [1e-4, 1e-1])
        >>> print(rates.draw(random.Random(1)))
        0.000252984
    """

    kind: str
    """One of `KINDS`."""
    values: Sequence[Value]
    """Lower and upper bound (both inclusive for `integer`), or the values of a `choice`."""
    where: str = ""
    """Location in the plan file, for messages."""

    KINDS = ("uniform", "log_uniform", "integer", "choice")

    def __post_init__(self) -> None:
        problem = self._validation_error()
        if problem:
            raise UsageError(f"{self.where or 'a distribution'}: {self.kind}: {problem}")

    def _validation_error(self) -> str:
        if self.kind not in self.KINDS:
            return f"expected one of {', '.join(self.KINDS)}"
        if self.kind == "choice":
            return "" if self.values else "expected at least one value to choose from"
        try:
            low, high = self._bounds()
        except ValueError:
            return f"expected two numbers [LOW, HIGH], got {to_flag_value(self.values, '')}"
        if self.kind == "integer" and not (low.is_integer() and high.is_integer()):
            return f"expected two integers, got {to_flag_value(self.values, '')}"
        if low >= high:
            return f"expected LOW < HIGH, got {to_flag_value(self.values, '')}"
        return "bounds must be positive" if self.kind == "log_uniform" and low <= 0 else ""

    def _bounds(self) -> tuple[float, float]:
        low, high = (float(word) for word in to_flag_value(self.values, "").words)
        return low, high

    def draw(self, source: random.Random) -> FlagValue:
        """Return a random value.

        Args:
            source: random generator that the value is drawn from.
        """
        if self.kind == "choice":
            return to_flag_value(source.choice(self.values), self.where)
        low, high = self._bounds()
        if self.kind == "integer":
            return to_flag_value(source.randint(int(low), int(high)), self.where)
        if self.kind == "log_uniform":
            return to_flag_value(f"{math.exp(source.uniform(math.log(low), math.log(high))):.6g}", self.where)
        return to_flag_value(f"{source.uniform(low, high):.6g}", self.where)


@dataclass(frozen=True)
class RandomSearchSpace:
    """Distributions of flags for a random search.

    Example:
        >>> space = RandomSearchSpace(2, {"model.units": Distribution("integer", [16, 64])}, seed=7)
        >>> [str(point["model.units"]) for point in space.points()]
        ['36', '25']
    """

    draws: int
    """Number of draws, each of which is a run."""
    values: Mapping[str, Distribution]
    """Distribution of each flag."""
    seed: int = 1
    """Seed of the draws."""

    def points(self) -> list[Flags]:
        """Return the flags of each draw; deterministic for a given seed."""
        source = random.Random(self.seed)  # noqa: S311  (no secret)
        return [{flag: values.draw(source) for flag, values in self.values.items()} for _ in range(self.draws)]


@dataclass(frozen=True)
class Configuration:
    """Named settings of a plan; everything that is not set is inherited from the configurations in `extends`.

    Keys of mappings are flags without dashes; nested mappings are equivalent to dotted names.

    Example:
        >>> from tfaip_like.experiments import Plan
        >>> wide = Configuration({"model": {"units": 512}}, grid={"learning_rate.lr": [0.01, 0.001]}, repeat=3)
        >>> plan = Plan("scenarios.tutorial", {"wide": wide})
        >>> len(plan.runs())
        6
    """

    values: Mapping[str, Value] = field(default_factory=dict)
    """Flags with the same value in all runs."""
    extends: Sequence[str] = ()
    """Names of base configurations; later ones take precedence."""
    grid: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    """Flags with several values: each combination is a run."""
    list: Sequence[Mapping[str, Value]] = ()
    """Sets of flags: each set is a run."""
    random: RandomSearchSpace | None = None
    """Flags with random values: each draw is a run."""
    repeat: int | None = None
    """Number of repetitions of each run with different random seeds, at least 1; None inherits it (1 by default)."""
    experts: Sequence[str] = ()
    """Values of the expert flag: each run is trained once per expert."""
    expert_flag: str | None = None
    """Flag that takes the name of the expert; None inherits it (data.expert by default)."""
    for_expert: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    """Flags for single experts."""
    abstract: bool = False
    """Whether the configuration has no runs, and only serves as a base."""
    version: str | None = None
    """Version of the configuration, which is recorded in its runs."""
    defaults: Mapping[str, Value] = field(default_factory=dict)
    """Flags with lower precedence than `Plan.common`, such as the `experiment_defaults` of a class."""
    where: str = ""
    """Location in the plan file, for messages."""


@dataclass(frozen=True)
class ResolvedConfiguration:
    """Configuration with everything that it inherits."""

    layers: tuple[Flags, ...] = ()
    """Flags of the configurations from base to derived; later layers take precedence."""
    grid: Mapping[str, tuple[FlagValue, ...]] = field(default_factory=dict)
    list: tuple[Flags, ...] = ()
    random: RandomSearchSpace | None = None
    repeat: int = 1
    experts: tuple[str, ...] = ()
    expert_flag: str = DEFAULT_EXPERT_FLAG
    for_expert: Mapping[str, Flags] = field(default_factory=dict)
    version: str | None = None

    def extend_with(self, child: Configuration) -> ResolvedConfiguration:
        """Return the configuration extended with a derived one.

        A plain value in `child` replaces the variation of its flag.

        Raises:
            UsageError: if `child` sets the expert flag as well as experts.
        """
        values = flatten_flags(child.values, child.where)
        base = self._without_flags(values)
        expert_flag = child.expert_flag or base.expert_flag
        if child.experts and expert_flag in values:
            raise UsageError(f"{values[expert_flag].where}: --{expert_flag} is set by `experts` already")
        for_expert = {expert: flatten_flags(flags, child.where) for expert, flags in child.for_expert.items()}
        return ResolvedConfiguration(
            layers=(*base.layers, values),
            grid={**base.grid, **{flag: to_flag_values(choices, child.where) for flag, choices in child.grid.items()}},
            list=tuple(flatten_flags(flags, child.where) for flags in child.list) or base.list,
            random=child.random or base.random,
            repeat=child.repeat or base.repeat,
            experts=tuple(child.experts) or base.experts,
            expert_flag=expert_flag,
            version=child.version or base.version,
            for_expert={
                expert: {**base.for_expert.get(expert, {}), **for_expert.get(expert, {})}
                for expert in {**base.for_expert, **for_expert}
            },
        )

    def _without_flags(self, values: Flags) -> ResolvedConfiguration:
        drawn = self.random and replace(
            self.random, values={flag: value for flag, value in self.random.values.items() if flag not in values}
        )
        return replace(
            self,
            experts=() if self.expert_flag in values else self.experts,
            grid={flag: choices for flag, choices in self.grid.items() if flag not in values},
            list=tuple({flag: value for flag, value in point.items() if flag not in values} for point in self.list),
            random=drawn if drawn and drawn.values else None,
        )

    def check(self, where: str) -> None:
        """Raise `UsageError` for a flag that is varied twice or an unknown expert.

        Args:
            where: location of `for_expert` in the plan file, for messages.
        """
        for expert in self.for_expert:
            if expert not in self.experts:
                known = ", ".join(self.experts) or "none"
                raise UsageError(f"{where}: for_expert: unknown expert {expert!r}; `experts` has {known}")
        listed = {flag: value for point in self.list for flag, value in point.items()}
        overrides = {flag: value for flags in self.for_expert.values() for flag, value in flags.items()}
        experts = {self.expert_flag: FlagValue((), where)} if self.experts else {}
        drawn = {
            flag: FlagValue((), value.where) for flag, value in (self.random.values if self.random else {}).items()
        }
        grid = {flag: choices[0] for flag, choices in self.grid.items()}
        parts = {"grid": grid, "list": listed, "random": drawn, "experts": experts, "for_expert": overrides}
        for (first, flags), (second, others) in itertools.combinations(parts.items(), 2):
            for flag in flags:
                if flag in others:
                    raise UsageError(f"{others[flag].where}: --{flag} is varied by both `{first}` and `{second}`")

    def points(self) -> Iterator[Flags]:
        """Yield the varied flags of each run of one expert, without repetitions."""
        combinations = itertools.product(*self.grid.values())
        grid = [dict(zip(self.grid, values, strict=True)) for values in combinations]
        draws = self.random.points() if self.random else [{}]
        for on_grid, listed, drawn in itertools.product(grid, self.list or ({},), draws):
            yield {**on_grid, **listed, **drawn}
