"""Names of the runs of a batch, which are also the names of their directories and jobs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path
from string import Formatter
from typing import Any

from tfaip_like._utils.errors import UsageError
from tfaip_like.experiments._plans.plan import Plan, PlannedRun
from tfaip_like.params._base import ParamsBase
from tfaip_like.params._suggest import suggest_flag
from tfaip_like.scenario import Scenario

MAX_NAME_LENGTH = 150
_INVALID_NAME_CHARACTERS = re.compile(r"[^A-Za-z0-9_.+=-]+")


def make_base_name(plan: Plan, run: PlannedRun, params: Scenario) -> str:
    """Return the name of a run before it is made unique.

    It is made from the name template of the plan, or from the configuration: `wide`, `barrel.expert_1`.

    Raises:
        UsageError: see `format_name_template`.
    """
    if plan.names is not None:
        return format_name_template(plan.names, run, params, plan.location_of("names"))
    return run.configuration if run.expert is None else f"{run.configuration}.expert_{run.expert}"


def format_name_template(template: str, run: PlannedRun, params: Scenario, where: str) -> str:
    """Return the name of a run according to a template.

    Args:
        template: format string such as `{configuration}_{train.balance}_{learning_rate.lr:.0e}`; its fields are flags,
            and `configuration`, `version`, `expert`, `repeat` and `task` of the run.
        run: run to name.
        params: parameters of the run.
        where: location of the template in the plan file, for messages.

    Raises:
        UsageError: for an unknown flag, an invalid format, and a name that is empty or too long.
    """
    known = {
        "configuration": run.configuration,
        "version": run.version,
        "expert": run.expert,
        "repeat": run.repeat,
        "task": run.task,
    }
    try:
        parts = list(Formatter().parse(template))
    except ValueError as problem:
        raise UsageError(f"{where}: {problem}") from problem
    text = ""
    for literal, field, form, _ in parts:
        text += literal
        if field is not None:
            value = known[field] if field in known else _get_parameter(params, field, where)
            text += _format_value(value, form or "", field, where)
    name = _INVALID_NAME_CHARACTERS.sub("-", text).strip("-.")
    if not name or len(name) > MAX_NAME_LENGTH:
        reason = f"exceeds {MAX_NAME_LENGTH} characters" if name else "is empty"
        raise UsageError(f"{where}: the name of a run of {run.configuration} {reason}")
    return name


def _get_parameter(params: Scenario, flag: str, where: str) -> Any:
    value: Any = params
    keys = flag.split(".")
    for depth, part in enumerate(keys):
        if isinstance(value, (list, tuple)) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, ParamsBase) and part in value.__dataclass_fields__:
            value = getattr(value, part)
        else:
            raise UsageError(f"{where}: {{{flag}}}: {suggest_flag(params, tuple(keys[: depth + 1]))}")
    return value


def _format_value(value: Any, form: str, field: str, where: str) -> str:
    """Return a value as part of a name: classes by name, files without directory and suffix."""
    if isinstance(value, (list, tuple)):
        return "-".join(_format_value(item, form, field, where) for item in value)
    if isinstance(value, ParamsBase):
        value = type(value).__name__
    elif isinstance(value, Enum):
        value = value.name
    elif isinstance(value, Path):
        value = value.stem
    elif value is None or isinstance(value, bool):
        value = str(value).lower()
    try:
        return format(value, form)
    except (ValueError, TypeError) as problem:
        raise UsageError(f"{where}: {{{field}:{form}}}: {problem}") from problem


def make_unique_names(stems: Sequence[str], existing: Iterable[str]) -> list[str]:
    """Return a unique name for each stem: the stem itself if it is unique, else with a number (`wide.01`).

    Args:
        stems: base names.
        existing: names that are in use already.
    """
    used_names = set(existing)
    num_used = Counter([*used_names, *(match[1] for name in used_names if (match := re.fullmatch(r"(.+)\.\d+", name)))])
    new = Counter(stems)
    digits = {stem: max(2, len(str(num_used[stem] + count))) for stem, count in new.items()}
    names = []
    for stem in stems:
        name = stem
        if new[stem] > 1 or num_used[stem] or stem in used_names:
            while (name := f"{stem}.{num_used[stem] + 1:0{digits[stem]}}") in used_names:
                num_used[stem] += 1
            num_used[stem] += 1
        used_names.add(name)
        names.append(name)
    return names
