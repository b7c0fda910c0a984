"""Rules of fields stand in the annotation of the field, and no list of field names is kept elsewhere."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest

from tfaip_like._cli import experiments_search  # noqa: F401  (defines parameters)
from tfaip_like.params import Params
from tfaip_like.params._base import field_types, iter_params
from tfaip_like.params._field_rules import (
    AffectsTrainingSamples,
    OnResume,
    Requires,
    field_rules,
    find_rule,
    iter_unmet_requirements,
)
from tfaip_like.params._variants import available_variants
from tfaip_like.scenario import Scenario

PACKAGE = Path(__file__).parent.parent / "tfaip_like"

REMAINING = {
    ("_export/layout.py", "_RESERVED_ARGUMENT_NAMES"): "Python's keywords",
}
"""Collections of strings that happen to be names of fields, each with its reason."""


class Inner(Params):
    kept: int = 0
    fast: Annotated[int, AffectsTrainingSamples(False)] = 0


class Outer(Params):
    inner: Annotated[Inner, AffectsTrainingSamples(True), OnResume("a note")] = Inner()
    items: Annotated[list[Inner], AffectsTrainingSamples(True)] = [Inner()]
    by_name: Annotated[dict[str, Inner], AffectsTrainingSamples(True)] = {"a": Inner()}
    folds: int = 0
    fold: Annotated[int | None, Requires("folds", "there are no folds")] = 1


class Redeclared(Outer):
    inner: Inner = Inner(kept=1)
    fold = 2


def affects(tree: Params, flag: str) -> bool | None:
    rule = find_rule(tree, tuple(flag.split(".")), AffectsTrainingSamples)
    return None if rule is None else rule.value


@pytest.mark.parametrize("tree", [Outer(), Redeclared()])
@pytest.mark.parametrize("owner", ["inner", "items.0", "by_name.a"])
def test_the_nearest_rule_above_a_parameter_applies(tree: Params, owner: str) -> None:
    assert affects(tree, owner) is affects(tree, f"{owner}.kept") is affects(tree, f"{owner}.absent") is True
    assert affects(tree, f"{owner}.fast") is False
    assert affects(tree, "folds") is None
    assert affects(tree, "unknown.path") is None


def test_a_field_has_no_effect_until_the_field_that_it_requires_is_set() -> None:
    assert dict(iter_unmet_requirements(Redeclared())) == {"fold": "there are no folds"}
    assert dict(iter_unmet_requirements(Redeclared(folds=3))) == {}


def test_each_requirement_names_a_field_of_its_class() -> None:
    for _, params in iter_params(Scenario(**dict.fromkeys(("data", "model")))):  # type: ignore[arg-type]
        for cls in available_variants(type(params)).values():
            for rule in field_rules(cls, Requires).values():
                assert rule.field in field_types(cls)


def names_of_fields() -> set[str]:
    classes = [cls for cls in available_variants(Params).values() if cls.__module__.startswith("tfaip_like.")]
    return {name for cls in classes for name in field_types(cls)}


def string_collections(tree: ast.AST) -> Iterator[tuple[str, list[str]]]:
    """Yield each constant (a name in capital letters) that holds strings only, with the strings."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(
            node.value, (ast.Tuple, ast.List, ast.Set, ast.Dict)
        ):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            items = node.value.keys if isinstance(node.value, ast.Dict) else node.value.elts
            texts = [item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str)]
            if isinstance(target, ast.Name) and target.id.isupper() and texts and len(texts) == len(items):
                yield target.id, texts


def test_no_list_of_field_names_is_kept_apart_from_the_fields() -> None:
    known = names_of_fields()
    found = {}
    for path in PACKAGE.rglob("*.py"):
        for name, texts in string_collections(ast.parse(path.read_text())):
            if all(text.removeprefix("--").rstrip(".").rpartition(".")[2] in known for text in texts):
                found[str(path.relative_to(PACKAGE)), name] = texts
    assert {key: texts for key, texts in found.items() if key not in REMAINING} == {}
