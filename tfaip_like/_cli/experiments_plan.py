"""Plans and batches that the arguments and flags of a command line name."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfaip_like._scenario_lookup import SCENARIO_FILE
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.remote_paths import to_path
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments._plans.flag_values import FlagValue, Value
from tfaip_like.experiments._plans.plan import Plan
from tfaip_like.experiments._plans.plan_reader import read_plan
from tfaip_like.experiments._plans.plan_writer import merge_flags
from tfaip_like.params._flags import Flag

PROGRAM = "experiments"


def load_plan(
    words: Sequence[str], scenario: str | None, models: Sequence[str], flags: Sequence[Flag]
) -> tuple[Plan, str | None]:
    """Return the plan of a file with its text, or a plan for some models of a scenario, which has no text.

    Args:
        words: positional arguments: at most one plan file.
        scenario: scenario of the models; by default the `scenario.py` of the current directory, if there is one.
        models: numbers of runs, as `CLASS.ARCHITECTURE=COUNT`.
        flags: flags for all runs.

    Raises:
        UsageError: if the arguments name no plan, or more than one, or the file is invalid.
    """
    if len(words) > 1:
        raise UsageError(f"expected one plan file, got {' '.join(words)}")
    if words and (scenario or models):
        raise UsageError("--scenario and --models cannot be combined with a plan file")
    if words:
        path = to_path(words[0])
        plan, text = read_plan(path), path.read_text(encoding="utf-8")
        return dataclasses.replace(plan, overrides=parse_overrides(flags)), text
    if models and not scenario and Path(SCENARIO_FILE).is_file():
        scenario = SCENARIO_FILE
    if scenario and models:
        counts = _parse_models(models)
        plan = Plan(scenario, models=counts, locations={f"models.{name}": "--models" for name in counts})
        return dataclasses.replace(plan, overrides=parse_overrides(flags)), None
    if models:
        raise UsageError(f"--models requires --scenario: no {SCENARIO_FILE} in the current directory")
    if scenario:
        raise UsageError("--scenario requires --models with a number of runs: --models class.architecture=10")
    raise UsageError(f"missing argument PLAN, or --scenario with --models. usage: {PROGRAM} generate PLAN")


def with_name_template(plan: Plan, template: str) -> Plan:
    """Return a plan whose runs are named by a template of the command line."""
    return dataclasses.replace(plan, names=template, locations={**plan.locations, "names": "--names"})


def default_batch_name(scenario: str) -> str:
    """Return the default name of a batch of a scenario.

    Example:
        >>> default_batch_name("scenarios.tutorial:Tutorial"), default_batch_name("zoo/scenario.py")
        ('tutorial', 'zoo')
    """
    name = scenario.partition(":")[0]
    if name.endswith(".py") or "/" in name:
        path = Path(name).absolute()
        return path.parent.name if path.name == SCENARIO_FILE else path.stem
    return name.removesuffix(f".{Path(SCENARIO_FILE).stem}").rpartition(".")[2]


def parse_overrides(flags: Sequence[Flag]) -> dict[str, Value]:
    """Return the flags for all runs of a batch."""
    for flag in flags:
        if flag.name == "trainer.output_dir":
            raise UsageError("--trainer.output_dir: set by the batch for each run; remove this flag")
    return {flag.name: FlagValue(flag.words) for flag in flags}


def _parse_models(words: Sequence[str]) -> dict[str, str]:
    """Parse `a.b=10, c.d=2` into a mapping."""
    models: dict[str, str] = {}
    for part in " ".join(words).replace(",", " ").split():
        name, equals, count = part.partition("=")
        if not equals or name in models:
            problem = "duplicate model" if name in models else "expected class.architecture=number"
            raise UsageError(f"--models {part}: {problem}")
        models[name] = count
    return models


def open_batch(words: Sequence[str], usage: str) -> Batch:
    """Return the batch that the first argument names."""
    if not words:
        raise UsageError(f"missing argument BATCH. usage: {PROGRAM} {usage}")
    batch = Batch(Path(words[0]))
    batch.read_index()
    return batch


def quote_path(batch: Batch) -> str:
    """Return the directory of a batch, quoted for a shell."""
    return shlex.quote(str(batch.path))


def load_original_plan(batch: Batch) -> Plan:
    """Return the plan of a batch, with the flags that it was generated with."""
    return dataclasses.replace(read_plan(batch.plan_path), overrides=read_batch_flags(batch))


def read_batch_flags(batch: Batch, with_common: bool = False) -> dict[str, Value]:
    """Return the flags for all runs that a batch was generated with.

    Args:
        batch: batch to read.
        with_common: include the common flags of its plan.
    """
    common: Mapping[str, Value] = read_plan(batch.plan_path).common if with_common else {}
    origin = str(batch.index_file)
    return merge_flags(
        common, {flag: FlagValue(tuple(words), origin) for flag, words in batch.read_index().overrides.items()}
    )
