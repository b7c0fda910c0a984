"""Plan files: YAML, read strictly, into a `Plan`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from tfaip_like._utils.errors import UsageError, article
from tfaip_like._utils.json_files import json_text
from tfaip_like._utils.yaml_files import Entry, read_yaml
from tfaip_like.experiments._plans.configuration import Configuration, Distribution, Draws
from tfaip_like.experiments._plans.plan import Plan
from tfaip_like.experiments._plans.values import Given, Value
from tfaip_like.params._values import FALSE_WORDS, TRUE_WORDS

OF_PLAN = ("scenario", "description", "compare_to", "names", "common", "configurations", "models", "run")
OF_CONFIGURATION = (
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
TEMPLATE = 'a template in quotes, such as "{configuration}_{learning_rate.lr}"'
OF_RANDOM = ("draws", "seed", "values")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]*")
"""Names become names of folders."""


def read_plan(path: Path) -> Plan:
    """The plan in a file.

    Raises:
        UsageError: for every mistake that can be seen without the scenario; it names file and line.
    """
    root = read_yaml(path)
    parts = _mapping(root, "a plan: scenario, configurations, ...")
    _check_names(parts, OF_PLAN)
    if "scenario" not in parts:
        raise root.fail("`scenario` is missing: a module (scenarios.tutorial), a class in it or a file")
    if "configurations" not in parts and "models" not in parts:
        raise root.fail("nothing to run: a plan needs `configurations` or `models`")
    configurations = _mapping(parts["configurations"], "named configurations") if "configurations" in parts else {}
    models = _mapping(parts["models"], "how many runs of each class.architecture") if "models" in parts else {}
    return Plan(
        scenario=_text(parts["scenario"], "a scenario"),
        description=_text(parts["description"], "a text") if "description" in parts else "",
        compare_to=_text(parts["compare_to"], "the folder of a run") if "compare_to" in parts else None,
        names=_text(parts["names"], TEMPLATE) if "names" in parts else None,
        common=_flags(parts["common"]) if "common" in parts else {},
        configurations={name: _configuration(name, entry) for name, entry in configurations.items()},
        models={name: _value(entry) for name, entry in models.items()},
        run=[_text(item, "a configuration") for item in _items(parts["run"])] if "run" in parts else None,
        places={
            **{name: entry.where for name, entry in parts.items()},
            **{f"models.{name}": entry.where for name, entry in models.items()},
            **{
                f"configurations.{name}.{key}": part.where
                for name, entry in configurations.items()
                for key, part in (entry.content.items() if isinstance(entry.content, dict) else ())
            },
        },
    )


def _configuration(name: str, entry: Entry) -> Configuration:
    if not _NAME.fullmatch(name):
        raise entry.fail(f"{name!r} cannot be the name of a configuration: use letters, digits, _ . + = -")
    parts = _mapping(entry, "flags with their values") if entry.content is not None else {}
    own = {key: parts[key] for key in OF_CONFIGURATION if key in parts}
    return Configuration(
        values=_flags(Entry({key: value for key, value in parts.items() if key not in own}, entry.where)),
        extends=[_text(item, "a configuration") for item in _items(own["extends"])] if "extends" in own else (),
        grid=_grid(own["grid"]) if "grid" in own else {},
        list=[_flags(item) for item in _list(own["list"], "settings, each a run")] if "list" in own else (),
        random=_random(own["random"]) if "random" in own else None,
        repeat=_count(own["repeat"], "repeat") if "repeat" in own else None,
        experts=_experts(own["experts"]) if "experts" in own else (),
        expert_flag=_text(own["expert_flag"], "a flag") if "expert_flag" in own else None,
        for_expert=_for_expert(own["for_expert"]) if "for_expert" in own else {},
        abstract=_truth(own["abstract"]) if "abstract" in own else False,
        version=_text(own["version"], "a version such as 2 or 1.1") if "version" in own else None,
        where=entry.where,
    )


def _grid(entry: Entry) -> Mapping[str, list[Value]]:
    grid = {}
    for flag, choices in _leaves(entry, "flags, each with a list of values"):
        grid[flag] = [_value(item) for item in _list(choices, f"values of --{flag}")]
    return grid


def _leaves(entry: Entry, what: str) -> list[tuple[str, Entry]]:
    """Flags of a mapping, which may be nested, and what is written behind each."""
    found: list[tuple[str, Entry]] = []
    for name, value in _mapping(entry, what).items():
        _check_flag(name, value)
        if isinstance(value.content, dict) and not _is_distribution(value.content):
            found += [(f"{name}.{flag}", leaf) for flag, leaf in _leaves(value, what)]
        else:
            found.append((name, value))
    return found


def _is_distribution(parts: Mapping[str, Entry]) -> bool:
    return any(difflib.get_close_matches(name, Distribution.KINDS, n=1, cutoff=0.8) for name in parts)


def _random(entry: Entry) -> Draws:
    parts = _mapping(entry, "draws, seed and values")
    _check_names(parts, OF_RANDOM)
    for name in ("draws", "values"):
        if name not in parts:
            raise entry.fail(f"random: `{name}` is missing")
    values = {flag: _distribution(flag, of) for flag, of in _leaves(parts["values"], "flags with a distribution")}
    seed = _count(parts["seed"], "seed", at_least=0) if "seed" in parts else 1
    return Draws(_count(parts["draws"], "draws"), values, seed)


def _distribution(flag: str, entry: Entry) -> Distribution:
    kinds = ", ".join(Distribution.KINDS)
    parts = entry.content
    if not isinstance(parts, dict) or len(parts) != 1:
        raise entry.fail(f"--{flag}: expected one distribution, such as {{uniform: [0, 1]}} (there are {kinds})")
    _check_names(parts, Distribution.KINDS)
    kind, values = next(iter(parts.items()))
    return Distribution(kind, [_value(item) for item in _list(values, f"values for {kind}")], values.where)


def _experts(entry: Entry) -> list[str]:
    experts = [_text(item, "an expert") for item in _list(entry, "experts")]
    for expert in experts:
        if experts.count(expert) > 1:
            raise entry.fail(f"experts: {expert!r} is named twice")
        if not _NAME.fullmatch(expert):
            raise entry.fail(f"experts: {expert!r} cannot be in the name of a run: use letters, digits, _ . + = -")
    return experts


def _for_expert(entry: Entry) -> Mapping[str, Mapping[str, Value]]:
    return {expert: _flags(flags) for expert, flags in _mapping(entry, "experts with their flags").items()}


def _flags(entry: Entry) -> Mapping[str, Value]:
    """Flags with their values; both may be nested."""
    flags = _mapping(entry, "flags with their values")
    for name, value in flags.items():
        _check_flag(name, value)
    return {name: _value(value) for name, value in flags.items()}


def _check_flag(name: str, value: Entry) -> None:
    if name.startswith("-"):
        raise value.fail(f"{name}: write flags without their dashes: {name.lstrip('-')}")
    if name == "trainer.output_dir":
        raise value.fail("--trainer.output_dir: each run of a batch has a folder of its own there; leave this out")


def _value(entry: Entry) -> Value:
    content = entry.content
    if isinstance(content, dict):
        return {name: _value(value) for name, value in content.items()}
    if isinstance(content, list):
        if any(isinstance(item.content, dict) for item in content):
            return [_value(item) for item in content]
        if any(isinstance(item.content, list) for item in content):
            return Given((json_text(entry.value()),), entry.where)
        return Given(tuple(_word(item) for item in content), entry.where)
    return Given((_word(entry),), entry.where)


def _word(entry: Entry) -> str:
    return "none" if entry.content is None else str(entry.content)


def _mapping(entry: Entry, what: str) -> dict[str, Entry]:
    if not isinstance(entry.content, dict):
        raise entry.fail(f"expected {what}, got {_shown(entry)}")
    return entry.content


def _list(entry: Entry, what: str) -> list[Entry]:
    if not isinstance(entry.content, list):
        raise entry.fail(f"expected a list of {what}, got {_shown(entry)}")
    if not entry.content:
        raise entry.fail(f"expected a list of {what}, got an empty one")
    return entry.content


def _items(entry: Entry) -> list[Entry]:
    """One name or a list of them."""
    return entry.content if isinstance(entry.content, list) else [entry]


def _text(entry: Entry, what: str) -> str:
    if not isinstance(entry.content, str) or not entry.content:
        raise entry.fail(f"expected {what}, got {_shown(entry)}")
    return entry.content


def _count(entry: Entry, name: str, at_least: int = 1) -> int:
    word = entry.content
    if not isinstance(word, str) or not word.isdecimal() or int(word) < at_least:
        raise entry.fail(f"{name}: expected a whole number, {at_least} or more, got {_shown(entry)}")
    return int(word)


def _truth(entry: Entry) -> bool:
    word = str(entry.content).lower()
    if word not in (*TRUE_WORDS, *FALSE_WORDS):
        raise entry.fail(f"abstract: expected true or false, got {_shown(entry)}")
    return word in TRUE_WORDS


def _shown(entry: Entry) -> str:
    content = entry.content
    if content is None:
        return "nothing"
    return repr(content) if isinstance(content, str) else article("mapping" if isinstance(content, dict) else "list")


def _check_names(parts: Mapping[str, Entry], known: Collection[str]) -> None:
    for name, entry in parts.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
            raise UsageError(f"{entry.where}: there is no {name!r} here; {hint}")
