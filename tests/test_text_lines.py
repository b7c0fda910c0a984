"""The scenario that recognises lines of text."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Run, run_command
from hypothesis import given
from hypothesis import strategies as st
from shipped import moved_export

from scenarios.text_lines.processors import Encode
from scenarios.text_lines.scenario import edit_distance, warn_about_unknown_characters
from tfaip_like import Sample
from tfaip_like.data import DropSample


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    done = run_command("python", "-m", "scenarios.text_lines.draw", folder, "--lines", 64, "--val_lines", 16)
    assert done.returncode == 0, done.stderr
    return folder


def words(lines: Path, output_dir: Path, *more: object, epochs: int = 2) -> list[object]:
    lists = ["--train.lists", lines / "train.lst", "--val.lists", lines / "val.lst"]
    small = ["--model.filters", 4, 4, "--model.units", 8, "--trainer.epochs", epochs, "--trainer.random_seed", 3]
    small += ["--trainer.jit_compile", "false"]  # XLA takes longer to compile than this to train
    return ["scenarios.text_lines", *lists, *small, "--trainer.output_dir", output_dir, *more]


def history(folder: Path) -> list[dict[str, str]]:
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    timed = ("seconds", "samples_per_second", "input_bound", "memory_mb")
    return [{name: value for name, value in row.items() if name not in timed} for row in rows]


@pytest.fixture(scope="module")
def trained(quick_run: Run, lines: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Provide a run directory without data workers, and its output."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    flags = ["--train.num_processes", 0, "--trainer.lav_every_n", 2]
    done = quick_run("train-scenario", *words(lines, folder, *flags))
    assert done.returncode == 0, done.stderr
    return folder, done.stderr


@pytest.mark.slow
def test_text_lines_report_error_rates_during_training(trained: tuple[Path, str]) -> None:
    run, console = trained
    assert "val_character_error_rate" in console
    log = (run / "train.log").read_text()
    assert "lav_val_character_error_rate" in log
    assert "input_bound" in (run / "history.csv").read_text()


@pytest.mark.slow
def test_text_lines_train_identically_with_data_workers(
    trained: tuple[Path, str], quick_run: Run, lines: Path, tmp_path: Path
) -> None:
    flags = ["--train.num_processes", 2, "--trainer.lav_every_n", 2]
    done = quick_run("train-scenario", *words(lines, tmp_path / "run", *flags))
    assert done.returncode == 0, done.stderr
    assert history(tmp_path / "run") == history(trained[0])


@pytest.mark.slow
def test_a_moved_export_reads_lines_as_before_without_the_run(
    trained: tuple[Path, str], quick_run: Run, lines: Path, tmp_path: Path
) -> None:
    flags = ["--predict.lists", lines / "val.lst", "--predict.num_processes", 0]
    expected = quick_run("predict-scenario", trained[0], *flags)
    assert len(expected.stdout.splitlines()) == 16, expected.stderr
    with moved_export(trained[0], tmp_path) as moved:
        assert '"resources/codec.txt"' in (moved / "pipeline.json").read_text()
        done = quick_run("predict-scenario", moved, *flags)
        other = quick_run("predict-scenario", moved, *flags, "--data.height", 32, "--data.on_bad_sample", "skip")
    assert done.stdout == other.stdout == expected.stdout, done.stderr


@pytest.mark.slow
def test_the_export_contains_the_codec(trained: tuple[Path, str], quick_run: Run, tmp_path: Path) -> None:
    run = shutil.copytree(trained[0], tmp_path / "run")
    moved = (run / "best").rename(tmp_path / "elsewhere")
    params = json.loads((moved / "scenario_params.json").read_text())
    assert params["data"]["codec"] == "resources/codec.txt"
    (run / "resources" / "codec.txt").unlink()
    flags = ["--trainer.output_dir", tmp_path / "again", "--trainer.epochs", 1]
    again = quick_run("train-scenario", "--params", moved / "scenario_params.json", *flags)
    assert again.returncode == 0, again.stderr
    codec = (tmp_path / "again" / "best" / "resources" / "codec.txt").read_text()
    assert codec == (moved / "resources" / "codec.txt").read_text()


@pytest.mark.slow
def test_bad_lines_are_left_out_and_listed(quick_run: Run, lines: Path, tmp_path: Path) -> None:
    (lines / "lines" / "broken.png").write_bytes(b"no image")
    (lines / "lines" / "broken.gt.txt").write_text("broken")
    names = "\n".join((lines / "train.lst").read_text().split()[:16])
    (lines / "some.lst").write_text(f"{names}\nlines/broken.png\nlines/missing.png\n")
    command = words(lines, tmp_path / "run", "--train.buckets", 0, epochs=1)
    command[command.index(lines / "train.lst")] = lines / "some.lst"
    command += ["--data.codec", codec_of(names, lines, tmp_path)]
    stopped = quick_run("train-scenario", *command)
    assert stopped.returncode == 2
    assert "some.lst" in stopped.stderr
    assert "Lines (" in stopped.stderr
    done = quick_run(
        "train-scenario",
        *command,
        "--data.on_bad_sample",
        "skip",
        "--data.max_bad_samples",
        2,
        "--train.num_processes",
        2,
    )
    assert done.returncode == 0, done.stderr
    assert "skipped 2 bad samples (listed in" in done.stderr
    listed = list(csv.DictReader((tmp_path / "run" / "bad_samples.csv").read_text().splitlines()))
    assert sorted(Path(row["sample"].split("(")[1].split(",")[0]).name for row in listed) == [
        "broken.png",
        "missing.png",
    ]


def codec_of(names: str, lines: Path, folder: Path) -> Path:
    texts = [(lines / name).with_suffix(".gt.txt").read_text().strip() for name in names.split()]
    (folder / "codec.txt").write_text("".join(sorted(set("".join(texts)))))
    return folder / "codec.txt"


@given(st.text("abc", max_size=6), st.text("abc", max_size=6), st.text("abc", max_size=6))
def test_the_edit_distance_is_a_distance(a: str, b: str, c: str) -> None:
    assert edit_distance(a, b) == edit_distance(b, a)
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
    assert abs(len(a) - len(b)) <= edit_distance(a, b) <= max(len(a), len(b))


def test_drawn_lines_are_the_same_for_a_seed(run: Run, lines: Path, tmp_path: Path) -> None:
    run("python", "-m", "scenarios.text_lines.draw", tmp_path, "--lines", 64, "--val_lines", 16)
    for file in (tmp_path / "lines").iterdir():
        assert file.read_bytes() == (lines / "lines" / file.name).read_bytes()


def test_padding_changes_no_answer() -> None:
    from scenarios.text_lines.model import LineRecognition
    from tfaip_like import keras

    keras.utils.set_random_seed(0)
    inputs = {
        "image": keras.Input((None, 16), dtype="uint8", name="image"),
        "width": keras.Input((), dtype="int32", name="width"),
    }
    model = LineRecognition(classes=9, filters=[4, 4], units=6)
    trained = keras.Model(inputs, model.build(inputs))
    for variable in trained.variables:
        if variable.path.endswith("bias"):
            variable.assign(np.random.default_rng(1).normal(size=variable.shape))
    predict = keras.Model(inputs, model.build_prediction(inputs, trained))
    image = np.random.default_rng(0).integers(0, 255, (1, 41, 16)).astype("uint8")
    width = np.array([41], "int32")
    alone = predict.predict_on_batch({"image": image, "width": width})["codes"]
    padded = predict.predict_on_batch({"image": np.pad(image, ((0, 0), (0, 60), (0, 0))), "width": width})["codes"]
    np.testing.assert_array_equal(alone[0], padded[0, : alone.shape[1]])
    assert (padded[0, alone.shape[1] :] == -1).all()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_text_lines_reach_less_than_5_percent_errors(run: Run, tmp_path: Path) -> None:
    assert run("python", "-m", "scenarios.text_lines.draw", tmp_path).returncode == 0
    lists = ("--train.lists", tmp_path / "train.lst", "--val.lists", tmp_path / "val.lst")
    output_dir = tmp_path / "run"
    done = run_command(
        "train-scenario", "scenarios.text_lines", *lists, "--trainer.output_dir", output_dir, timeout=3000
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((output_dir / "summary.json").read_text())["best"]["value"] < 0.05
    assert os.listdir(output_dir / "best" / "resources") == ["codec.txt"]


def test_a_line_that_is_too_narrow_for_its_text_is_dropped_with_its_reason(tmp_path: Path) -> None:
    codec = tmp_path / "codec.txt"
    codec.write_text("abc")
    line = Sample({"width": np.int32(9)}, meta={"text": "abca"})
    with pytest.raises(DropSample, match="too narrow for its text: 4 steps needed, 2 available"):
        Encode(codec=codec, drop_narrow=True).process(line, np.random.default_rng(0))
    assert Encode(codec=codec).process(line, np.random.default_rng(0)).targets["codes"].tolist() == [1, 2, 3, 1]


def test_characters_that_the_codec_lacks_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    codec = tmp_path / "codec.txt"
    codec.write_text("ab")
    warn_about_unknown_characters(["ab", "a§", "§§c"], codec)
    printed = (
        "2 of 3 training lines contain characters missing in the codec; these are removed from the targets: "
        "'§' (3 times), 'c'"
    )
    assert printed in caplog.text
    caplog.clear()
    warn_about_unknown_characters(["ab"], codec)
    assert not caplog.text
