"""Prediction from Python: samples in, predicted samples out, in any form."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from small import Line, Points, small

from tfaip_like import Mode, Predictor, Processor, Sample, Spec, Tensors, UsageError, load_predictor
from tfaip_like._export.pipeline import load_pipeline
from tfaip_like._export.scenario_loading import load_scenario
from tfaip_like._export.writing import write_export
from tfaip_like.data import PredictLoaderSettings
from tfaip_like.data._writers import JsonLines, Npz, open_writer, to_jsonable
from tfaip_like.modeling import Majority, Mean
from tfaip_like.modeling._network import build_networks

X = np.random.default_rng(5).random((150, 2), dtype="float32")
IN_BATCHES = PredictLoaderSettings(batch_size=32)


class Halve(Processor):
    """Divides the inputs by two; drops what begins with a negative number, and fails at NaN."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample | None:
        x = np.asarray(sample.inputs["x"], "float32")
        if np.isnan(x[0]):
            raise ValueError("not a number")
        return None if x[0] < 0 else dataclasses.replace(sample, inputs={"x": x / 2})


class InTraining(Processor):
    """Must not run in prediction."""

    modes = (Mode.TRAIN,)

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        raise AssertionError


class Twice(Processor):
    """Doubles what was predicted, and says so."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample | None:
        if sample.outputs["sum"] == 0:
            return None
        return dataclasses.replace(sample, outputs={"sum": 2 * sample.outputs["sum"], "text": "twice"})


def exported(folder: Path, name: str = "plain", seed: int = 1, **changes: Any) -> tuple[Path, keras.Model]:
    keras.utils.set_random_seed(seed)
    scenario = small(**changes)
    networks = build_networks(scenario.model, scenario.data)
    write_export(folder / name, networks, scenario, {"epoch": 3})
    return folder / name, networks.prediction


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, keras.Model]:
    return exported(tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="module")
def processed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, keras.Model]:
    data = Points(processors=[InTraining(), Halve()], post_processors=[Twice()], on_bad_sample="skip")
    return exported(tmp_path_factory.mktemp("exports"), data=data)


def sums(network: keras.Model, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(network({"x": x}, training=False)["sum"])


class ByIndex:
    """Samples that are read when they are asked for."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> Sample:
        return Sample(inputs={"x": X[index]}, meta={"name": f"number {index}"})


FORMS = {
    "arrays": lambda: {"x": X},
    "a list of samples": lambda: [Sample(inputs={"x": x}) for x in X],
    "a list of inputs": lambda: [{"x": x.tolist()} for x in X],
    "a generator": lambda: ({"x": x} for x in X),
    "by index": ByIndex,
}


class Several(Line):
    """Returns several outputs, in an order that is not alphabetical."""

    def build(self, inputs: Tensors) -> Tensors:
        result = super().build(inputs)["sum"]
        return {name: result * factor for factor, name in enumerate(NAMES, 1)}

    def losses(self) -> dict[str, Any]:
        return {}


NAMES = ("zebra", "sum", "apple", "mean", "logits", "box", "area", "width")


def test_outputs_are_in_the_order_of_the_model_in_each_file(tmp_path: Path) -> None:
    path, _ = exported(tmp_path, model=Several())
    predictor = load_predictor(path)
    assert tuple(predictor.exports[0].outputs) == NAMES
    for file in (tmp_path / "found.jsonl", tmp_path / "found.npz"):
        with open_writer(file, None, "--output") as write:
            for sample in predictor({"x": X[:3]}, IN_BATCHES):
                write(sample)
    line = json.loads((tmp_path / "found.jsonl").read_text().splitlines()[0])
    assert tuple(line["outputs"]) == NAMES
    with np.load(tmp_path / "found.npz") as arrays:
        assert tuple(name for name in arrays.files if name in NAMES) == NAMES


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_of_samples_give_what_the_network_gives_in_their_order(
    line: tuple[Path, keras.Model], form: str
) -> None:
    path, network = line
    found = list(load_predictor(path)(FORMS[form](), IN_BATCHES))
    assert [sample.meta["index"] for sample in found] == list(range(150))
    np.testing.assert_allclose([sample.outputs["sum"] for sample in found], sums(network, X), rtol=1e-5)
    assert "name" not in found[7].meta or found[7].meta["name"] == "number 7"


