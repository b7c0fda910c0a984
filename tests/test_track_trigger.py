"""The scenario of a track trigger."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from shipped import assert_lav_and_predict_work, moved_export, opened

from scenarios.track_trigger.activation import parse_activation
from scenarios.track_trigger.draw import EXPERTS, NUM_INPUTS, RADII, draw_tracks, find_hit_layers, select_expert
from scenarios.track_trigger.firmware import convert_to_fixed_point, fraction_bits, to_fixed_point
from scenarios.track_trigger.scenario import (
    MinimumHits,
    Perceptron,
    ResolutionEvaluator,
    Tracks,
    TrackTrigger,
    half_width_68,
)
from tfaip_like import Mode, Sample, UsageError, keras, load_predictor, train
from tfaip_like._keras_ext.paths import weight_paths
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.initialization.warm_start import warm_start
from tfaip_like._training.result import TrainResult
from tfaip_like.data import Normal, RangeFilter, TrainLoaderSettings, Uniform
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.data._loader.sampler import INDEX
from tfaip_like.inference._experts import gather_experts
from tfaip_like.modeling._network import build_networks
from tfaip_like.params._tree import validate_params
from tfaip_like.settings import Trainer, WarmStart
from tfaip_like.summaries import Summary

SMALL = Tracks(samples=2000, val_samples=500)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trigger") / "run"


@pytest.fixture(scope="module")
def result(folder: Path) -> TrainResult:
    trainer = Trainer(epochs=3, random_seed=3, jit_compile=False, output_dir=folder)
    model = Perceptron(units=[20, 10], activation="relu")
    data = dataclasses.replace(SMALL, expert=1)
    return train(TrackTrigger(data=data, model=model, trainer=trainer, train=TrainLoaderSettings(batch_size=16)))


def tracks_drawn(batches: DataLoader) -> np.ndarray[Any, Any]:
    """Return the z of one pass."""
    assert batches.order is not None
    z: np.ndarray[Any, Any] = batches.samples.source.targets["track"][batches.order.rows_of_pass(0)[:, INDEX], 0]
    return z


@pytest.mark.slow
def test_track_trigger_learns_and_is_compared_with_a_linear_function(result: TrainResult) -> None:
    first, last = result.history[0], result.history[-1]
    assert last["loss"] < first["loss"]
    assert last["val_z_resolution"] < 30
    assert last["val_z_gain"] > 0.2  # few steps, and the linear function knows the answers
    assert "val_z_resolution_1" not in last  # there is only this one


def test_lav_and_predict_take_its_export(result: TrainResult, folder: Path, tmp_path: Path) -> None:
    predicted = assert_lav_and_predict_work(folder, result, tmp_path)
    source = dataclasses.replace(SMALL, expert=1).source(Mode.EVALUATE)
    assert source is not None
    assert predicted["track"].shape == (len(source), 2)


def test_experts_see_their_part_only_and_together_all() -> None:
    parts = {expert: dataclasses.replace(SMALL, expert=expert).source(Mode.TRAIN) for expert in (0, *EXPERTS)}
    for expert in EXPERTS:
        part = parts[expert]
        assert part is not None
        assert np.unique(part.targets["expert"]).tolist() == [expert]
        assert (find_hit_layers(part.inputs["hits"]).sum(axis=1) == (9 if expert == 1 else 8)).all()
    assert sum(len(parts[expert] or ()) for expert in EXPERTS) == len(parts[0] or ()) == 2000


def test_gathered_experts_predict_their_tracks(folder: Path, result: TrainResult, tmp_path: Path) -> None:
    gather_experts({str(expert): folder for expert in EXPERTS}, tmp_path / "experts")
    hits, _, experts = draw_tracks(40, np.random.default_rng(3))
    assert [select_expert(row) for row in hits] == experts.tolist()
    with moved_export(folder, tmp_path):
        predicted = list(load_predictor(tmp_path / "experts")({"hits": hits}))
    assert [sample.meta["expert"] for sample in predicted] == experts.tolist()
    assert predicted[0].outputs["track"].shape == (2,)


def test_filters_chain(caplog: pytest.LogCaptureFixture) -> None:
    flat = RangeFilter(name="track", component=1, low=-0.5, high=0.5)
    with caplog.at_level("INFO"):
        batches = opened(TrackTrigger(data=SMALL), filter=[MinimumHits(), flat])
    source = batches.samples.source
    kept = source[batches.samples.indices]
    expected = (source.targets["expert"] == 1) & (np.abs(source.targets["track"][:, 1]) <= 0.5)
    assert len(kept) == expected.sum()
    assert (kept.targets["expert"] == 1).all()
    assert (np.abs(kept.targets["track"][:, 1]) <= 0.5).all()
    assert caplog.text.count("removed") == 2


def test_filtering_one_sample_equals_filtering_all() -> None:
    source = SMALL.source(Mode.TRAIN)
    assert source is not None
    filter_ = MinimumHits(layers=9)
    some = source[:50]
    assert filter_.keep_rows(some).tolist() == [filter_.keep(sample) for sample in some]


def test_resampling_flattens_z_or_makes_it_normal() -> None:
    scenario = TrackTrigger(data=dataclasses.replace(SMALL, samples=20000))
    peaked, flat, normal = (
        tracks_drawn(opened(scenario, resample=resample))
        for resample in (
            None,
            Uniform(target="track", component=0, n_buckets=10),
            Normal(target="track", component=0, std=0.3, n_buckets=40),
        )
    )
    counts = [np.histogram(z, bins=10, range=(-1, 1))[0] for z in (peaked, flat)]
    assert counts[0].max() > 5 * counts[0].min()
    assert counts[1].max() < 1.05 * counts[1].min()
    assert normal.std() == pytest.approx(0.3, rel=0.05)
    assert peaked.std() > 0.35


def write_columns(kind: str, file: Path) -> None:
    hits, track, expert = draw_tracks(30, np.random.default_rng(5))
    if kind == "npz":
        np.savez(file, hits=hits, track=track, expert=expert)
        return
    names = [*(f"hits_{number}" for number in range(NUM_INPUTS)), "track_0", "track_1", "expert"]
    np.savetxt(file, np.column_stack([hits, track, expert]), delimiter=",", header=",".join(names), comments="")


@pytest.mark.parametrize("kind", ["npz", "csv"])
def test_custom_files_are_used(kind: str, tmp_path: Path) -> None:
    write_columns(kind, tmp_path / f"mine.{kind}")
    data = Tracks(files=[f"{tmp_path}/*.{kind}"], expert=1)
    source = data.source(Mode.TRAIN)
    assert source is not None
    assert data.source(Mode.EVALUATE) is None
    hits, track, expert = draw_tracks(30, np.random.default_rng(5))
    np.testing.assert_allclose(source.inputs["hits"], hits[expert == 1], atol=1e-6)
    np.testing.assert_allclose(source.targets["track"], track[expert == 1], atol=1e-6)


def test_a_seed_gives_the_same_tracks_and_another_one_others() -> None:
    hits = [Tracks(seed=seed, samples=100).source(Mode.TRAIN).inputs["hits"] for seed in (1, 1, 2)]  # type: ignore[union-attr]
    np.testing.assert_array_equal(hits[0], hits[1])
    assert (hits[0] != hits[2]).any()


def test_resolutions_are_those_of_each_expert() -> None:
    random = np.random.default_rng(0)
    samples = [
        Sample(
            {"hits": random.normal(size=NUM_INPUTS)},
            {"track": np.zeros(2), "expert": np.int32(1 + number % 2)},
            {"track": random.normal(0, 0.1 * (1 + number % 2), 2)},
        )
        for number in range(4000)
    ]
    found = ResolutionEvaluator(baseline=False).evaluate(samples)
    values = {name: value for name, value in found.items() if isinstance(value, float)}
    assert set(values) == {"z_resolution", "theta_resolution", "z_resolution_1", "z_resolution_2"}
    assert set(found) - set(values) == {"z_found_over_true", "z_errors", "z_resolution_by_z"}
    assert all(summary.validation_error() is None for summary in found.values() if isinstance(summary, Summary))
    assert values["z_resolution_1"] == pytest.approx(10, rel=0.1)
    assert values["z_resolution_2"] == pytest.approx(20, rel=0.1)
    assert half_width_68(random.normal(3, 2, 10000)) == pytest.approx(2, rel=0.05)


def answers(written: dict[str, Any], hits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the result of the firmware for its file, without its table of activations."""
    activations = {"tanh": np.tanh, "relu": lambda values: np.maximum(values, 0)}
    values = hits.astype(float)
    for layer in written["layers"]:
        weights, biases = (np.array(layer[name]) / 2.0 ** layer["fraction_bits"] for name in ("weights", "biases"))
        values = activations[layer["activation"]](values @ weights + biases)
    return values


