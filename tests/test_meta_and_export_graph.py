"""Losses and metrics see meta; exports may hold another network; load-and-validate runs line by line."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, slow
from small import Line, Points, small

from tfaip_like import Data, Mode, Processor, Sample, Spec, Tensors, UsageError, keras, ops, train
from tfaip_like._export.exported_model import load_export
from tfaip_like.modeling._network import build_networks
from tfaip_like.summaries import Summary, Text

TESTS = Path(__file__).parent

# Meta.


class Weighted(Points):
    """How much a sample counts stands in its meta."""

    targets = {"y": Spec(()), "weight": Spec(())}

    def source(self, mode: Mode) -> Sequence[Sample] | None:
        plain = super().source(mode)
        assert plain is not None
        return [dataclasses.replace(one, meta={"weight": index % 3, "file": "f"}) for index, one in enumerate(plain)]


class WeightedLine(Line):
    """Uses it in the loss, and measures it."""

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"square": targets["weight"] * (targets["y"] - outputs["sum"]) ** 2}

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"mean_weight": targets["weight"]}


class Doubled(Processor):
    """Changes meta."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        return dataclasses.replace(sample, meta={**sample.meta, "weight": 2 * sample.meta["weight"]})


@pytest.mark.parametrize("num_processes", [0, slow(2)])
def test_losses_and_metrics_see_declared_meta_as_processors_leave_it(num_processes: int) -> None:
    data = Weighted(samples=30, processors=[Doubled()])
    trainer = {"epochs": 1, "lav_every_n": 1, "sanity_check": False}
    groups = {name: {"num_processes": num_processes} for name in ("train", "val")}
    (row,) = train(small(data=data, model=WeightedLine(), evaluator=None, trainer=trainer, **groups)).history
    assert row["val_mean_weight"] == row["lav_mean_weight"] == pytest.approx(2.0)
    assert row["val_square"] == pytest.approx(row["lav_square"], rel=1e-5)


class Longer(Data):
    """Sequences whose steps count differently; their length buckets need the weights of the steps, too."""

    inputs = {"x": Spec((None, 1))}
    targets = {"weights": Spec((None,))}

    def source(self, mode: Mode) -> Sequence[Sample]:
        return [Sample({"x": np.ones((n, 1))}, meta={"weights": np.full(n + 1, 0.5)}) for n in range(1, 33)]


class Steps(Line):
    """Counts steps."""

    def build(self, inputs: Tensors) -> Tensors:
        return {"sum": keras.layers.Dense(1)(ops.sum(inputs["x"], axis=1))[:, 0]}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"square": (outputs["sum"] - ops.sum(targets["weights"], axis=1)) ** 2}

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"steps": ops.sum(targets["weights"], axis=1) * 2}


@pytest.mark.slow
def test_declared_meta_of_any_length_is_padded_and_counts_for_length_buckets() -> None:
    scenario = small(data=Longer(), model=Steps(), evaluator=None, trainer={"epochs": 1}, train={"buckets": 2})
    (row,) = train(scenario).history
    assert row["val_steps"] == pytest.approx(np.mean(range(2, 34)))


def test_a_class_in_the_meta_can_be_balanced() -> None:
    sample = Sample({"x": [0, 0]}, {"y": 1.0}, meta={"kind": 4})

    class Kinds(Points):
        targets = {"y": Spec(()), "kind": Spec((), "int32")}

    assert Kinds().class_label(sample) == 4


def test_declared_meta_that_a_sample_lacks_is_named() -> None:
    class Other(Weighted):
        targets = {"y": Spec(()), "height": Spec(())}

    with pytest.raises(UsageError, match="training sample 0 of Other: target 'height' is missing .*weight"):
        train(small(data=Other(), model=Line(), trainer={"epochs": 1}))


# Another network for exports.


class Answering(Line):
    """A service answers in whole numbers."""

    bad: bool = False
    """Whether the export has its own weights."""

    def build_export(self, inputs: Tensors, prediction: keras.Model) -> Tensors:
        answer = prediction(inputs)["sum"]
        if self.bad:
            answer = keras.layers.Dense(1, name="own")(answer[:, None])[:, 0]
        return {"rounded": ops.round(answer), "sum": answer}


def test_exports_hold_the_network_for_exports_and_validation_does_not(tmp_path: Path) -> None:
    scenario = small(tmp_path / "run", model=Answering(), trainer={"epochs": 2, "lav_every_n": 1})
    result = train(scenario)
    x = np.random.default_rng(5).random((4, 2), dtype="float32")
    for export in ("best", "export"):
        answers = load_export(tmp_path / "run" / export)({"x": x})
        assert set(answers) == {"rounded", "sum"}
        np.testing.assert_array_equal(answers["rounded"], np.round(answers["sum"]))
        keras_model = keras.models.load_model(tmp_path / "run" / export / "model.keras")
        assert set(keras_model({"x": x})) == {"rounded", "sum"}
    assert set(result.network({"x": x})) == {"sum"}
    assert result.history[-1]["lav_largest_error"] == pytest.approx(result.history[-1]["val_largest_error"], rel=1e-5)
    assert "exported network:" in (tmp_path / "run/model.txt").read_text()


