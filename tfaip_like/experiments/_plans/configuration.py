"""`Configuration`: named settings of a plan, and how one extends others."""

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
    """What a random value is drawn from: `uniform`, `log_uniform` or `integer` of two bounds, or a `choice`."""

    kind: str
    values: Sequence[Value]
    where: str = ""

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
            return f"expected two whole numbers, got {to_flag_value(self.values, '')}"
        if low >= high:
            return f"the lower bound must come first, got {to_flag_value(self.values, '')}"
        return "the bounds must be above 0" if self.kind == "log_uniform" and low <= 0 else ""

    def _bounds(self) -> tuple[float, float]:
        low, high = (float(word) for word in to_flag_value(self.values, "").words)
        return low, high

    def draw(self, source: random.Random) -> FlagValue:
        """One value."""
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
    """Random values of some flags, drawn several times."""

    draws: int
    values: Mapping[str, Distribution]
    seed: int = 1

    def points(self) -> list[Flags]:
        """The flags of each draw; the same for the same seed."""
        source = random.Random(self.seed)  # noqa: S311  (no secret)
        return [{flag: values.draw(source) for flag, values in self.values.items()} for _ in range(self.draws)]


@dataclass(frozen=True)
class Configuration:
    """Named settings. What it does not say, it has from the configurations that it extends.

    Names in mappings are flags without dashes; nested mappings mean the same as dots.
    """

    values: Mapping[str, Value] = field(default_factory=dict)
    """What is the same in all its runs."""
    extends: Sequence[str] = ()
    """Configurations to begin with; of several the later one wins."""
    grid: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    """Flags with several values: every combination is a run."""
    list: Sequence[Mapping[str, Value]] = ()
    """Settings that are taken one after the other: each is a run."""
    random: RandomSearchSpace | None = None
    """Flags whose values are drawn: each draw is a run."""
    repeat: int | None = None
    """How often each run is repeated, with other random seeds; once by default."""
    experts: Sequence[str] = ()
    """Values of the expert flag: each run is done for each of them."""
    expert_flag: str | None = None
    """The flag that says which expert a network is for; data.expert by default."""
    for_expert: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    """Settings for one expert."""
    abstract: bool = False
    """Whether it is only there to be extended."""
    version: str | None = None
    """Which state of the configuration it is; kept with its runs."""
    defaults: Mapping[str, Value] = field(default_factory=dict)
    """Flags that those common to all configurations win over: what a class brings along."""
    where: str = ""
    """Where it is written, for messages."""


@dataclass(frozen=True)
class ResolvedConfiguration:
    """A configuration with all that it has from others."""

    layers: tuple[Flags, ...] = ()
    """Flags of the configurations in their order: the later ones win."""
    grid: Mapping[str, tuple[FlagValue, ...]] = field(default_factory=dict)
    list: tuple[Flags, ...] = ()
    random: RandomSearchSpace | None = None
    repeat: int = 1
    experts: tuple[str, ...] = ()
    expert_flag: str = DEFAULT_EXPERT_FLAG
    for_expert: Mapping[str, Flags] = field(default_factory=dict)
    version: str | None = None

    def extend_with(self, child: Configuration) -> ResolvedConfiguration:
        """This with what one more configuration says; a plain value ends the variation of its flag."""
        values = flatten_flags(child.values, child.where)
        base = self._without_flags(values)
        expert_flag = child.expert_flag or base.expert_flag
        if child.experts and expert_flag in values:
            raise UsageError(f"{values[expert_flag].where}: --{expert_flag} is given by `experts` already")
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
        """Raises `UsageError` where two parts of it say something about the same flag or expert."""
        for expert in self.for_expert:
            if expert not in self.experts:
                known = ", ".join(self.experts) or "none are named by `experts`"
                raise UsageError(f"{where}: for_expert: there is no expert {expert!r} (experts: {known})")
        listed = {flag: value for point in self.list for flag, value in point.items()}
        overrides = {flag: value for flags in self.for_expert.values() for flag, value in flags.items()}
        asked = {self.expert_flag: FlagValue((), where)} if self.experts else {}
        drawn = {
            flag: FlagValue((), value.where) for flag, value in (self.random.values if self.random else {}).items()
        }
        grid = {flag: choices[0] for flag, choices in self.grid.items()}
        parts = {"grid": grid, "list": listed, "random": drawn, "experts": asked, "for_expert": overrides}
        for (one, varied), (other, others) in itertools.combinations(parts.items(), 2):
            for flag in varied:
                if flag in others:
                    raise UsageError(
                        f"{others[flag].where}: --{flag} is varied by `{one}` already, not by `{other}` too"
                    )

    def points(self) -> Iterator[Flags]:
        """The varied flags of each run of one expert, repeats aside."""
        combinations = itertools.product(*self.grid.values())
        grid = [dict(zip(self.grid, values, strict=True)) for values in combinations]
        draws = self.random.points() if self.random else [{}]
        for on_grid, listed, drawn in itertools.product(grid, self.list or ({},), draws):
            yield {**on_grid, **listed, **drawn}
