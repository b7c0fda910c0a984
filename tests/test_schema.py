"""JSON Schema of parameter files and plans, checked by a validator on what we write and on mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from command_server import REPOSITORY
from jsonschema import Draft202012Validator

from tfaip_like import Params, UsageError
from tfaip_like._cli.train_scenario import train_scenario
from tfaip_like._scenario_lookup import find_scenario
from tfaip_like.experiments._plans.plan_schema import plan_schema
from tfaip_like.params._base import default_instance
from tfaip_like.params._schema import json_schema

SCENARIOS = ("gan", "jets", "minimal", "network_zoo", "sequences", "text_lines", "track_trigger", "tutorial", "vae")


def problems(schema: dict[str, Any], values: object) -> list[str]:
    """Return where values do not fit a schema, and why."""
    return [f"{'.'.join(map(str, e.path))}: {e.message}" for e in Draft202012Validator(schema).iter_errors(values)]


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_parameters_of_every_scenario_fit_its_schema(name: str) -> None:
    tree = default_instance(find_scenario(f"scenarios.{name}"))
    values = json.loads(json.dumps(tree.to_dict()))
    assert problems(json_schema(tree), {"$schema": "x.schema.json", **values}) == []


@pytest.fixture(scope="module")
def tutorial() -> Params:
    return default_instance(find_scenario("scenarios.tutorial"))


@pytest.mark.slow
def test_schemas_are_valid(tutorial: Params) -> None:
    Draft202012Validator.check_schema(json_schema(tutorial))
    Draft202012Validator.check_schema(plan_schema(tutorial))


@pytest.mark.parametrize(
    "values",
    [
        {"optimizer": "SGD"},
        {"optimizer": {"class": "SGD", "momentum": 0.9}},
        {"optimizer": {"class": "tfaip_like.optimizers:SGD", "momentum": 0.9}},
        {"optimizer": {"class": "my_module:Mine", "anything": 1}},
        {"optimizer": {"beta_1": 0.8}},
        {"evaluator": None},
        {"device": {"gpus": [0, 1]}},
        {"early_stopping": {"upper_threshold": "inf"}},
    ],
)
def test_valid_parameter_files_match_the_schema(tutorial: Params, values: dict[str, Any]) -> None:
    assert problems(json_schema(tutorial), values) == []


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"trainer": {"epochz": 3}}, "trainer"),
        ({"trainer": {"epochs": "three"}}, "trainer.epochs"),
        ({"trainer": {"precision": "float8"}}, "trainer.precision"),
        ({"optimizer": "Adamm"}, "optimizer"),
        ({"optimizer": {"class": "SGD", "momentun": 0.9}}, "optimizer"),
        ({"optimizer": {"momentum": 0.9}}, "optimizer"),
        ({"optimizer": None}, "optimizer"),
        ({"device": {"gpus": 0}}, "device.gpus"),
        ({"learning": {}}, ""),
    ],
)
def test_a_mistake_in_a_file_is_found_at_its_place(tutorial: Params, values: dict[str, Any], place: str) -> None:
    found = problems(json_schema(tutorial), values)
    assert len(found) == 1
    assert found[0].startswith(f"{place}: ")


@pytest.mark.parametrize("name", ["jets", "network_zoo", "track_trigger"])
def test_the_plans_of_the_repository_fit_the_schema_of_plans(name: str) -> None:
    plan = yaml.safe_load((REPOSITORY / "scenarios" / "plans" / f"{name}.yaml").read_text())
    assert problems(plan_schema(default_instance(find_scenario(plan["scenario"]))), plan) == []


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (
            lambda plan: plan["configurations"]["a"].update({"trainer.epochs": "many"}),
            "configurations.a.trainer.epochs",
        ),
        (lambda plan: plan["configurations"]["a"].update(grids={}), "configurations.a"),
        (lambda plan: plan["configurations"]["a"].update(repeat=0), "configurations.a.repeat"),
        (lambda plan: plan.update(comon={}), ""),
        (lambda plan: plan.pop("scenario"), ""),
    ],
)
def test_a_mistake_in_a_plan_is_found_at_its_place(
    tutorial: Params, change: Callable[[dict[str, Any]], object], place: str
) -> None:
    plan: dict[str, Any] = {"scenario": "scenarios.tutorial", "configurations": {"a": {"trainer": {"epochs": 2}}}}
    assert problems(plan_schema(tutorial), plan) == []
    change(plan)
    found = problems(plan_schema(tutorial), plan)
    assert [problem.partition(": ")[0] for problem in found] == [place]


def test_help_of_parameters_is_in_the_schema(tutorial: Params) -> None:
    trainer = json_schema(tutorial)["$defs"]["tfaip_like.settings:Trainer"]["properties"]
    assert trainer["epochs"]["default"] == 100
    assert "epochs" in trainer["epochs"]["description"]


def test_commands_print_the_schema_of_their_parameter_files_and_of_plans(
    tutorial: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    train_scenario(["scenarios.tutorial", "--schema"])
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(json_schema(tutorial)))
    train_scenario(["scenarios.tutorial", "--schema", "plan"])
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(plan_schema(tutorial)))
    with pytest.raises(UsageError, match="--schema takes no value, got plans"):
        train_scenario(["scenarios.tutorial", "--schema", "plans"])
