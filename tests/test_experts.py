"""Experts: each sample is predicted by the network that is for it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest
from small import Line, Points, small

from tfaip_like import Processor, Sample, Tensors, UsageError, load_predictor
from tfaip_like._cli.predict_scenario import predict_scenario
from tfaip_like._export.writing import write_export
from tfaip_like.data import PredictLoaderSettings
from tfaip_like.inference._experts import gather_experts
from tfaip_like.modeling._network import build_networks

X = np.random.default_rng(5).random((50, 2), dtype="float32")


class BySize(Processor):
    """Small inputs are for one expert, large ones for another."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        expert = "small" if sample.inputs["x"][0] < 0.5 else "large"
        return dataclasses.replace(sample, meta={**sample.meta, "expert": expert})


class Other(Line):
    """Calls its output otherwise."""

    def build(self, inputs: Tensors) -> Tensors:
        return {"other": keras.layers.Dense(1, name="add")(inputs["x"])[:, 0]}


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experts")
    for seed, name in enumerate(("small", "large")):
        keras.utils.set_random_seed(seed)
        scenario = small(data=Points(processors=[BySize()]))
        write_export(folder / name, build_networks(scenario.model, scenario.data), scenario, {})
    gather_experts({name: folder / name for name in ("small", "large")}, folder / "all")
    return folder


def test_each_sample_is_predicted_by_its_expert_in_the_order_of_samples(experts: Path) -> None:
    together = [
        float(s.outputs["sum"]) for s in load_predictor(experts / "all")({"x": X}, PredictLoaderSettings(batch_size=7))
    ]
    alone = {
        name: [float(s.outputs["sum"]) for s in load_predictor(experts / name)({"x": X})] for name in ("small", "large")
    }
    expected = [alone["small" if x[0] < 0.5 else "large"][number] for number, x in enumerate(X)]
    np.testing.assert_allclose(together, expected, rtol=1e-5)
    assert float(load_predictor(experts / "all").one({"x": X[3]}).outputs["sum"]) == pytest.approx(
        expected[3], rel=1e-5
    )


@pytest.mark.parametrize("form", ["arrays", "list"])
def test_samples_can_name_their_expert_as_an_input(experts: Path, form: str) -> None:
    names = ["large" if number % 3 else "small" for number in range(len(X))]
    predictor = load_predictor(experts / "all")
    predictor.pipeline = dataclasses.replace(predictor.pipeline, processors=[])
    given = {"x": X, "expert": np.array(names)}
    rows = [{"x": x, "expert": name} for x, name in zip(X, names, strict=True)]
    found = list(predictor(given if form == "arrays" else rows))
    assert [sample.meta["expert"] for sample in found] == names
    assert float(found[7].outputs["sum"]) == pytest.approx(
        float(load_predictor(experts / names[7]).one({"x": X[7]}).outputs["sum"]), rel=1e-5
    )


def test_the_command_line_predicts_with_a_folder_of_experts(
    experts: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.jsonl").write_text('{"x": [0.1, 0.2]}\n{"x": [0.9, 0.2]}\n')
    predict_scenario([str(experts / "all"), "--predict.files", str(tmp_path / "x.jsonl")])
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["meta"]["expert"] for line in lines] == ["small", "large"]


def test_samples_without_a_matching_expert_are_reported(experts: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    gather_experts({"small": experts / "small"}, tmp_path / "one" / "all")
    with pytest.raises(UsageError, match="sample 1 of a batch: unknown expert 'large'; available: small"):
        list(load_predictor(tmp_path / "one" / "all")([{"x": [0.1, 0]}, {"x": [0.7, 0]}]))
    plain = load_predictor(experts / "all")
    plain.pipeline = dataclasses.replace(plain.pipeline, processors=[])
    with pytest.raises(UsageError, match="sample 0 of a batch names no expert"):
        list(plain([{"x": [0.1, 0]}]))


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ({"small": "../small"}, "experts.json: .*: ../small: outside of this directory"),
        ({}, "experts.json, line 1: no experts listed"),
        ({"small": "nowhere"}, "experts.json: small: no such directory: nowhere"),
    ],
)
def test_wrong_lists_of_experts_are_rejected(tmp_path: Path, listed: dict[str, str], message: str) -> None:
    (tmp_path / "experts.json").write_text(json.dumps({"format_version": 1, **listed}))
    with pytest.raises(UsageError, match=message):
        load_predictor(tmp_path)


def test_experts_with_other_outputs_are_rejected(experts: Path, tmp_path: Path) -> None:
    scenario = small(data=Points(processors=[BySize()]), model=Other())
    write_export(tmp_path / "other", build_networks(scenario.model, scenario.data), scenario, {})
    gather_experts({"small": experts / "small", "large": tmp_path / "other"}, tmp_path / "all")
    with pytest.raises(UsageError, match="cannot combine experts 'small' and 'large': their outputs differ"):
        load_predictor(tmp_path / "all")


def test_an_existing_directory_is_not_overwritten(experts: Path) -> None:
    with pytest.raises(UsageError, match="all: already exists"):
        gather_experts({"small": experts / "small"}, experts / "all")
