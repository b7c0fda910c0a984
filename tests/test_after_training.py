# ruff: noqa: E501
"""lav-scenario and predict-scenario on the exports of a training."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY, reset_signal_handlers, slow
from small import small

from tfaip_like import train
from tfaip_like._cli.command import EXIT_INTERRUPTED, EXIT_USAGE, run_command
from tfaip_like._cli.lav_scenario import lav_scenario
from tfaip_like._cli.predict_scenario import predict_scenario

Answer = tuple[str, str]
"""What a command has printed: on standard output, and on standard error."""


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "one"
    train(small(folder, trainer={"calc_ema": 0.9, "lav_every_n": 1}))
    return folder


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "two"
    train(small(folder, trainer={"random_seed": 8, "epochs": 1}))
    return folder


@pytest.fixture
def do(capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    def run(command: Callable[[list[str]], None], *words: object) -> Answer:
        command([str(word) for word in words])
        return tuple(capfd.readouterr())  # type: ignore[return-value]

    return run


# Load and validate.


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((folder / "history.csv").read_text())))


@pytest.mark.parametrize("which", [slow("best"), slow("export"), "."])
def test_lav_values_equal_those_of_the_training(
    run_folder: Path, tmp_path: Path, do: Callable[..., Answer], which: str
) -> None:
    do(lav_scenario, run_folder / which, "--json", tmp_path / "values.json")
    (result,) = json.loads((tmp_path / "values.json").read_text())
    row = next(row for row in rows(run_folder) if int(row["epoch"]) == result["epoch"])
    assert set(result["values"]) == {"loss", "square", "error", "largest_error", "count"}
    for name, value in result["values"].items():
        assert value == pytest.approx(float(row[f"lav_{name}"]), rel=1e-6)
        assert value == pytest.approx(float(row[f"val_{name}"]), rel=1e-5)


def test_lav_prints_a_column_per_export_and_the_worst_samples(
    run_folder: Path, other_folder: Path, tmp_path: Path, do: Callable[..., Answer]
) -> None:
    printed, _ = do(lav_scenario, run_folder, other_folder, "--worst", 2, "--json", tmp_path / "values.json")
    one, two = json.loads((tmp_path / "values.json").read_text())
    lines = printed.splitlines()
    assert lines[0].split() == [f"{run_folder}/best", f"{other_folder}/best"]
    assert lines[1].split() == ["epoch", str(one["epoch"]), "1"]
    assert lines[2].split() == ["loss", f"{one['values']['loss']:.6g}", f"{two['values']['loss']:.6g}"]
    assert f"largest losses of {run_folder}/best:" in lines
    assert [worst["sample"].split(" of ")[0][:18] for worst in one["worst"]] == ["validation sample "] * 2
    assert one["worst"][0]["loss"] == pytest.approx(one["values"]["largest_error"] ** 2, rel=1e-5)
    assert one["worst"][0]["loss"] > one["worst"][1]["loss"]


def test_lav_accepts_other_data_and_dumps_targets_and_predictions(
    run_folder: Path, tmp_path: Path, do: Callable[..., Answer]
) -> None:
    printed, _ = do(lav_scenario, run_folder, "--data.samples", 30, "--dump", tmp_path / "all.npz", "--worst", 0)
    assert printed.splitlines()[-1].split() == ["count", "30"]
    with np.load(tmp_path / "all.npz") as file:
        errors = np.abs(file["targets/y"] - file["sum"])
    assert len(errors) == 30
    assert f"{errors.max():.6g}" in printed


# Predict.


def test_samples_of_the_scenario_are_predicted_by_default(
    run_folder: Path, do: Callable[..., Answer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "tfaip_like")
    printed, _ = do(predict_scenario, run_folder, "--predict.limit", 3)
    lines = [json.loads(line) for line in printed.splitlines()]
    assert [line["meta"]["index"] for line in lines] == [0, 1, 2]
    assert "3 samples predicted in " in caplog.text


def in_jsonl(folder: Path, x: np.ndarray[Any, Any]) -> Path:
    (folder / "x.jsonl").write_text("".join(json.dumps({"x": row.tolist(), "id": 7}) + "\n" for row in x))
    return folder / "x.jsonl"


def in_npz(folder: Path, x: np.ndarray[Any, Any]) -> Path:
    np.savez(folder / "x.npz", x=x)
    return folder / "x.npz"


def in_csv(folder: Path, x: np.ndarray[Any, Any]) -> Path:
    np.savetxt(folder / "x.csv", x, delimiter=",", header="x_0,x_1", comments="")
    return folder / "x.csv"


def write_npz_with_other_names(folder: Path, x: np.ndarray[Any, Any]) -> Path:
    np.savetxt(folder / "x.tsv", x, delimiter="\t", header="width\theight", comments="")
    return folder / "x.tsv"


@pytest.mark.parametrize("write", [in_jsonl, in_npz, in_csv, write_npz_with_other_names])
def test_samples_come_from_files_of_all_kinds(
    run_folder: Path, other_folder: Path, tmp_path: Path, do: Callable[..., Answer], write: Callable[..., Path]
) -> None:
    x = np.random.default_rng(3).random((70, 2)).astype("float32")
    file = write(tmp_path, x)
    do(predict_scenario, run_folder, other_folder, "--predict.files", file, "--output", tmp_path / "y.npz")
    alone = []
    for folder in (run_folder, other_folder):
        do(predict_scenario, folder, "--predict.files", file, "--output", tmp_path / "one.npz")
        with np.load(tmp_path / "one.npz") as found:
            alone.append(found["sum"])
    with np.load(tmp_path / "y.npz") as found:
        np.testing.assert_allclose(found["sum"], np.mean(alone, axis=0), rtol=1e-5)
    assert len(alone[0]) == 70


CODE = """
import sys
from tfaip_like._cli.predict_scenario import main
sys.argv[0] = "predict-scenario"
main()
"""


def run_predict_scenario(*words: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Return the command in a process that cannot import the scenario."""
    return subprocess.run(
        [sys.executable, "-c", CODE, *map(str, words)],
        cwd="/",
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "", "TF_CPP_MIN_LOG_LEVEL": "3", "XDG_CONFIG_HOME": "/nowhere"},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.slow
def test_a_plain_pipeline_predicts_without_the_code_of_the_scenario(
    run_folder: Path, tmp_path: Path, do: Callable[..., Answer]
) -> None:
    copy = tmp_path / "copied"
    shutil.copytree(run_folder / "best", copy)
    done = run_predict_scenario(copy, "--predict.files", "-", stdin='{"x": [0.5, 0.25]}\n\n{"x": [1, 2]}\n')
    assert done.returncode == 0, done.stderr
    (tmp_path / "x.jsonl").write_text('{"x": [0.5, 0.25]}\n{"x": [1, 2]}\n')
    expected, _ = do(predict_scenario, run_folder, "--predict.files", tmp_path / "x.jsonl")
    assert done.stdout == expected
    assert "keras" not in done.stderr.lower()


