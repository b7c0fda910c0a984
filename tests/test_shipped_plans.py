"""The plans of the shipped scenarios make the runs that they promise."""

from __future__ import annotations

from collections import Counter

import pytest
from conftest import REPOSITORY

plan_file = pytest.importorskip("tfaip_like.experiments._plans.plan_reader")

RUNS = {
    "jets": {"weighted": 6, "files": 4, "shifted": 3},
    "track_trigger": {"base": 1, "experts": 5, "uniform": 5, "normal": 5},
    "network_zoo": {
        "codes": 6,
        "Autoencoder.linear": 1,
        **{f"Autoencoder.{name}": 2 for name in ("classical", "deep", "convolutional")},
        **{f"Classifier.{name}": 2 for name in ("classical", "deep", "convolutional", "clu_one", "chransynth")},
    },
}


def test_every_shipped_plan_is_tested() -> None:
    assert {file.stem for file in (REPOSITORY / "scenarios" / "plans").iterdir()} == set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_a_plan_makes_its_runs(name: str) -> None:
    from tfaip_like.experiments._plans.named_models import expand_models
    from tfaip_like.experiments._plans.resolution import iter_resolved, load_plan_scenario

    plan = plan_file.read_plan(REPOSITORY / "scenarios" / "plans" / f"{name}.yaml")
    scenario = load_plan_scenario(plan)
    runs = [run for run, _ in iter_resolved(scenario, expand_models(plan, scenario).runs())]
    assert Counter(run.configuration for run in runs) == RUNS[name]


def test_two_experts_of_the_trigger_have_separate_settings() -> None:
    from tfaip_like.experiments._plans.resolution import iter_resolved, load_plan_scenario

    plan = plan_file.read_plan(REPOSITORY / "scenarios" / "plans" / "track_trigger.yaml")
    found = {
        (run.configuration, tree.data.expert): (tree.trainer.epochs, *tree.model.units)
        for run, tree in iter_resolved(load_plan_scenario(plan), plan.runs())
    }
    assert {key: value for key, value in found.items() if value != (20, 81)} == {
        ("experts", 2): (30, 100),
        ("experts", 5): (30, 81),
        ("uniform", 2): (30, 100),
        ("uniform", 5): (30, 81),
        ("normal", 2): (30, 100),
        ("normal", 5): (30, 100),
    }
