"""The scenario with two networks, which translates dates."""

from __future__ import annotations

import dataclasses
import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, run_command
from shipped import moved_export

from scenarios.sequences import ANSWER_LENGTH, LONGEST_DAYS, Dates, Sequences, Translator, date_fields, decode, encode
from tfaip_like import Mode, UsageError, load_predictor, train
from tfaip_like._training.result import TrainResult
from tfaip_like.params._tree import validate_params
from tfaip_like.settings import Trainer

SMALL = Sequences(
    data=Dates(samples=128, val_samples=16),
    model=Translator(units=8),
    # XLA takes longer to compile than this to train; the sanity check exports once more.
    trainer=Trainer(epochs=2, random_seed=3, jit_compile=False, sanity_check=False),
)
TEXTS = ["3 march 1998", "sat 03/07/98"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sequences") / "run"


@pytest.fixture(scope="module")
def result(folder: Path) -> TrainResult:
    return train(dataclasses.replace(SMALL, trainer=dataclasses.replace(SMALL.trainer, output_dir=folder)))


@pytest.mark.slow
def test_sequences_train_with_teacher_forcing_and_are_evaluated_without(result: TrainResult) -> None:
    first, last = result.history[0], result.history[-1]
    assert last["loss"] < first["loss"]
    assert 0 <= last["val_exact"] <= last["val_characters"] <= 1
    assert [tensor.name for tensor in result.network.inputs] == ["text"]


@pytest.mark.slow
def test_a_moved_export_predicts_without_the_run(result: TrainResult, folder: Path, tmp_path: Path) -> None:
    inputs = {"text": encode(TEXTS, Dates().longest)}
    expected = [sample.outputs["answer"] for sample in load_predictor(folder)(inputs)]
    with moved_export(folder, tmp_path) as moved:
        answers = [sample.outputs["answer"] for sample in load_predictor(moved)(inputs)]
    np.testing.assert_array_equal(answers, expected)


@pytest.mark.slow
def test_the_export_decodes_and_shows_its_attention(result: TrainResult, tmp_path: Path) -> None:
    import tensorflow as tf

    result.network.export(str(tmp_path / "serve"), verbose=False)
    predict = tf.saved_model.load(tmp_path / "serve").signatures["serving_default"]
    texts = encode(TEXTS, Dates().longest)
    outputs = {name: value.numpy() for name, value in predict(text=texts).items()}
    assert outputs["answer"].shape == (2, ANSWER_LENGTH)
    attention = outputs["attention"]
    assert attention.shape == (2, ANSWER_LENGTH, Dates().longest)
    np.testing.assert_allclose(attention.sum(axis=-1), 1, rtol=1e-5)
    assert (attention[np.broadcast_to((texts == 0)[:, None], attention.shape)] == 0).all()
    same = result.network({"text": texts})
    np.testing.assert_array_equal(outputs["answer"], same["answer"])
    np.testing.assert_allclose(attention, same["attention"], atol=1e-6)


@pytest.mark.parametrize("cell", ["GRU", "LSTM"])
def test_decoding_equals_teacher_forcing_with_the_decoded_answer(cell: str) -> None:
    from tfaip_like import keras
    from tfaip_like.modeling._network import build_networks

    keras.utils.set_random_seed(1)
    networks = build_networks(Translator(units=8, cell=cell), Dates())
    for variable in networks.training.trainable_variables:
        variable.assign(np.random.default_rng(len(variable.shape)).normal(size=variable.shape))
    text = encode(TEXTS, Dates().longest)
    own = keras.ops.convert_to_numpy(networks.prediction({"text": text})["answer"])
    forced = keras.ops.argmax(networks.training({"text": text, "answer": own})["logits"], axis=-1)
    np.testing.assert_array_equal(forced, own)
    assert len(np.unique(own)) > 2


def test_no_day_to_validate_on_is_trained_on() -> None:
    data = Dates(samples=5000)
    sources = {mode: data.source(mode) for mode in (Mode.TRAIN, Mode.EVALUATE)}
    days = {mode: {decode(answer) for answer in source.targets["answer"]} for mode, source in sources.items()}
    assert len(days[Mode.EVALUATE]) == data.val_samples
    assert not days[Mode.TRAIN] & days[Mode.EVALUATE]


def test_a_data_seed_gives_the_same_samples_and_another_seed_others() -> None:
    texts = [Dates(seed=seed, samples=50).source(Mode.TRAIN).inputs["text"] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(texts[0], texts[1])
    assert (texts[0] != texts[2]).any()


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("{d} {month} {yyyy}", "7 march 1998"),
        ("{day}, {mm}/{dd}/{yy}", "sat, 03/07/98"),
        ("{month} {nth}, {yyyy}", "march 7th, 1998"),
        ("{weekday} {dd} {mon} {yy}", "saturday 07 mar 98"),
    ],
)
def test_a_day_is_written_in_many_ways(pattern: str, text: str) -> None:
    assert pattern.format(**date_fields(date(1998, 3, 7))) == text


def test_days_have_their_endings() -> None:
    endings = [date_fields(date(2000, 1, day))["nth"] for day in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 31)]
    assert endings == ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd", "31st"]


def test_no_text_is_longer_than_the_longest() -> None:
    longest = [date_fields(day) for day in LONGEST_DAYS]
    for number in range(366):
        day = date_fields(date.fromordinal(date(2024, 1, 1).toordinal() + number))
        for name, text in day.items():
            assert len(text) <= max(len(known[name]) for known in longest)
    data = Dates(formats=["{m}/{d}/{yyyy}"], samples=2000)
    texts = {decode(codes) for codes in data.source(Mode.TRAIN).inputs["text"]}
    assert max(map(len, texts)) == data.longest == 10


@pytest.mark.parametrize("pattern", ["{year}", "{d", "{}", "{d.real.x}", "{d}é"])
def test_a_wrong_format_is_reported(pattern: str) -> None:
    with pytest.raises(UsageError, match=r"^--data\.formats .*: must use placeholders {NAME} of d, dd, nth"):
        validate_params(Sequences(data=Dates(formats=[pattern])))


@pytest.mark.slow
def test_sequences_train_on_jax(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("jax")
    small = ["--data.samples", 128, "--data.val_samples", 16, "--model.units", 8, "--trainer.epochs", 1]
    words = ["--device.backend", "jax", "--trainer.output_dir", tmp_path / "run", *small]
    done = run("train-scenario", "scenarios.sequences", *words)
    assert done.returncode == 0, done.stderr
    assert "val_exact" in done.stderr
    assert (tmp_path / "run" / "best" / "serve" / "saved_model.pb").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_accuracy_reaches_98_percent(tmp_path: Path) -> None:
    words = ["--trainer.output_dir", tmp_path / "run", "--trainer.lav_every_n", 1]
    done = run_command("train-scenario", "scenarios.sequences", *words, timeout=800)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["last"]["lav_exact"] > 0.98