def test_prediction_without_required_code_is_rejected(run_folder: Path, tmp_path: Path) -> None:
    done = run_predict_scenario(run_folder, "--predict.limit", 3)
    assert done.returncode == EXIT_USAGE
    assert done.stderr.splitlines() == [
        "predict-scenario: no module named 'small' in / or on the Python path",
        f"It was trained with {REPOSITORY / 'tests' / 'small.py'}, which is not recorded as trusted: run the command in its directory, "
        "or add --trust_code.",
        f"{run_folder}/best requires the code of scenario small:Small: run where it can be imported, or add its "
        "directory to PYTHONPATH.",
        "Without this code, pass the samples as files: --predict.files FILE.",
    ]
    copy = tmp_path / "copied"
    shutil.copytree(run_folder / "best", copy)
    values = json.loads((copy / "pipeline.json").read_text())
    (copy / "pipeline.json").write_text(json.dumps({**values, "processors": [{"class": "small:Noise", "scale": 0.5}]}))
    done = run_predict_scenario(copy, "--predict.files", "-", stdin='{"x": [0.5, 0.25]}\n')
    assert done.returncode == EXIT_USAGE
    assert done.stderr.splitlines() == [
        f"predict-scenario: {copy}/pipeline.json: processors.0.class: small:Noise: no module named 'small'",
        "The processors are defined in the scenario's code: run where it can be imported, or add its directory to PYTHONPATH.",
    ]


# Mistakes.

