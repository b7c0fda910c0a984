"""Strict reader of plan files (YAML)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from tfaip_like._utils.errors import UsageError, with_article
from tfaip_like._utils.json_files import format_json
from tfaip_like._utils.yaml_files import YamlNode, read_yaml
from tfaip_like.experiments._plans.configuration import Configuration, Distribution, RandomSearchSpace
from tfaip_like.experiments._plans.flag_values import FlagValue, Value
from tfaip_like.experiments._plans.plan import Plan
from tfaip_like.params._plain_types import FALSE_WORDS, TRUE_WORDS

PLAN_KEYS = ("scenario", "description", "compare_to", "names", "common", "configurations", "models", "run")
CONFIGURATION_KEYS = (
    "extends",
    "grid",
    "list",
    "random",
    "repeat",
    "experts",
    "expert_flag",
    "for_expert",
    "abstract",
    "version",
)
EXPECTED_NAME_TEMPLATE = 'a quoted template, such as "{configuration}_{learning_rate.lr}"'
RANDOM_KEYS = ("draws", "seed", "values")
_NAME_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]*")
"""Pattern of names that become directory names."""


def read_plan(path: Path) -> Plan:
    """Return the plan in a file.

    Raises:
        UsageError: for every error that does not depend on the scenario; it names the file and the line.
    """
    root = read_yaml(path)
    parts = _require_mapping(root, "a plan: scenario, configurations, ...")
    _check_keys(parts, PLAN_KEYS)
    if "scenario" not in parts:
        raise root.make_error("missing key `scenario`: a module (scenarios.tutorial), a class in it or a file")
    if "configurations" not in parts and "models" not in parts:
        raise root.make_error("nothing to run: expected `configurations` or `models`")
    configurations = (
        _require_mapping(parts["configurations"], "named configurations") if "configurations" in parts else {}
    )
    models = _require_mapping(parts["models"], "number of runs per class.architecture") if "models" in parts else {}
    return Plan(
        scenario=_parse_text(parts["scenario"], "a scenario"),
        description=_parse_text(parts["description"], "a text") if "description" in parts else "",
        compare_to=_parse_text(parts["compare_to"], "a run directory") if "compare_to" in parts else None,
        names=_parse_text(parts["names"], EXPECTED_NAME_TEMPLATE) if "names" in parts else None,
        common=_parse_flags(parts["common"]) if "common" in parts else {},
        configurations={name: _parse_configuration(name, entry) for name, entry in configurations.items()},
        models={name: _parse_value(entry) for name, entry in models.items()},
        run=[_parse_text(item, "a configuration") for item in _as_list(parts["run"])] if "run" in parts else None,
        locations={
            **{name: entry.where for name, entry in parts.items()},
            **{f"models.{name}": entry.where for name, entry in models.items()},
            **{
                f"configurations.{name}.{key}": part.where
                for name, entry in configurations.items()
                for key, part in (entry.content.items() if isinstance(entry.content, dict) else ())
            },
        },
    )


def _parse_configuration(name: str, entry: YamlNode) -> Configuration:
    if not _NAME_PATTERN.fullmatch(name):
        raise entry.make_error(f"{name!r} is not a valid configuration name: use letters, digits, _ . + = -")
    parts = _require_mapping(entry, "flags and their values") if entry.content is not None else {}
    own = {key: parts[key] for key in CONFIGURATION_KEYS if key in parts}
    return Configuration(
        values=_parse_flags(YamlNode({key: value for key, value in parts.items() if key not in own}, entry.where)),
        extends=[_parse_text(item, "a configuration") for item in _as_list(own["extends"])] if "extends" in own else (),
        grid=_parse_grid(own["grid"]) if "grid" in own else {},
        list=[_parse_flags(item) for item in _require_list(own["list"], "settings, one per run")]
        if "list" in own
        else (),
        random=_parse_random(own["random"]) if "random" in own else None,
        repeat=_parse_count(own["repeat"], "repeat") if "repeat" in own else None,
        experts=_parse_experts(own["experts"]) if "experts" in own else (),
        expert_flag=_parse_text(own["expert_flag"], "a flag") if "expert_flag" in own else None,
        for_expert=_parse_for_expert(own["for_expert"]) if "for_expert" in own else {},
        abstract=_parse_bool(own["abstract"]) if "abstract" in own else False,
        version=_parse_text(own["version"], "a version such as 2 or 1.1") if "version" in own else None,
        where=entry.where,
    )


def _parse_grid(entry: YamlNode) -> Mapping[str, list[Value]]:
    grid = {}
    for flag, choices in _flatten_entries(entry, "flags and their lists of values"):
        grid[flag] = [_parse_value(item) for item in _require_list(choices, f"values of --{flag}")]
    return grid


def _flatten_entries(entry: YamlNode, what: str) -> list[tuple[str, YamlNode]]:
    """Return the dotted flags of a mapping, which may be nested, and their entries."""
    flags: list[tuple[str, YamlNode]] = []
    for name, value in _require_mapping(entry, what).items():
        _check_flag_name(name, value)
        if isinstance(value.content, dict) and not _is_distribution(value.content):
            flags += [(f"{name}.{flag}", leaf) for flag, leaf in _flatten_entries(value, what)]
        else:
            flags.append((name, value))
    return flags


def _is_distribution(parts: Mapping[str, YamlNode]) -> bool:
    return any(difflib.get_close_matches(name, Distribution.KINDS, n=1, cutoff=0.8) for name in parts)


def _parse_random(entry: YamlNode) -> RandomSearchSpace:
    parts = _require_mapping(entry, "draws, seed and values")
    _check_keys(parts, RANDOM_KEYS)
    for name in ("draws", "values"):
        if name not in parts:
            raise entry.make_error(f"random: missing key `{name}`")
    values = {
        flag: _parse_distribution(flag, of)
        for flag, of in _flatten_entries(parts["values"], "flags and their distributions")
    }
    seed = _parse_count(parts["seed"], "seed", at_least=0) if "seed" in parts else 1
    return RandomSearchSpace(_parse_count(parts["draws"], "draws"), values, seed)


def _parse_distribution(flag: str, entry: YamlNode) -> Distribution:
    kinds = ", ".join(Distribution.KINDS)
    parts = entry.content
    if not isinstance(parts, dict) or len(parts) != 1:
        raise entry.make_error(f"--{flag}: expected one distribution ({kinds}), such as {{uniform: [0, 1]}}")
    _check_keys(parts, Distribution.KINDS)
    kind, values = next(iter(parts.items()))
    return Distribution(
        kind, [_parse_value(item) for item in _require_list(values, f"values for {kind}")], values.where
    )


def _parse_experts(entry: YamlNode) -> list[str]:
    experts = [_parse_text(item, "an expert") for item in _require_list(entry, "experts")]
    for expert in experts:
        if experts.count(expert) > 1:
            raise entry.make_error(f"experts: duplicate expert {expert!r}")
        if not _NAME_PATTERN.fullmatch(expert):
            raise entry.make_error(f"experts: {expert!r} is not a valid name: use letters, digits, _ . + = -")
    return experts


def _parse_for_expert(entry: YamlNode) -> Mapping[str, Mapping[str, Value]]:
    return {expert: _parse_flags(flags) for expert, flags in _require_mapping(entry, "experts and their flags").items()}


def _parse_flags(entry: YamlNode) -> Mapping[str, Value]:
    """Return flags and their values, both of which may be nested."""
    flags = _require_mapping(entry, "flags and their values")
    for name, value in flags.items():
        _check_flag_name(name, value)
    return {name: _parse_value(value) for name, value in flags.items()}


def _check_flag_name(name: str, value: YamlNode) -> None:
    if name.startswith("-"):
        raise value.make_error(f"{name}: write flags without dashes: {name.lstrip('-')}")
    if name == "trainer.output_dir":
        raise value.make_error("--trainer.output_dir: set by the batch for each run; remove this flag")


def _parse_value(entry: YamlNode) -> Value:
    content = entry.content
    if isinstance(content, dict):
        return {name: _parse_value(value) for name, value in content.items()}
    if isinstance(content, list):
        if any(isinstance(item.content, dict) for item in content):
            return [_parse_value(item) for item in content]
        if any(isinstance(item.content, list) for item in content):
            return FlagValue((format_json(entry.value()),), entry.where)
        return FlagValue(tuple(_parse_scalar(item) for item in content), entry.where)
    return FlagValue((_parse_scalar(entry),), entry.where)


def _parse_scalar(entry: YamlNode) -> str:
    return "none" if entry.content is None else str(entry.content)


def _require_mapping(entry: YamlNode, what: str) -> dict[str, YamlNode]:
    if not isinstance(entry.content, dict):
        raise entry.make_error(f"expected {what}, got {_describe_entry(entry)}")
    return entry.content


def _require_list(entry: YamlNode, what: str) -> list[YamlNode]:
    if not isinstance(entry.content, list):
        raise entry.make_error(f"expected a list of {what}, got {_describe_entry(entry)}")
    if not entry.content:
        raise entry.make_error(f"expected a list of {what}, got an empty one")
    return entry.content


def _as_list(entry: YamlNode) -> list[YamlNode]:
    """Return the items of a list, or a single entry as a list."""
    return entry.content if isinstance(entry.content, list) else [entry]


def _parse_text(entry: YamlNode, what: str) -> str:
    if not isinstance(entry.content, str) or not entry.content:
        raise entry.make_error(f"expected {what}, got {_describe_entry(entry)}")
    return entry.content


def _parse_count(entry: YamlNode, name: str, at_least: int = 1) -> int:
    word = entry.content
    if not isinstance(word, str) or not word.isdecimal() or int(word) < at_least:
        raise entry.make_error(f"{name}: expected an integer >= {at_least}, got {_describe_entry(entry)}")
    return int(word)


def _parse_bool(entry: YamlNode) -> bool:
    word = str(entry.content).lower()
    if word not in (*TRUE_WORDS, *FALSE_WORDS):
        raise entry.make_error(f"abstract: expected true or false, got {_describe_entry(entry)}")
    return word in TRUE_WORDS


def _describe_entry(entry: YamlNode) -> str:
    content = entry.content
    if content is None:
        return "nothing"
    return (
        repr(content) if isinstance(content, str) else with_article("mapping" if isinstance(content, dict) else "list")
    )


def _check_keys(parts: Mapping[str, YamlNode], known: Collection[str]) -> None:
    for name, entry in parts.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
            raise UsageError(f"{entry.where}: unknown key {name!r}; {hint}")
