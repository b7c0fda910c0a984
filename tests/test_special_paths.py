"""Run directories whose names TensorFlow, a shell or a pattern would take for something else."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, Run, slow
from small import small

from tfaip_like import keras, load_predictor, train
from tfaip_like._export.exported_model import load_export
from tfaip_like._utils.files import make_staging_dir
from tfaip_like._utils.temp_dirs import unlock_dir
from tfaip_like.data._sources.file_lists import find_paths
from tfaip_like.exporters import ONNX, Exporter, LiteRT
from tfaip_like.settings import WarmStart

EVERYTHING = "a[1] *?{b}\\ '\"`$HOME%20%s#~;&|<>!()=,:@^\n\t-ü😀u\u0308\udcff\x1b[1m."
"""All that a shell, a pattern, a URL, a terminal or an encoding takes for something else; not UTF-8."""


@pytest.mark.slow
@pytest.mark.parametrize("exporters", [[ONNX()], slow([ONNX(), LiteRT()])])
def test_a_run_directory_may_have_any_name(exporters: list[Exporter], tmp_path: Path, quick_run: Run) -> None:
    run = tmp_path / EVERYTHING / "--run[2]"
    train(small(run, trainer={"epochs": 1, "lav_every_n": 1}, exporters=exporters))
    for name in ("best", "export"):
        files = {file.name for file in (run / name).iterdir()}
        assert {"serve", "model.keras", "weights.npz", "network.onnx"} <= files
        assert load_export(run / name)({"x": np.ones((2, 2), "float32")})["sum"].shape == (2,)
        assert keras.saving.load_model(run / name / "model.keras").count_params() > 0
    assert list(run.rglob("events.out.tfevents.*"))
    assert list((run / "checkpoints").iterdir())
    done = quick_run("resume-training", "./--run[2]", "--trainer.epochs", 2, cwd=run.parent)
    assert done.returncode == 0, done.stderr
    assert len((run / "history.csv").read_text().splitlines()) == 3
    assert load_predictor(run).one({"x": [1.0, 2.0]}).outputs["sum"].shape == ()
    (tmp_path / "x.jsonl").write_text('{"x": [1, 2]}\n')
    output = tmp_path / EVERYTHING / "[1].jsonl"
    done = quick_run("predict-scenario", run, "--predict.files", tmp_path / "x.jsonl", "--output", output)
    assert done.returncode == 0, done.stderr
    assert output.read_text().startswith('{"outputs"')
    train(small(warmstart=WarmStart(model=run), trainer={"epochs": 1}))
    assert {file.name for file in tmp_path.iterdir()} == {EVERYTHING, "x.jsonl"}


def test_a_leftover_of_a_replaced_folder_is_found_below_any_name(tmp_path: Path) -> None:
    leftover = make_staging_dir(tmp_path / "a[1]")
    unlock_dir(leftover)  # as the end of its process does
    second = make_staging_dir(tmp_path / "a[1]")
    assert not leftover.exists()
    assert second.is_dir()


def test_a_pattern_is_found_in_a_directory_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a[1]/x.png", "a[1]/b*/y.png", "a1/z.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_paths([f"{tmp_path}/a[1]/*.png"], "--x") == [f"{tmp_path}/a[1]/x.png"]
    assert find_paths([f"{tmp_path}/a[1]/b*/*.png"], "--x") == [f"{tmp_path}/a[1]/b*/y.png"]
    assert find_paths([f"{tmp_path}/a[1]/**/*.png"], "--x") == [f"{tmp_path}/a[1]/{n}" for n in ("b*/y.png", "x.png")]
    assert find_paths([f"{tmp_path}/a[0-9]/*.png"], "--x") == [f"{tmp_path}/a1/z.png"]
    monkeypatch.chdir(tmp_path / "a[1]")
    assert find_paths(["*.png"], "--x") == ["x.png"]
    assert find_paths(["*/*.png"], "--x") == ["b*/y.png"]


PLAN = """\
scenario: experts
description: in a directory of any name
configurations:
  wide[1]*: {trainer.epochs: 1}
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "submits", [False, slow(True)], ids=["without training in the batch", "with a training in the batch"]
)
def test_every_command_works_below_a_directory_of_any_name(submits: bool, tmp_path: Path, quick_run: Run) -> None:
    name = EVERYTHING + "x" * (255 - len(os.fsencode(EVERYTHING)))
    assert len(os.fsencode(name)) == 255
    folder = tmp_path / name / "--x" / "-y"
    folder.mkdir(parents=True)

    def done(*words: object) -> str:
        environment = {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
        result = quick_run(*words, cwd=folder, environment=environment)
        assert result.returncode == 0, result.stderr
        return result.stdout + result.stderr

    done(
        "train-scenario",
        "experts",
        "--trainer.epochs",
        1,
        "--trainer.output_dir",
        "./-run[1]",
        "--trainer.random_seed",
        3,
    )
    done("resume-training", "./-run[1]", "--trainer.epochs", 2)
    run = folder / "-run[1]"
    assert len((run / "history.csv").read_text().splitlines()) == 3
    assert "--trainer.epochs 2" in done("resume-training", run, "--show")
    done(
        "train-scenario",
        "--params",
        run / "trainer_params.json",
        "--trainer.output_dir",
        folder / "second",
        "--trainer.epochs",
        1,
    )
    assert (
        "val_loss" in done("lav-scenario", run, "--json", "./-values[1].json") or (folder / "-values[1].json").exists()
    )
    (folder / "-x[1].jsonl").write_text('{"x": [1, 2]}\n')
    done("predict-scenario", "./-run[1]", "--predict.files", "./-x[1].jsonl", "--output", "./-y[1].npz")
    assert (folder / "-y[1].npz").exists()
    assert "second" in done("compare-runs", ".", "--html", "./-compare[1].html", "--csv", "./-compare[1].csv")
    assert (folder / "-compare[1].html").stat().st_size > 10_000
    assert (run / "report.html").stat().st_size > 10_000
    (folder / "-plan[1].yaml").write_text(PLAN.replace("wide[1]*", "wide"))
    done("experiments", "generate", "./-plan[1].yaml", "--folder", "./-batches[1]")
    (batch,) = (folder / "-batches[1]").glob("*/version_1")
    assert "1 new" in done("experiments", "show", ".")
    done("experiments", "add", batch)
    if submits:
        done("experiments", "submit", batch, "--wait", "--jobs", 2)
        assert "2 done" in done("experiments", "show", batch)
    assert {file.name for file in tmp_path.iterdir()} == {name}