MISTAKES: dict[str, tuple[Any, str, str]] = {
    "no export": (predict_scenario, "", "missing argument EXPORT_DIR. usage: predict-scenario EXPORT_DIR... [--FLAG VALUE ...]"),
    "no export to validate": (lav_scenario, "", "missing argument EXPORT_DIR. usage: lav-scenario EXPORT_DIR... [--FLAG VALUE ...]"),
    "no such folder": (lav_scenario, "nowhere", "nowhere: no such directory"),
    "no such folder to predict with": (predict_scenario, "nowhere --predict.files x.jsonl", "nowhere: no such directory"),
    "no such folder to predict its own samples with": (predict_scenario, "nowhere", "nowhere: no such directory"),
    "no such file": (predict_scenario, "RUN --predict.files missing.npz", "--predict.files missing.npz: no such file (in FOLDER)"),
    "a file of another kind": (predict_scenario, "RUN --predict.files x.txt", "x.txt: not a supported table file (.npz, .npy, .csv, .tsv, .parquet)"),
    "files of two kinds": (predict_scenario, "RUN --predict.files x.jsonl x.npz", "--predict.files: files of different kinds (.jsonl, .npz); pass one kind at a time"),
    "no JSON in a line": (predict_scenario, "RUN --predict.files broken.jsonl", "broken.jsonl, line 2: not valid JSON: Expecting value"),
    "no object in a line": (predict_scenario, "RUN --predict.files list.jsonl", 'list.jsonl, line 1: expected an object with the inputs, such as {"x": [1, 2]}'),
    "no input in a line": (predict_scenario, "RUN --predict.files other.jsonl", "prediction sample 0: input 'x' is missing (available: z)"),
    "other columns": (predict_scenario, "RUN --predict.files other.csv", "other.csv: no column for input 'x' (expected x, or x_0 to x_1); available: a, b, c"),
    "lists and files": (predict_scenario, "RUN --predict.files a --predict.lists b", "--predict.files a: cannot be combined with lists"),
    "lists for a scenario without": (predict_scenario, "RUN --predict.lists x.jsonl", "--predict.lists: Small has no list files; use --predict.files"),
    "an unknown ending": (predict_scenario, "RUN --predict.files x.jsonl --output y.txt", "--output y.txt: must end with one of .jsonl, .npz"),
    "a writer without a file": (predict_scenario, "RUN --predict.files x.jsonl --writer Npz", "--writer Npz needs a file: --output FILE"),
    "an unknown flag": (predict_scenario, "RUN --predict.batchsize 3", "--predict.batchsize: unknown flag; did you mean --predict.batch_size?"),
    "an unknown voter": (predict_scenario, "RUN --voter Median", "--voter: unknown Voter 'Median'; did you mean Mean? (choices: Mean, Majority)"),
    "a negative number of worst samples": (lav_scenario, "RUN --worst -1", "--worst -1: must not be negative"),
    "predictions of several exports": (lav_scenario, "RUN RUN --dump x.npz", "--dump x.npz: requires a single export, got 2"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_usage_error_is_reported_in_one_line(
    name: str, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command, flags, says = MISTAKES[name]
    monkeypatch.chdir(tmp_path)
    in_npz(tmp_path, np.zeros((2, 2), "float32"))
    files = {
        "x.txt": "1 2\n",
        "x.jsonl": '{"x": [1, 2]}\n',
        "broken.jsonl": '{"x": [1, 2]}\n{"x": }\n',
        "list.jsonl": "[1, 2]\n",
        "other.jsonl": '{"z": 1}\n',
        "other.csv": "a,b,c\n1,2,3\n",
    }
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    program = command.__name__.replace("_", "-")
    words = [str(run_folder) if word == "RUN" else word for word in flags.split()]
    assert run_command(program, command, words) == EXIT_USAGE
    printed = capfd.readouterr().err.strip().splitlines()[-1]
    assert printed.replace(str(tmp_path), "FOLDER") == f"{program}: {says}"


@pytest.mark.slow
def test_streamed_samples_are_predicted_immediately_and_ctrl_c_keeps_the_predictions(
    run_folder: Path, tmp_path: Path
) -> None:
    words = [run_folder, "--predict.files", "-", "--predict.batch_size", "1", "--output", tmp_path / "y.jsonl"]
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, *map(str, words)],
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}"},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=reset_signal_handlers,
    )
    assert process.stdin is not None
    part = tmp_path / "y.jsonl.part"
    for number in range(3):  # each is answered before the next is asked
        process.stdin.write('{"x": [1, 2]}\n')
        process.stdin.flush()
        while not (part.exists() and len(part.read_text().splitlines()) > number):
            time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate('{"x": [1, 2]}\n' * 500)
    assert process.returncode == EXIT_INTERRUPTED
    assert printed.splitlines()[-2:] == [
        "predict-scenario: stopped by SIGINT",
        f"Samples written before the error are in {part}.",
    ]
