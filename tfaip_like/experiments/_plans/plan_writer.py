"""Writer of plan files, for plans that were built in Python or from flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from tfaip_like.experiments._plans.configuration import Configuration, RandomSearchSpace
from tfaip_like.experiments._plans.flag_values import FlagValue, Value, flatten_flags, to_flag_value
from tfaip_like.experiments._plans.plan import Plan


class _Dumper(yaml.SafeDumper):
    """YAML dumper that writes subclasses of `str` as plain strings."""


_Dumper.add_multi_representer(str, yaml.SafeDumper.represent_str)


def plan_to_yaml(plan: Plan) -> str:
    """Return a plan as YAML; its defaults and overrides become part of `common`."""
    configurations = {
        name: _configuration_to_dict(configuration) for name, configuration in plan.configurations.items()
    }
    parts = {
        "scenario": plan.scenario,
        "description": plan.description,
        "compare_to": plan.compare_to,
        "names": plan.names,
        "common": _flags_to_dict(merge_flags(plan.defaults, plan.common, plan.overrides)),
        "configurations": configurations,
        "models": _flags_to_dict(plan.models),
        "run": None if plan.run is None else list(plan.run),
    }
    return yaml.dump(_drop_empty(parts), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def merge_flags(*layers: Mapping[str, Value]) -> dict[str, Value]:
    """Return the flags of several layers; later layers take precedence.

    A later layer that selects another class drops the flags of the former class.
    """
    merged: dict[str, Value] = {}
    for layer in (flatten_flags(layer, "") for layer in layers):
        changed = {flag for flag, value in layer.items() if flag in merged and merged[flag] != value}
        kept = {flag: value for flag, value in merged.items() if not any(flag.startswith(f"{of}.") for of in changed)}
        merged = {**kept, **layer}
    return merged


def _configuration_to_dict(configuration: Configuration) -> dict[str, Any]:
    parts = {
        "extends": list(configuration.extends),
        "abstract": "true" if configuration.abstract else None,
        "grid": {flag: [_to_plain(value) for value in values] for flag, values in configuration.grid.items()},
        "list": [_flags_to_dict(values) for values in configuration.list],
        "random": _random_to_dict(configuration.random) if configuration.random else None,
        "version": configuration.version,
        "repeat": configuration.repeat,
        "experts": [str(expert) for expert in configuration.experts],
        "expert_flag": configuration.expert_flag,
        "for_expert": {expert: _flags_to_dict(values) for expert, values in configuration.for_expert.items()},
    }
    return {**_flags_to_dict(configuration.values), **_drop_empty(parts)}


def _random_to_dict(draws: RandomSearchSpace) -> dict[str, Any]:
    values = {flag: {of.kind: [_to_plain(value) for value in of.values]} for flag, of in draws.values.items()}
    return {"draws": draws.draws, "seed": draws.seed, "values": values}


def _flags_to_dict(values: Mapping[str, Value]) -> dict[str, Any]:
    return {flag: _to_plain(value) for flag, value in values.items()}


def _to_plain(value: Value) -> Any:
    """Return a value as strings, lists and mappings."""
    if isinstance(value, Mapping):
        return _flags_to_dict(value)
    if isinstance(value, (list, tuple)):
        return [_to_plain(item) for item in value]
    words = value.words if isinstance(value, FlagValue) else to_flag_value(value, "").words
    return words[0] if len(words) == 1 else list(words)


def _drop_empty(parts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in parts.items() if part not in (None, "", [], {})}