@pytest.mark.slow
def test_predictions_do_not_depend_on_data_workers(processed: tuple[Path, keras.Model]) -> None:
    alone, together = (
        [
            float(s.outputs["sum"])
            for s in load_predictor(processed[0])(ByIndex(), PredictLoaderSettings(num_processes=n, batch_size=16))
        ]
        for n in (0, 1)
    )
    assert alone == together


def test_endless_samples_are_read_lazily(line: tuple[Path, keras.Model]) -> None:
    read = 0

    def endless() -> Iterator[dict[str, Any]]:
        nonlocal read
        for read in itertools.count(1):
            yield {"x": X[read % 100]}

    found = load_predictor(line[0])(endless(), IN_BATCHES)
    assert len(list(itertools.islice(found, 1000))) == 1000
    assert read < 1200
    found.close()  # type: ignore[attr-defined]


def test_a_single_sample_is_predicted_as_in_a_batch(processed: tuple[Path, keras.Model]) -> None:
    path, network = processed
    predictor = load_predictor(path)
    found = predictor.one({"x": [0.5, 0.25]})
    np.testing.assert_allclose(
        found.outputs["sum"], 2 * sums(network, np.array([[0.25, 0.125]], "float32"))[0], rtol=1e-5
    )
    assert found.outputs["text"] == "twice"
    with pytest.raises(UsageError, match="dropped the sample"):
        predictor.one({"x": [-1.0, 0]})
    with pytest.raises(ValueError, match="not a number"):
        predictor.one({"x": [math.nan, 0]})


