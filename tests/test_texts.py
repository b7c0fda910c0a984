"""Texts as inputs and targets, inside the network or converted by a tokenizer."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run

from tfaip_like import (
    ArraySource,
    Data,
    Evaluator,
    Mode,
    Model,
    Sample,
    Scenario,
    Spec,
    Tensors,
    UsageError,
    keras,
    load_predictor,
    train,
)
from tfaip_like.data import HuggingFaceTokenizer, SentencePieceTokenizer, TableFormat, TrainLoaderSettings
from tfaip_like.data._loader.batching import collate
from tfaip_like.settings import Resume, Trainer

WORDS = ["bad", "boring", "fine", "good", "great", "poor"]
GOOD = {"fine", "good", "great"}


def make_texts(count: int, seed: int) -> tuple[list[str], list[int]]:
    """Return texts of three words, and whether most of them are good."""
    random = np.random.default_rng(seed)
    texts = [" ".join(random.choice(WORDS, 3)) for _ in range(count)]
    return texts, [int(sum(word in GOOD for word in text.split()) >= 2) for text in texts]


class Reviews(Data):
    """Texts, whether they are good, and the text again as a target for the evaluator."""

    as_arrays: bool = False
    """Whether the samples are rows of arrays."""

    inputs = {"text": Spec((), "str")}
    targets = {"good": Spec((), "int32"), "original": Spec((), str)}
    table_format = TableFormat(texts=["text"])

    def source(self, mode: Mode) -> Any:
        texts, labels = make_texts(200, mode is Mode.TRAIN)
        if self.as_arrays:
            return ArraySource({"text": np.array(texts)}, {"good": np.array(labels), "original": np.array(texts)})
        return [
            Sample({"text": text}, {"good": label, "original": text.encode()})
            for text, label in zip(texts, labels, strict=True)
        ]


class Classifier(Model):
    """Bag of words."""

    best = "val_accuracy", "max"

    def build(self, inputs: Tensors) -> Tensors:
        tokens = keras.layers.TextVectorization(vocabulary=WORDS, output_sequence_length=4)(inputs["text"])
        vectors = keras.layers.Embedding(len(WORDS) + 2, 8, name="words")(tokens)
        return {"probability": keras.layers.Dense(1, activation="sigmoid")(keras.ops.mean(vectors, axis=1))[:, 0]}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        assert "original" not in targets
        return {"entropy": keras.losses.binary_crossentropy(targets["good"][:, None], outputs["probability"][:, None])}

    def metrics(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        is_right = (outputs["probability"] > 0.5) == (targets["good"] > 0)
        return {"accuracy": keras.ops.cast(is_right, "float32")}


class SeesTexts(Evaluator):
    """Evaluator that compares both texts."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
        same = [str(sample.inputs.get("text", "")) in ("", str(sample.targets["original"])) for sample in samples]
        return {"same": float(np.mean(same))}


class Texts(Scenario):
    """Classification of texts."""

    data: Data = Reviews()
    model: Model = Classifier()
    evaluator: Evaluator | None = SeesTexts()
    trainer: Trainer = Trainer(epochs=12, random_seed=3)
    train: TrainLoaderSettings = TrainLoaderSettings(batch_size=20)


def with_trainer(scenario: Scenario, **changes: Any) -> Scenario:
    return dataclasses.replace(scenario, trainer=dataclasses.replace(scenario.trainer, **changes))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "run"
    train(with_trainer(Texts(), output_dir=path))
    return path