def test_the_network_for_exports_shares_all_its_weights() -> None:
    with pytest.raises(UsageError, match=r"Answering.build_export uses weights that are never trained \(own/kernel"):
        build_networks(Answering(bad=True), Points())


class Narrow(Line):
    """Exports nothing that its loss and metrics could use."""

    output: str = "sum"
    """What is rounded."""

    def build_export(self, inputs: Tensors, prediction: keras.Model) -> Tensors:
        return {"rounded": ops.round(prediction(inputs)[self.output])}

    def show(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> dict[str, Summary]:
        return {"first": Text(str(outputs["sum"][0]))}


def test_lav_reports_outputs_that_an_export_lacks(caplog: pytest.LogCaptureFixture) -> None:
    trainer = {"epochs": 1, "lav_every_n": 1}
    skipped = "Narrow.loss and Narrow.metrics: the export has no output 'sum' (available: rounded)"
    with pytest.raises(UsageError) as found:
        train(small(model=Narrow(), evaluator=None, trainer=trainer))
    assert (
        str(found.value).splitlines()[0].endswith(f"nothing to compute: skipped {skipped}, and there is no evaluator.")
    )
    assert "\nReturn the missing output from Narrow.build_export, add an evaluator" in str(found.value)
    with caplog.at_level("INFO"), pytest.raises(KeyError) as lacking:
        train(small(model=Narrow(), trainer=trainer))
    assert f"load-and-validate skips {skipped}. Return the missing output from Narrow.build_export." in caplog.text
    notes = [
        "Available in each sample: inputs: x; targets: y; outputs: rounded.",
        "Load-and-validate uses the outputs that Narrow.build_export returns.",
    ]
    assert lacking.value.__notes__[:2] == notes


def test_a_misspelt_output_name_lists_the_available_ones() -> None:
    with pytest.raises(KeyError) as found:
        build_networks(Narrow(output="summ"), Points())
    assert found.value.__notes__ == ["Available inputs: x.\nAvailable outputs of the given network: sum."]


def test_without_one_the_prediction_network_is_exported() -> None:
    networks = build_networks(Line(), Points())
    assert networks.exported is networks.prediction


# Line by line.


class Softmax(Line):
    """A cross entropy, which Keras computes from logits."""

    def build(self, inputs: Tensors) -> Tensors:
        hidden = keras.layers.Dense(4, name="hidden")(inputs["x"])
        return {"p": keras.layers.Dense(3, activation="softmax", name="out")(hidden)}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        labels = ops.cast(targets["y"], "int32")
        return {"entropy": keras.losses.sparse_categorical_crossentropy(labels, outputs["p"])}

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        print("Python runs")
        return {}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("eager") / "run"
    train(small(run, model=Softmax(), evaluator=None, trainer={"epochs": 1, "sanity_check": False}))
    return run


def test_run_eagerly_does_not_change_values(trained: Path, tmp_path: Path, quick_run: Run) -> None:
    found, times = [], []
    for eager in ("false", "true"):
        file = tmp_path / f"{eager}.json"
        done = quick_run(
            "lav-scenario", trained, "--run_eagerly", eager, "--lav.batch_size", 10, "--json", file, cwd=TESTS
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads(file.read_text())[0])
        times.append(done.stdout.count("Python runs"))
    assert found[0]["values"] == pytest.approx(found[1]["values"], rel=1e-5)
    assert [one["sample"] for one in found[0]["worst"]] == [one["sample"] for one in found[1]["worst"]]
    assert times[0] < times[1] == 10  # once for each batch


def test_run_eagerly_rejects_code_that_builds_another_network(trained: Path, tmp_path: Path, quick_run: Run) -> None:
    shutil.copytree(trained / "best", tmp_path / "best")
    weights = tmp_path / "best/weights.npz"
    with np.load(weights) as saved:
        arrays = {name: saved[name] for name in saved.files if name != "out/bias"}
    np.savez(weights, **arrays)
    done = quick_run("lav-scenario", tmp_path / "best", "--run_eagerly", "true", cwd=TESTS)
    assert done.returncode == 2
    assert (
        "weights.npz: out/bias is missing, but has shape (3,) in the network built by the scenario's code"
        in done.stderr
    )
