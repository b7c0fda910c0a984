"""MLflow, Weights & Biases and Trackio: what each has after a run, a resume and a change of parameters.

They are skipped where the packages are not installed: pip install -e '.[mlflow,wandb,trackio]'.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import offline_wandb
import pytest
from conftest import REPOSITORY

from tfaip_like import UsageError
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.loggers.logged_runs import LoggedRuns
from tfaip_like._training.loggers.logged_values import LoggedEpoch
from tfaip_like._training.loggers.logger_thread import LoggerThread
from tfaip_like._utils.pixels import encode_png, to_rgb
from tfaip_like.loggers import LoggedRun, Logger, MLflow, ParamValue, Trackio, WandB
from tfaip_like.loggers._mlflow import _reason, to_key
from tfaip_like.params._tree import validate_params
from tfaip_like.summaries import ConfusionMatrix, Figure, Histogram, Image, PRCurve, Summary, Text

SERVICES = {"mlflow": MLflow(), "wandb": WandB(mode="offline"), "trackio": Trackio()}


def installed(*names: str) -> list[Any]:
    """Return cases of a test, each of which needs a package."""
    return [pytest.param(name, marks=pytest.mark.skipif(find_spec(name) is None, reason=name)) for name in names]


class Plot:
    """Saves itself as a figure of matplotlib does."""

    def savefig(self, file: Any, format: str) -> None:
        file.write(encode_png(to_rgb(np.eye(5))))


SUMMARIES: dict[str, Summary] = {
    "val_image": Image(np.eye(4)),
    "val_figure": Figure(Plot()),
    "val_confusion": ConfusionMatrix([0, 1, 1], [0, 1, 0]),
    "val_note": Text.table(["a", "b"], [[1, 2]]),
    "val_lengths": Histogram([1, 2, 2, 3]),
    "val_curve": PRCurve([1, 0, 1], [0.9, 0.2, 0.4]),
}
PARAMETERS: dict[str, ParamValue] = {
    "rate": 0.1,
    "flag": True,
    "path": "/some/where",
    "infinite": math.inf,
    "nan": math.nan,
    "long": "x" * 9000,
    "data.names.ä%/../b": "odd",
    **{f"layer.{number}": number for number in range(150)},
}


def log(
    logger: Logger, folder: Path, epochs: Sequence[int], done: int = 0, rate: float = 0.1, name: str = "run 1"
) -> None:
    """Log epochs of a run, as a process that has restored some before; 10 steps are an epoch."""
    run = LoggedRun(name, "Small", folder, batch="batch_1", description="a test", provenance={"host": "here"})
    history = [LoggedEpoch(epoch, 10 * epoch, {"epoch": epoch}) for epoch in range(1, done + 1)]
    parameters = {**PARAMETERS, "rate": rate}
    thread = LoggerThread(logger, run, parameters, history, False, LoggedRuns(OutputDir(folder)))
    thread.start()
    for epoch in epochs:
        values = {"epoch": epoch, "loss": 1 / epoch, "val_loss": math.nan, "ä%/../b": math.inf, "k" * 300: 1.0}
        thread.put(LoggedEpoch(epoch, 10 * epoch, values, SUMMARIES, {"loss": 1 / epoch}))
    (folder / "best").mkdir(exist_ok=True)
    (folder / "best" / "metrics.json").write_text("{}")
    thread.finish("done", folder / "best")
    assert thread.wait(200)
    thread.close()


def read_mlflow(folder: Path) -> dict[str, tuple[str | None, list[int]]]:
    """Return the parent and the steps of each run, by its ID."""
    with sqlite3.connect(folder / "mlflow.db") as database:
        runs = dict(database.execute("select run_uuid, null from runs order by start_time").fetchall())
        runs |= dict(database.execute("select run_uuid, value from tags where key = 'mlflow.parentRunId'").fetchall())
        query = "select step from metrics where run_uuid = ? and key = 'loss' order by step"
        return {run: (parent, [step for (step,) in database.execute(query, [run])]) for run, parent in runs.items()}


def read_wandb(folder: Path) -> dict[str, tuple[str | None, list[int]]]:
    """Return the same of W&B."""
    runs: dict[str, tuple[str | None, list[int]]] = {}
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=os.path.getmtime):
        start = offline_wandb.start(file)
        parent = {item.key: json.loads(item.value_json) for item in start.config.update}.get("parent_run")
        steps = [row["_step"] for row in offline_wandb.history(file)]
        runs[start.run_id] = (parent, [*runs.get(start.run_id, (None, []))[1], *steps])
    return runs


def read_trackio(folder: Path) -> dict[str, tuple[str | None, list[int]]]:
    """Return the same of Trackio."""
    with sqlite3.connect(folder / "trackio" / "Small.db") as database:
        runs: dict[str, tuple[str | None, list[int]]] = {}
        for name, config in database.execute("select run_name, config from configs order by id").fetchall():
            query = (
                "select step from metrics where run_name = ? and cast(metrics as text) like '%\"loss\"%' order by step"
            )
            steps = [step for (step,) in database.execute(query, [name])]
            runs[name] = (json.loads(config).get("parent_run"), steps)
        return runs


READERS = {"mlflow": read_mlflow, "wandb": read_wandb, "trackio": read_trackio}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a folder in which all services store, in subprocesses too."""
    for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def log_in_a_process(service: str, folder: Path, *words: object) -> None:
    """Log epochs in another process, as a resumed training does."""
    code = (
        "import sys; from pathlib import Path; from test_tracking_services import *; "
        "service, folder, first, last, done, rate = sys.argv[1:]; "
        "log(SERVICES[service], Path(folder), range(int(first), int(last) + 1), int(done), float(rate))"
    )
    path = os.pathsep.join([str(Path(__file__).parent), str(REPOSITORY)])
    done = subprocess.run(
        [sys.executable, "-c", code, service, folder, *map(str, words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "logger" not in done.stderr, done.stderr  # no warning


@pytest.mark.parametrize("service", installed(*SERVICES))
def test_a_resumed_run_continues_and_changed_parameters_begin_a_linked_one(service: str, folder: Path) -> None:
    log_in_a_process(service, folder, 1, 3, 0, 0.1)
    log_in_a_process(service, folder, 3, 4, 2, 0.1)  # epoch 3 was logged, but not in a checkpoint
    (continued,) = READERS[service](folder).items()
    assert continued[1] == (None, [10, 20, 30, 40])
    log_in_a_process(service, folder, 5, 5, 4, 0.2)
    first, second = READERS[service](folder).items()
    assert first == continued
    assert second[1] == (first[0], [50])


@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow")
def test_mlflow_has_parameters_tags_images_texts_and_the_export(folder: Path) -> None:
    from mlflow import MlflowClient

    log_in_a_process("mlflow", folder, 1, 2, 0, 0.1)
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("Small").experiment_id])
    assert (run.info.run_name, run.info.status) == ("run 1", "FINISHED")
    assert len(run.data.params) == len(PARAMETERS)
    assert run.data.params["long"] == "x" * 6000
    assert run.data.params["path"] == "/some/where"
    assert run.data.tags["mlflow.note.content"] == "a test"
    assert run.data.tags["batch"] == "batch_1"
    assert math.isnan(run.data.metrics["val_loss"])
    assert run.data.metrics["best/loss"] == 0.5
    images = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
    for name in ("val_image", "val_figure", "val_confusion"):
        assert len([path for path in images if f"{name}+step+10+" in path]) == 2  # and a small one
    texts = [file.path for file in client.list_artifacts(run.info.run_id, "summaries/val_note")]
    assert texts == ["summaries/val_note/step_00000010.md", "summaries/val_note/step_00000020.md"]
    assert [file.path for file in client.list_artifacts(run.info.run_id, "best")] == ["best/metrics.json"]


@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb")
def test_wandb_has_parameters_and_media_with_increasing_steps(folder: Path) -> None:
    log_in_a_process("wandb", folder, 1, 2, 0, 0.1)
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    start, rows = offline_wandb.start(file), offline_wandb.history(file)
    assert (start.display_name, start.project, start.run_group) == ("run 1", "Small", "batch_1")
    assert start.run_id == json.loads((folder / "loggers.json").read_text())["loggers"][0]["state"]["run_id"]
    assert [row["_step"] for row in rows] == [10, 20]
    assert {"val_image", "val_figure", "val_confusion", "val_note", "val_lengths"} <= set(rows[0])


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("val_loss", "val_loss"),
        ("best/val_loss", "best/val_loss"),
        ("größe", "größe"),
        ("a%b:c", "a_25_b_3a_c"),
        ("../x", "_2e__2e__2f_x"),
        ("/x", "_2f_x"),
        ("a//b", "a_2f__2f_b"),
    ],
)
def test_names_become_keys_that_mlflow_accepts(name: str, key: str) -> None:
    assert to_key(name) == key


