"""Named models of a plan, `class.architecture: number of runs`, as configurations."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tfaip_like._utils.errors import UsageError
from tfaip_like.experiments._plans.configuration import Configuration
from tfaip_like.experiments._plans.flag_values import Value, flatten_flags, to_flag_value
from tfaip_like.experiments._plans.plan import Plan
from tfaip_like.params._apply import ResolvedParams, apply_settings
from tfaip_like.params._base import ParamsBase, default_instance
from tfaip_like.params._flags import Flag, settings_from_flags
from tfaip_like.scenario import Scenario


def expand_models(plan: Plan, scenario: type[Scenario]) -> Plan:
    """Return the plan with its models turned into configurations.

    The words of a name become the values of `Scenario.batch_flags`. A name with fewer words that is not a class itself
    is another architecture of the preceding class: `Classifier.MLP: 10, CNN: 32`.

    Args:
        plan: plan whose `models` are expanded.
        scenario: class with the `batch_flags`.

    Raises:
        UsageError: for a name with too many words, a duplicate, or the name of an existing configuration.
    """
    parser = _ModelNameParser(scenario)
    models: dict[str, Configuration] = {}
    words: Sequence[str] = ()
    for key, count in plan.models.items():
        where = plan.location_of(f"models.{key}")
        words = parser.words(key, words, where)
        name = ".".join(words)
        if name in models:
            raise UsageError(f"{where}: {name}: duplicate model")
        if name in plan.configurations:
            raise UsageError(f"{where}: {name} is also the name of a configuration; rename one of them")
        values: dict[str, Value] = {
            flag: to_flag_value(word, where) for flag, word in zip(parser.flags, words, strict=False)
        }
        repeat = _parse_count(count, f"{where}: {key}")
        models[name] = Configuration(values, repeat=repeat, where=where, defaults=parser.class_defaults(words))
    run = plan.run if plan.run is None else [*plan.run, *models]
    return dataclasses.replace(plan, configurations={**plan.configurations, **models}, models={}, run=run)


class _ModelNameParser:
    """Parser of model names, according to the `batch_flags` of a scenario."""

    def __init__(self, scenario: type[Scenario]):
        self.flags = scenario.batch_flags
        self._defaults = ResolvedParams(default_instance(scenario))

    def words(self, name: str, previous: Sequence[str], where: str) -> Sequence[str]:
        """Return the value of each flag; leading words that the name omits are those of the previous name."""
        words = name.split(".")
        if len(words) > len(self.flags) or not all(words):
            expected = ".".join(flag.rsplit(".", 1)[-1].upper() for flag in self.flags)
            flags = ", ".join(f"--{flag}" for flag in self.flags)
            raise UsageError(f"{where}: {name}: expected {expected} ({flags})")
        missing = len(self.flags) - len(words)
        if missing and len(previous) == len(self.flags) and self._apply_classes(words) is None:
            return [*previous[:missing], *words]
        return words

    def class_defaults(self, words: Sequence[str]) -> dict[str, Value]:
        """Return the `experiment_defaults` of the selected classes."""
        class_defaults: dict[str, Value] = {}
        tree = self._apply_classes(words)
        for flag in self.flags[: len(words)] if tree is not None else ():
            part = _get_nested(tree, flag)
            where = f"{type(part).__qualname__}.experiment_defaults"
            class_defaults |= flatten_flags(getattr(part, "experiment_defaults", {}), where)
        return class_defaults

    def _apply_classes(self, words: Sequence[str]) -> ParamsBase | None:
        """Return the parameters with these classes; None if a class is unknown."""
        flags = [Flag(flag, (word,)) for flag, word in zip(self.flags, words, strict=False)]
        try:
            return apply_settings(self._defaults, settings_from_flags(flags)).tree
        except UsageError:
            return None


def _get_nested(tree: object, flag: str) -> object:
    for name in flag.split("."):
        tree = getattr(tree, name, None)
    return tree


def _parse_count(value: Value, where: str) -> int:
    word = str(to_flag_value(value, ""))
    if not word.isdigit() or int(word) < 1:
        raise UsageError(f"{where}: expected the number of runs, got {word!r}")
    return int(word)