def test_a_network_with_a_text_vectorization_learns_and_its_export_accepts_texts(run: Path, quick_run: Run) -> None:
    history = json.loads((run / "summary.json").read_text())["last"]
    assert history["val_accuracy"] > 0.9
    assert history["val_same"] == 1
    predictor = load_predictor(run)
    assert predictor.one({"text": "good great fine"}).outputs["probability"] > 0.5
    assert predictor.one({"text": b"bad poor boring"}).outputs["probability"] < 0.5
    validated = quick_run("lav-scenario", run, "--json", run / "lav.json")
    assert validated.returncode == 0, validated.stderr
    (values,) = json.loads((run / "lav.json").read_text())
    assert values["values"]["accuracy"] == pytest.approx(
        json.loads((run / "summary.json").read_text())["best"]["value"]
    )


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_texts_in_files_are_predicted(run: Path, suffix: str, quick_run: Run, tmp_path: Path) -> None:
    texts = ["good great, fine", 'poor "bad" boring', "\u00fc good great"]
    file = tmp_path / f"in.{suffix}"
    if suffix == "jsonl":
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    else:
        rows = ['"' + text.replace('"', '""') + '"' for text in texts]
        file.write_text("\n".join(["text", *rows]) + "\n")
    done = quick_run("predict-scenario", run, "--predict.files", file, "--output", tmp_path / "out.jsonl")
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line)["outputs"]["probability"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    expected = [load_predictor(run).one({"text": text}).outputs["probability"] for text in texts]
    assert answers == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_rows_of_arrays_and_workers_give_the_same_training(tmp_path: Path) -> None:
    losses = []
    for name, data, workers in (("list", Reviews(), 0), ("arrays", Reviews(as_arrays=True), 0), ("two", Reviews(), 2)):
        scenario = dataclasses.replace(
            Texts(), data=data, train=TrainLoaderSettings(batch_size=20, num_processes=workers)
        )
        losses.append(
            [row["loss"] for row in train(with_trainer(scenario, epochs=2, output_dir=tmp_path / name)).history]
        )
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.slow
def test_a_run_with_texts_resumes_with_the_same_bits(tmp_path: Path) -> None:
    train(with_trainer(Texts(), epochs=2, output_dir=tmp_path / "whole"))
    train(with_trainer(Texts(), epochs=1, output_dir=tmp_path / "parts"))
    train(with_trainer(Texts(), epochs=2, output_dir=tmp_path / "parts"), Resume())
    whole, parts = (np.load(tmp_path / name / "export" / "weights.npz") for name in ("whole", "parts"))
    assert all(np.array_equal(whole[name], parts[name]) for name in whole.files)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (3, "has dtype int64, but its Spec says str"),
        (None, r"has a missing value \(None, NaN\)"),
        (["a", "b"], r"has shape \(2,\), but its Spec says \(\)"),
        (np.array([1.5], object)[0], "has dtype float64"),
    ],
)
def test_what_is_not_a_text_is_an_error(value: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        collate([Sample({"text": value})], {"text": Spec((), "str")}, {})


def test_lists_of_texts_are_padded_with_empty_ones() -> None:
    batch = collate(
        [Sample({"words": ["a", b"b"]}), Sample({"words": np.array(["c"])})], {"words": Spec((None,), "string")}, {}
    )
    assert batch.inputs["words"].tolist() == [["a", "b"], ["c", ""]]
    with pytest.raises(TypeError, match="texts are padded with ''"):
        Spec((None,), "str", padding=1)


# Tokenizers.


class TokenizedData(Reviews):
    """Texts that a processor converts."""

    inputs = {"tokens": Spec((None,), "int32")}


class OfTokens(Classifier):
    """Bag of tokens."""

    def build(self, inputs: Tensors) -> Tensors:
        vectors = keras.layers.Embedding(64, 8)(inputs["tokens"])
        return {"probability": keras.layers.Dense(1, activation="sigmoid")(keras.ops.mean(vectors, axis=1))[:, 0]}


def hugging_face(folder: Path) -> HuggingFaceTokenizer:
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {word: number for number, word in enumerate(["?", *WORDS])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return HuggingFaceTokenizer(file=folder / "tokenizer.json", max_length=3)


def sentence_piece(folder: Path) -> SentencePieceTokenizer:
    sentencepiece = pytest.importorskip("sentencepiece")
    (folder / "texts.txt").write_text("\n".join(make_texts(500, 5)[0]))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "texts.txt"), model_prefix=str(folder / "pieces"), vocab_size=20, minloglevel=2
    )
    return SentencePieceTokenizer(file=folder / "pieces.model")


@pytest.mark.parametrize("make", [hugging_face, sentence_piece])
def test_a_tokenizer_is_part_of_the_export(make: Any, quick_run: Run, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    data = TokenizedData(processors=[make(tmp_path / "files")])
    scenario = dataclasses.replace(Texts(), data=data, model=OfTokens(), evaluator=None)
    train(with_trainer(scenario, epochs=3, output_dir=tmp_path / "run"))
    texts = ["good great fine", "bad poor boring"]
    before = [load_predictor(tmp_path / "run").one({"text": text}).outputs["probability"] for text in texts]
    assert before[0] > before[1]
    shutil.move(tmp_path / "run" / "best", tmp_path / "moved")
    shutil.rmtree(tmp_path / "files")
    shutil.rmtree(tmp_path / "run")
    predictor = load_predictor(tmp_path / "moved")
    assert [predictor.one({"text": text}).outputs["probability"] for text in texts] == before
    (tmp_path / "in.jsonl").write_text('{"text": "good great fine"}\n')
    done = quick_run("predict-scenario", tmp_path / "moved", "--predict.files", tmp_path / "in.jsonl")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outputs"]["probability"] == pytest.approx(before[0], abs=1e-6)


def test_a_wrong_vocabulary_and_a_missing_text_are_errors(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "wrong.json").write_text("{}")
    tokenizer = HuggingFaceTokenizer(file=tmp_path / "wrong.json")
    with pytest.raises(UsageError, match=r"wrong\.json: no file of tokenizers"):
        tokenizer.process(Sample({"text": "a"}), np.random.default_rng())
    with pytest.raises(UsageError, match="input 'text' is missing"):
        tokenizer.process(Sample({"x": 1}), np.random.default_rng())
