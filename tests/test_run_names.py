"""Names of the runs of a batch: from their configurations, or from a template of their parameters."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tfaip_like import UsageError
from tfaip_like.experiments import Configuration, Plan
from tfaip_like.experiments._batches.generation import prepare_runs
from tfaip_like.experiments._plans.flag_values import Value
from tfaip_like.experiments._plans.plan_reader import read_plan
from tfaip_like.experiments._plans.plan_writer import plan_to_yaml
from tfaip_like.experiments._plans.resolution import Resolver, load_plan_scenario
from tfaip_like.experiments._plans.run_names import make_base_name, make_unique_names

VALUES: dict[str, Value] = {
    "trainer.epochs": 3,
    "learning_rate.lr": 5e-4,
    "model.graph": "CNN",
    "model.graph.filters": [8, 16],
    "data.processors": ["Shift"],
}


def name(template: str) -> str:
    """Return the name of a run with VALUES."""
    plan = Plan("scenarios.tutorial", {"wide": Configuration(VALUES, version="1.1")}, names=template)
    [run] = plan.runs()
    return make_base_name(plan, run, Resolver(load_plan_scenario(plan))(run).params)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{configuration}_v{version}", "wide_v1.1"),
        ("{model.graph}-{model.graph.filters}_{learning_rate.lr:.0e}", "CNN-8-16_5e-04"),
        ("{model.graph.filters.1:03}", "016"),
        ("{learning_rate}{optimizer}_{trainer.jit_compile}_{trainer.random_seed}", "ConstantAdam_none_none"),
        ("{data.processors}", "Shift"),
        ("a b/{trainer.epochs}..", "a-b-3"),
        ("{evaluator}_{expert}", "PerClassEvaluator_none"),
    ],
)
def test_a_template_names_a_run_by_its_parameters(template: str, expected: str) -> None:
    assert name(template) == expected


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (
            "{learning_rate.rate}",
            "names: {learning_rate.rate}: unknown flag; did you mean --learning_rate.lr?",
        ),
        ("{confguration}", "names: {confguration}: unknown flag"),
        ("{trainer.epochs:x3}", "names: {trainer.epochs:x3}: Invalid format specifier"),
        ("{trainer.epochs", "names: expected '}' before end of string"),
        ("{trainer.description}", "names: the name of a run of wide is empty"),
        ("x" * 151, "names: the name of a run of wide exceeds 150 characters"),
    ],
)
def test_a_template_that_names_nothing_is_rejected(template: str, says: str) -> None:
    with pytest.raises(UsageError) as rejected:
        name(template)
    assert str(rejected.value).startswith(says)


@settings(max_examples=100)
@given(some.lists(some.lists(some.sampled_from(["a", "a.01", "a.02", "b", "b.1"]), max_size=8), max_size=3))
def test_each_run_has_a_unique_name_that_begins_with_its_stem(additions: list[list[str]]) -> None:
    names: list[str] = []
    for stems in additions:
        new = make_unique_names(stems, names)
        assert all(made == stem or made.startswith(f"{stem}.") for made, stem in zip(new, stems, strict=True))
        names += new
    assert len(set(names)) == len(names)


def test_runs_of_one_name_are_numbered_and_those_that_are_added_too(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(
        "scenario: experts\nnames: '{configuration}_{model.dropout}'\n"
        "configurations: {wide: {version: 2, grid: {model.dropout: [0.0, 0.2]}, repeat: 2}, other: {}}\n"
    )
    plan = read_plan(tmp_path / "plan.yaml")
    scenario = load_plan_scenario(plan)
    made = [one.run for one in prepare_runs(plan.runs(), plan, scenario, ())]
    names = [run.name for run in made]
    assert names == ["wide_0.0.01", "wide_0.0.02", "wide_0.2.01", "wide_0.2.02", "other_0.1"]
    assert [run.version for run in made] == ["2"] * 4 + [None]
    more = prepare_runs(plan.runs(), plan, scenario, made)
    assert [one.run.name for one in more] == [
        "wide_0.0.03",
        "wide_0.0.04",
        "wide_0.2.03",
        "wide_0.2.04",
        "other_0.1.02",
    ]
    assert more[0].params.trainer.description == "(wide, version 2)"
    (tmp_path / "again.yaml").write_text(plan_to_yaml(plan))
    again = read_plan(tmp_path / "again.yaml")
    assert (again.names, again.configurations["wide"].version) == (plan.names, "2")