@pytest.mark.parametrize("bits", [8, 18])
def test_weights_for_firmware_are_those_of_the_network_to_half_a_step(
    result: TrainResult, folder: Path, bits: int
) -> None:
    best = OutputDir(folder).best
    written = json.loads(json.dumps(convert_to_fixed_point(best, bits)))
    assert (written["expert"], written["bits"]) == (1, bits)
    assert [layer["activation"] for layer in written["layers"]] == ["relu", "relu", "tanh"]
    with np.load(best / "weights.npz") as saved:
        for number, layer in enumerate(written["layers"]):
            step = 2.0 ** -layer["fraction_bits"]
            for name, array in (("weights", "kernel"), ("biases", "bias")):
                integers = np.array(layer[name])
                assert np.abs(integers).max() < 2 ** (bits - 1)
                np.testing.assert_allclose(integers * step, saved[f"layer_{number}/{array}"], atol=step / 2, rtol=0)
    hits, _, _ = draw_tracks(100, np.random.default_rng(3))
    network = np.array([sample.outputs["track"] for sample in load_predictor(folder)({"hits": hits})])
    np.testing.assert_allclose(answers(written, hits), network, atol=0.2 if bits == 8 else 1e-3)


def test_a_training_begins_with_the_weights_for_firmware_of_another(
    result: TrainResult, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "weights.json").write_text(json.dumps(convert_to_fixed_point(OutputDir(folder).best, 18)))
    rules = [r"layers/(\d+)/weights->layer_\1/kernel", r"layers/(\d+)/biases->layer_\1/bias"]
    network = build_networks(Perceptron(units=[20, 10], activation="relu"), SMALL).training
    report = warm_start(network, WarmStart(model=tmp_path / "weights.json", rename=rules))
    assert len(report.loaded) == 6
    assert not report.unused
    with np.load(OutputDir(folder).best / "weights.npz") as saved:
        for path, weight in weight_paths(network).items():
            np.testing.assert_allclose(keras.ops.convert_to_numpy(weight.value), saved[path], atol=1e-3)


