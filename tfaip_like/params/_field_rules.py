"""Rules of single fields, written in the annotation of the field and read generically.

Example:
    >>> from tfaip_like.schedules import Constant  # warmup_factor: Annotated[float, Requires("warmup_epochs", ...)]
    >>> dict(iter_unmet_requirements(Constant()))
    {'warmup_factor': 'no warm-up (set --learning_rate.warmup_epochs)'}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

from tfaip_like.params._base import ParamPath, ParamsBase
from tfaip_like.params._types import union_members

RuleT = TypeVar("RuleT")


@dataclass(frozen=True)
class Requires:
    """Rule: the field has no effect while another field of its class is none, 0, false or empty."""

    field: str
    reason: str
    """Explanation of the missing effect, as it follows "has no effect: "."""


@dataclass(frozen=True)
class AffectsTrainingSamples:
    """Rule: whether the field, and those below it, determine the training samples or their order."""

    value: bool


@dataclass(frozen=True)
class OnResume:
    """Rule: what a changed value does when a run is resumed, for the field and those below it."""

    note: str
    is_ignored: bool = False


@dataclass(frozen=True)
class UniquePerRun:
    """Rule: the value differs in every run, so it is neither a hyperparameter nor a change on resume."""


@dataclass(frozen=True)
class ShownLast:
    """Rule: the value often differs between runs without being informative, so comparisons show it last."""


@dataclass(frozen=True)
class DiffersPerScenario:
    """Rule: each scenario has other parameters below the field, so help shows them first."""


@dataclass(frozen=True)
class ChangesLengthOnly:
    """Rule: the value changes how long a training takes, but not the time per sample."""


@dataclass(frozen=True)
class TensorFlowOnly:
    """Rule: values other than the default require the TensorFlow backend."""


@cache
def _field_rules(cls: type, kind: Any) -> dict[str, Any]:
    rules: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        for name, hint in get_type_hints(base, include_extras=True).items():
            for member in (hint, *union_members(hint)):
                for note in get_args(member)[1:]:
                    if isinstance(note, kind):
                        rules[name] = note
    return rules


def field_rules(cls: type, kind: type[RuleT]) -> Mapping[str, RuleT]:
    """Return the rule of a kind of each field that has one, by name.

    A subclass inherits the rules of a field that it redeclares without a rule of this kind.

    Args:
        cls: `Params` class.
        kind: class of the rule.
    """
    key: Any = kind
    return _field_rules(cls, key)


def find_rule(tree: ParamsBase, path: ParamPath, kind: type[RuleT]) -> RuleT | None:
    """Return the rule of a kind that applies to a parameter: its own, else that of the nearest field above it.

    Args:
        tree: parameter tree.
        path: path of the parameter.
        kind: class of the rule.
    """
    found: RuleT | None = None
    value: Any = tree
    for name in path:
        if isinstance(value, ParamsBase):
            found = field_rules(type(value), kind).get(name, found)
            value = getattr(value, name, None)
        elif isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, (list, tuple)) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return found
    return found


def iter_unmet_requirements(params: ParamsBase) -> Iterator[tuple[str, str]]:
    """Yield the name of each field without effect because another one is not set, and the reason."""
    for name, rule in field_rules(type(params), Requires).items():
        if not getattr(params, rule.field):
            yield name, rule.reason