def test_dropped_and_bad_samples_are_left_out_and_the_index_of_the_others_stays(
    processed: tuple[Path, keras.Model], caplog: pytest.LogCaptureFixture
) -> None:
    x = X[:100].copy()
    x[3, 0], x[50, 0] = -1, math.nan
    found = list(load_predictor(processed[0])([{"x": row} for row in x], IN_BATCHES))
    assert [sample.meta["index"] for sample in found] == [i for i in range(100) if i not in (3, 50)]
    assert "skipped prediction sample 50: ValueError: not a number" in caplog.text


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"y": [1, 2]}, r"sample 1: input 'x' is missing \(available: y\)"),
        ({"x": [1.0, 2.0, 3.0]}, r"sample 1: input 'x' has shape \(3,\), but its Spec says \(2,\)"),
        ({"x": ["a", "b"]}, r"sample 1: input 'x' has dtype <U1, which cannot be cast to the float32"),
    ],
)
def test_a_sample_that_does_not_fit_is_named(line: tuple[Path, keras.Model], sample: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        list(load_predictor(line[0])([{"x": [1, 2]}, sample]))


# Several networks.


def test_several_exports_vote_by_their_mean(tmp_path: Path) -> None:
    made = [exported(tmp_path, f"number {seed}", seed) for seed in range(3)]
    predictor = load_predictor(*(path for path, _ in made))
    found = [sample.outputs["sum"] for sample in predictor({"x": X})]
    np.testing.assert_allclose(found, np.mean([sums(network, X) for _, network in made], axis=0), atol=1e-7)
    assert all(seconds > 0 for seconds in predictor.seconds)
    assert predictor.exports[0].weight_mb == pytest.approx(4 * (2 * 8 + 8 + 8 + 1) / 1e6)


class Class(Line):
    """Says which of three classes."""

    classes: int = 3
    """How many."""

    def build(self, inputs: Tensors) -> Tensors:
        probabilities = keras.layers.Dense(self.classes, activation="softmax")(inputs["x"])
        return {"probabilities": probabilities, "class": keras.ops.argmax(probabilities, axis=-1)}


def test_incompatible_exports_cannot_vote(tmp_path: Path, line: tuple[Path, keras.Model]) -> None:
    three, _ = exported(tmp_path, "three", model=Class())
    four, _ = exported(tmp_path, "four", model=Class(classes=4))
    halved, _ = exported(tmp_path, "halved", data=Points(processors=[Halve()]))
    with pytest.raises(UsageError, match=r"output 'probabilities' has shape \(64, 3\) in one network and \(64, 4\)"):
        list(load_predictor(three, four)({"x": X}))
    with pytest.raises(
        UsageError, match="cannot vote: the networks have different outputs: class, probabilities and sum"
    ):
        list(load_predictor(three, line[0])({"x": X}))
    with pytest.raises(UsageError, match=r"halved: cannot combine with .*/plain: their pipelines differ"):
        load_predictor(line[0], halved)


def test_majority_counts_the_likeliest_classes() -> None:
    outputs = [
        {"probabilities": np.array([[0.6, 0.4], [0.1, 0.9]], "float32"), "class": np.array([0, 1])},
        {"probabilities": np.array([[0.2, 0.8], [0.3, 0.7]], "float32"), "class": np.array([1, 1])},
        {"probabilities": np.array([[0.9, 0.1], [0.4, 0.6]], "float32"), "class": np.array([0, 1])},
    ]
    voted = Majority().vote(outputs)
    np.testing.assert_allclose(voted["probabilities"], [[2 / 3, 1 / 3], [0, 1]], rtol=1e-6)
    assert voted["class"].tolist() == Mean().vote(outputs)["class"].tolist() == [0, 1]
    np.testing.assert_allclose(Mean().vote(outputs)["probabilities"][0], [1.7 / 3, 1.3 / 3], rtol=1e-6)


def test_a_single_probability_is_rounded_by_the_majority() -> None:
    outputs = [{"p": np.array([[0.9], [0.2]], "float32")}, {"p": np.array([[0.6], [0.7]], "float32")}]
    assert Majority().vote(outputs)["p"].tolist() == [[1.0], [0.5]]


def test_no_samples_give_no_predictions(line: tuple[Path, keras.Model]) -> None:
    predictor = load_predictor(line[0])
    assert list(predictor([])) == list(predictor({"x": np.zeros((0, 2))})) == list(predictor(iter(()))) == []


@given(arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.integers(-2, 2)))
def test_integers_are_voted_for_by_count_and_then_size(votes: np.ndarray[Any, Any]) -> None:
    expected = [min(counts, key=lambda value: (-counts[value], value)) for counts in map(Counter, votes.T.tolist())]
    assert Mean().vote([{"y": vote} for vote in votes])["y"].tolist() == expected


# Broken and malicious exports.