@given(arrays(np.float32, 5, elements=st.floats(-1000, 1000, width=32)), st.integers(2, 32))
def test_fixed_point_numbers_fit_and_are_the_nearest(weights: np.ndarray[Any, Any], bits: int) -> None:
    fraction = fraction_bits(weights, bits)
    integers = np.array(to_fixed_point(weights, fraction), float)
    assert np.abs(integers).max() < 2 ** (bits - 1)
    assert (np.abs(np.ldexp(integers, -fraction) - weights) <= np.ldexp(0.5, -fraction)).all()
    if weights.any():
        assert np.abs(np.ldexp(weights.astype(float), fraction)).max() > (2 ** (bits - 1) - 1) / 2 - 1e-9


def test_the_command_for_firmware_starts_without_tensorflow(result: TrainResult, folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from scenarios.track_trigger.firmware import main; main(); assert 'tensorflow' not in sys.modules"
    )
    words = [sys.executable, "-c", code, str(folder), str(tmp_path / "w.json"), "--bits", "10"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "w.json").read_text())["bits"] == 10
    assert done.stdout.startswith(f"{tmp_path / 'w.json'}: weights of ")
    words[3] = str(tmp_path)
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 2
    assert "not a run or export of scenarios.track_trigger" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_z_alone_by_another_loss_with_an_expression_as_activation(folder: Path) -> None:
    model = Perceptron(units=[10], activation="tanh(x/2)/2 + 0.5*tanh", out_size=1, loss_function="huber")
    trainer = Trainer(epochs=1, random_seed=3, jit_compile=False, output_dir=folder.parent / "z")
    result = train(TrackTrigger(data=dataclasses.replace(SMALL, expert=1), model=model, trainer=trainer))
    row = result.history[0]
    assert {"huber", "val_z_resolution", "val_z_error"} <= set(row)
    assert not {"val_theta_resolution", "theta_error"} & set(row)
    assert (folder.parent / "z/best/model.keras").exists()
    assert convert_to_fixed_point(folder.parent / "z/best", 10)["layers"][0]["activation"] == "tanh(x/2)/2 + 0.5*tanh"
    hits, _, _ = draw_tracks(20, np.random.default_rng(3))
    found = np.array([sample.outputs["track"] for sample in load_predictor(folder.parent / "z")({"hits": hits})])
    assert found.shape == (20, 1)
    with np.load(folder.parent / "z/best/weights.npz") as saved:
        hidden = hits @ saved["layer_0/kernel"] + saved["layer_0/bias"]
        hidden = parse_activation(model.activation)(hidden, {"tanh": np.tanh})
        by_hand = np.tanh(hidden @ saved["layer_1/kernel"] + saved["layer_1/bias"])
    np.testing.assert_allclose(found, by_hand, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("tanh", math.tanh(0.6)),
        ("tanh/2", math.tanh(0.6) / 2),
        ("tanh(x/2)", math.tanh(0.3)),
        ("2*tanh(2*x) - 1", 2 * math.tanh(1.2) - 1),
        ("-tanh(tanh)", -math.tanh(math.tanh(0.6))),
        ("x*tanh", 0.6 * math.tanh(0.6)),
    ],
)
def test_an_activation_means_what_is_written(text: str, value: float) -> None:
    assert parse_activation(text)(0.6, {"tanh": math.tanh}) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "validation_error"),
    [
        ("tanhh", "unknown function 'tanhh'; expected x or one of tanh, relu"),
        ("tanh/", "syntax error in 'tanh/'; expected numbers, x, functions of one argument, + - * / and"),
        ("tanh// /2", "syntax error in 'tanh// /2'"),
        ("", "syntax error in ''"),
        ("2", "is a constant, not a function of x"),
        ("tanh// 2", "unsupported expression 'tanh // 2'; expected numbers"),
        ("tanh**2", "unsupported expression 'tanh ** 2'"),
        ("tanh(x, 2)", "unsupported expression 'tanh(x, 2)'"),
        ("__import__('os')", "unknown function '__import__'"),
        ("x.real", "unsupported expression 'x.real'"),
        ("(" * 300 + "x" + ")" * 300, "syntax error in"),
    ],
)
def test_invalid_activation_expressions_are_rejected(text: str, validation_error: str) -> None:
    with pytest.raises(UsageError, match="^--model.activation") as found:
        validate_params(TrackTrigger(model=Perceptron(activation=text)))
    assert validation_error in str(found.value)


MISTAKES = {
    "--data.val_files": Tracks(val_files=["a.npz"]),
    "--data.samples": Tracks(samples=0),
    "--data.expert": Tracks(expert=6),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("flag", MISTAKES)
def test_mistakes_name_their_flag(flag: str) -> None:
    with pytest.raises(UsageError, match=f"^{flag}"):
        validate_params(TrackTrigger(data=MISTAKES[flag]))


def test_drawn_tracks_are_in_their_range() -> None:
    hits, track, expert = draw_tracks(1000, np.random.default_rng(1))
    assert hits.shape == (1000, 3 * len(RADII))
    assert np.abs(track).max() <= 1
    assert np.isfinite(hits).all()
    assert set(expert.tolist()) == set(EXPERTS)