def test_long_names_stay_different() -> None:
    keys = {to_key("k" * 300 + end) for end in "ab"}
    assert {len(key) for key in keys} == {250}
    assert len(keys) == 2
    assert to_key("größe", ascii_only=True) == "gr_f6__df_e"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            "failed with exception HTTPConnectionPool(host='h', port=1): Max retries exceeded with url: /api (Caused "
            "by NewConnectionError('HTTPConnection: Failed to connect: [Errno 111] Connection refused'))",
            "Connection refused",
        ),
        (
            "API request to http://h/api failed with exception ('Connection aborted.', "
            "RemoteDisconnected('Remote end closed connection without response'))",
            "Remote end closed connection without response",
        ),
        (
            "API request to http://h/api failed with exception HTTPConnectionPool(host='h', port=1): Max retries "
            "exceeded with url: /api (Caused by ResponseError('too many 503 error responses'))",
            "too many 503 error responses",
        ),
        ("API request to http://h/api failed with exception something else", "something else"),
    ],
)
def test_the_reason_why_mlflow_does_not_answer_is_short(message: str, reason: str) -> None:
    assert _reason(message) == reason


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "mlruns"])
def test_file_stores_are_rejected_before_the_training(uri: str) -> None:
    with pytest.raises(UsageError, match="tracking_uri .*must be a server"):
        validate_params(MLflow(tracking_uri=uri))


def test_a_relative_database_is_that_of_the_first_start() -> None:
    logger = MLflow(tracking_uri="sqlite:///my.db")
    assert logger._find_server("sqlite:////first/my.db") == "sqlite:////first/my.db"
    assert logger._find_server(None) == f"sqlite:///{Path('my.db').absolute()}"
    assert dataclasses.replace(logger, tracking_uri="http://here")._find_server("http://there") == "http://here"