PIPELINES = {
    "no JSON": ("{", "pipeline.json, line 1: not valid JSON"),
    "another class": (
        '{"class": "os:system"}',
        "pipeline.json: class: expected tfaip_like.data:Pipeline, got .os:system",
    ),
    "a processor of a wrong class": ('{"processors": [{"class": "os:system"}]}', "os:system"),
    "a processor that is other parameters": (
        '{"processors": [{"class": "tfaip_like.settings._device:Device"}]}',
        "is not a Processor",
    ),
    "a module that is not there": (
        '{"processors": [{"class": "nowhere.lines:Cut"}]}',
        "no module named 'nowhere.lines'",
    ),
    "an impossible shape": ('{"specs": {"x": {"shape": "all", "dtype": "float32"}}}', "pipeline.json: specs.x.shape"),
    "an unknown key": ('{"run": "rm"}', "run"),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_a_wrong_pipeline_is_rejected(line: tuple[Path, keras.Model], tmp_path: Path, name: str) -> None:
    text, message = PIPELINES[name]
    if "class" not in json.loads(text if text != "{" else "{}"):
        text = text.replace("{", '{"class": "tfaip_like.data:Pipeline", ', 1) if text != "{" else text
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in line[0].iterdir():
        (copy / file.name).symlink_to(file)
    (copy / "pipeline.json").unlink()
    (copy / "pipeline.json").write_text(text)
    with pytest.raises(UsageError, match=message) as raised:
        load_predictor(copy)
    assert "\n" not in str(raised.value)


EVIL = """
from pathlib import Path
from tfaip_like import Processor, Scenario
Path("stolen").write_text("mine")
class Evil(Processor):
    def process(self, sample, random):
        return sample
class EvilScenario(Scenario):
    pass
"""


def copied(export: Path, folder: Path) -> Path:
    shutil.copytree(export, folder)
    return folder


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("pipeline.json", {"processors": [{"class": "best.evil:Evil"}]}, "evil.py: untrusted code, not imported"),
        ("scenario_params.json", {"class": "best.evil:EvilScenario"}, "evil.py: untrusted code, not imported"),
        ("scenario_params.json", {"class": "best/evil.py:EvilScenario"}, "expected module:Class"),
    ],
)
def test_code_in_an_export_is_never_run(
    line: tuple[Path, keras.Model],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    values: Any,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    export = copied(line[0], tmp_path / "best")
    (export / "evil.py").write_text(EVIL)
    (export / file).write_text(json.dumps({**json.loads((export / file).read_text()), **values}))
    with pytest.raises(UsageError, match=message):
        load_pipeline(export) if file == "pipeline.json" else load_scenario(export)
    assert not (tmp_path / "stolen").exists()


class Reads(Processor):
    """Needs a file."""

    resources = ("path",)

    path: Path
    """Which."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        return sample


@pytest.mark.parametrize("path", ["../secret", "SECRET"])
def test_files_outside_of_an_export_are_never_read(line: tuple[Path, keras.Model], tmp_path: Path, path: str) -> None:
    (tmp_path / "secret").write_text("mine")
    export = copied(line[0], tmp_path / "best")
    processors = [{"class": "test_predictor:Reads", "path": path.replace("SECRET", str(tmp_path / "secret"))}]
    values = json.loads((export / "pipeline.json").read_text())
    (export / "pipeline.json").write_text(json.dumps({**values, "processors": processors}))
    with pytest.raises(UsageError, match="secret: outside of the export"):
        load_pipeline(export)


def test_an_input_that_the_pipeline_does_not_make_is_reported(line: tuple[Path, keras.Model]) -> None:
    predictor = load_predictor(line[0])
    with pytest.raises(UsageError, match="the network requires input 'x'"):
        load_predictor(line[0], pipeline=dataclasses.replace(predictor.pipeline, specs={}))


# Writers.


def write(samples: Iterable[Sample], file: Path) -> None:
    with open_writer(file, None, "--output") as write_one:
        for sample in samples:
            write_one(sample)


def test_arrays_are_written_as_columns(line: tuple[Path, keras.Model], tmp_path: Path) -> None:
    found = list(load_predictor(line[0])({"x": X}))
    write(found, tmp_path / "deep" / "found.npz")
    with np.load(tmp_path / "deep" / "found.npz") as file:
        assert file["sum"].dtype == np.float32
        assert file["index"].tolist() == list(range(150))
        assert file["sum"].tolist() == [float(sample.outputs["sum"]) for sample in found]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["found.npz"]


def test_json_lines_hold_the_same_numbers_in_few_digits(tmp_path: Path) -> None:
    samples = [
        Sample(
            outputs={"p": np.array([0.1, 1], "float32"), "text": "größer"},
            targets={"y": np.int32(3)},
            meta={"index": 4},
        ),
        Sample(outputs={"p": np.array([math.nan, math.inf], "float32")}),
    ]
    write(samples, tmp_path / "found.jsonl")
    first, second = (tmp_path / "found.jsonl").read_text().splitlines()
    assert first == '{"outputs": {"p": [0.1, 1.0], "text": "größer"}, "targets": {"y": 3}, "meta": {"index": 4}}'
    assert json.loads(second) == {"outputs": {"p": ["nan", "inf"]}}


@given(arrays(np.float32, st.integers(0, 5), elements=st.floats(allow_nan=False, allow_infinity=False, width=32)))
def test_a_float32_is_read_again_as_the_same_number(values: np.ndarray[Any, Any]) -> None:
    again = np.array(json.loads(json.dumps(to_jsonable(values))), "float32")
    assert again.tolist() == values.tolist()


@pytest.mark.parametrize(
    ("second", "message"),
    [(np.zeros(3), r"shape \(2,\) in one sample but \(3,\)"), ("text", "has dtype <U4, not numbers")],
)
def test_predictions_that_do_not_fit_an_array_are_reported(tmp_path: Path, second: Any, message: str) -> None:
    samples = [
        Sample(outputs={"y": np.zeros(2)}),
        Sample(outputs={"y": second} if message[0] == "s" else {"z": second}),
    ]
    with pytest.raises(UsageError, match=message):
        write(samples, tmp_path / "found.npz")
    assert not (tmp_path / "found.npz").exists()


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([{"y": 0}, {"y": 0.5}], "output 'y' has dtype int64 in the first sample but float64 in another"),
        ([{"y": 1, "z": 2}, {"y": 1}], "output 'z' is missing in 1 of 2 samples"),
    ],
)
def test_columns_that_would_hold_other_numbers_are_reported(tmp_path: Path, samples: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        write([Sample(outputs=outputs) for outputs in samples], tmp_path / "found.npz")


def test_texts_and_numbers_that_are_none_are_json() -> None:
    values = {
        "text": b"gr\xc3\xb6\xc3\x9fer",
        "many": np.array([b"a", b"b"]),
        "loss": float("nan"),
        "n": np.float64(0.1),
    }
    assert json.loads(json.dumps(to_jsonable(values))) == {
        "text": "größer",
        "many": ["a", "b"],
        "loss": "nan",
        "n": 0.1,
    }


def test_predictions_before_an_error_are_kept_and_the_previous_file_is_preserved(tmp_path: Path) -> None:
    file = tmp_path / "found.jsonl"
    file.write_text("before\n")

    def samples() -> Iterator[Sample]:
        yield Sample(outputs={"y": 1})
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write(samples(), file)
    assert file.read_text() == "before\n"
    assert (tmp_path / "found.jsonl.part").read_text() == '{"outputs": {"y": 1}}\n'


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("found.txt", r"^--output .*/found.txt: must end with one of .jsonl, .npz$"),
        ("file/found.npz", r"^--output .*/found.npz: cannot be written: (Not a directory|File exists)$"),
    ],
)
def test_a_file_that_cannot_be_written_is_reported_immediately(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=message), open_writer(tmp_path / name, None, "--output"):
        pytest.fail("nothing must be predicted for it")


def test_a_writer_is_chosen_before_the_ending(tmp_path: Path) -> None:
    with open_writer(tmp_path / "found.txt", JsonLines(), "--output") as write_one:
        write_one(Sample(outputs={"y": 1}))
    assert (tmp_path / "found.txt").read_text() == '{"outputs": {"y": 1}}\n'
    with pytest.raises(UsageError, match="--writer Npz needs a file"), open_writer(None, Npz(), "--output"):
        pass


def test_specs_of_any_length_are_padded(tmp_path: Path) -> None:
    class Lines(Points):
        inputs = {"x": Spec((None,), padding=-1)}

    class Length(Line):
        def build(self, inputs: Tensors) -> Tensors:
            longer = keras.layers.Dense(1, name="add", kernel_initializer="ones")(inputs["x"][:, :, None])
            return {"sum": keras.ops.sum(longer[:, :, 0], axis=1)}

    path, _ = exported(tmp_path, data=Lines(), model=Length())
    predictor: Predictor = load_predictor(path)
    found = [float(sample.outputs["sum"]) for sample in predictor([{"x": [1.0, 2, 3]}, {"x": [5.0]}])]
    assert found == [6, 3]  # 5 - 1 - 1
    assert float(predictor.one({"x": [5.0]}).outputs["sum"]) == 5
