"""Inputs on a local S3 server, read by the commands as a user runs them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from conftest import run_command
from PIL import Image
from s3 import BUCKET, s3_server
from stopping import differences

from tfaip_like import UsageError
from tfaip_like.data import find_files, read_image, to_path

pytestmark = pytest.mark.slow

S3 = tuple[Any, dict[str, str]]

SCENARIO = """
from pathlib import Path

from tfaip_like import Mode, Model, Sample, Scenario, Spec, keras
from tfaip_like.data import ImageFolderData


class Classifier(Model):
    best = "val_loss", "min"

    def build(self, inputs):
        return {"scores": keras.layers.Dense(2)(keras.layers.Flatten()(inputs["image"]))}

    def loss(self, inputs, targets, outputs):
        crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return {"crossentropy": crossentropy(targets["label"], outputs["scores"])}


class Flowers(Scenario):
    data: ImageFolderData = ImageFolderData(folder=Path("flowers"), size=(2, 2))
    model: Classifier = Classifier()
"""


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    """Provide a server with a directory of images."""
    with s3_server() as server:
        for number in range(8):
            stream = io.BytesIO()
            Image.new("RGB", (2, 2), (30 * number, 0, 0)).save(stream, "PNG")
            server[0].pipe(f"{BUCKET}/flowers/{'ab'[number % 2]}/{number}.png", stream.getvalue())
        server[0].pipe(f"{BUCKET}/small.yaml", b"trainer:\n  epochs: 1\ntrain:\n  batch_size: 4\n")
        yield server


def test_a_training_reads_parameters_and_images_from_s3_with_data_workers(s3: S3, tmp_path: Path) -> None:
    (tmp_path / "flowers.py").write_text(SCENARIO)
    folder = f"s3://{BUCKET}/flowers"
    words = ["flowers.py", "--params", f"s3://{BUCKET}/small.yaml", "--data.folder", folder]
    words += ["--data.val_folder", folder, "--train.num_processes", "2", "--trainer.output_dir", "run"]
    done = run_command("train-scenario", *words, cwd=tmp_path, environment=s3[1])
    assert done.returncode == 0, done.stderr
    params = json.loads((tmp_path / "run/trainer_params.json").read_text())
    assert params["data"]["folder"] == folder
    assert params["trainer"]["epochs"] == 1
    done = run_command("predict-scenario", "run", "--data.predict_folder", folder, cwd=tmp_path, environment=s3[1])
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 8


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"s3://{BUCKET}/no.yaml", f"train-scenario: s3://{BUCKET}/no.yaml: no such file or directory"),
        ("s3://no-bucket/no.yaml", "train-scenario: s3://no-bucket/no.yaml: no such file or directory"),
    ],
)
def test_a_missing_file_or_bucket_is_a_usage_error(s3: S3, url: str, message: str) -> None:
    done = run_command("train-scenario", "scenarios.tutorial", "--params", url, environment=s3[1])
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3


def test_missing_credentials_are_a_usage_error(s3: S3, tmp_path: Path) -> None:
    without = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}
    words = ["scenarios.tutorial", "--params", f"s3://{BUCKET}/small.yaml"]
    done = run_command("train-scenario", *words, environment={**s3[1], **without, "HOME": str(tmp_path)})
    assert done.returncode == 2
    assert f"s3://{BUCKET}/small.yaml: no credentials: " in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3


def test_an_unreachable_server_is_a_usage_error(s3: S3) -> None:
    environment = {**s3[1], "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}
    words = ["scenarios.tutorial", "--params", f"s3://{BUCKET}/small.yaml"]
    done = run_command("train-scenario", *words, environment=environment)
    assert done.returncode == 2
    assert "cannot be reached" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3


def _read_red(url: str) -> int:
    return int(read_image(url, "RGB")[0, 0, 0])


def test_a_forked_process_reads_from_s3_after_its_parent(s3: S3) -> None:
    """The connections and the thread of the parent do not exist in the child."""
    first, second = f"s3://{BUCKET}/flowers/a/2.png", f"s3://{BUCKET}/flowers/b/3.png"
    assert _read_red(first) == 60
    with get_context("fork").Pool(2) as pool:
        assert pool.map_async(_read_red, [first, second]).get(60) == [60, 90]


def test_patterns_and_neighbours_are_found_on_s3(s3: S3) -> None:
    files = find_files([f"s3://{BUCKET}/flowers/*/*.png"], "--files")
    assert [file.name for file in files] == ["0.png", "2.png", "4.png", "6.png", "1.png", "3.png", "5.png", "7.png"]
    assert read_image(files[1], "RGB")[0, 0].tolist() == [60, 0, 0]
    assert files[0].with_name("2.png").is_file()
    assert to_path(f"s3://{BUCKET}/flowers").is_dir()
    with pytest.raises(UsageError, match=f"--files s3://{BUCKET}/x: no such file, or its bucket does not exist"):
        find_files([f"s3://{BUCKET}/x"], "--files")


def test_a_run_moves_to_another_machine_by_its_copy_on_s3(s3: S3, tmp_path: Path) -> None:
    """The machine is lost in the second epoch; the other one has only the scenario."""
    url = f"s3://{BUCKET}/runs/run"
    small = ["--trainer.samples_per_epoch", "64", "--trainer.random_seed", "1"]
    for name in ("whole", "lost", "other"):
        (tmp_path / name).mkdir()
    whole, other = tmp_path / "whole", tmp_path / "other"
    words = ["scenarios.tutorial", *small, "--trainer.output_dir", "run"]
    done = run_command("train-scenario", *words, "--trainer.epochs", 2, cwd=whole, environment=s3[1])
    assert done.returncode == 0, done.stderr
    mirror = ["--trainer.mirror_to", f"s3://{BUCKET}/runs"]
    done = run_command(
        "train-scenario", *words, *mirror, "--trainer.epochs", 1, cwd=tmp_path / "lost", environment=s3[1]
    )
    assert done.returncode == 0, done.stderr
    assert f"uploaded epoch_0001 to {url}" in done.stderr
    done = run_command("resume-training", url, "--trainer.epochs", 2, cwd=other, environment=s3[1])
    assert done.returncode == 0, done.stderr
    assert differences(whole / "run", other / "run") == []
    assert [name for name in s3[0].ls(url) if "manifest" in name] == [f"{BUCKET}/runs/run/manifest-00000004.json"]
    (tmp_path / "samples.jsonl").write_text(json.dumps({"image": [[0] * 8] * 8}))
    predict = ["--predict.files", tmp_path / "samples.jsonl"]
    expected = run_command("predict-scenario", other / "run/best", *predict)
    for location in (url, f"{url}/best"):
        done = run_command("predict-scenario", location, *predict, environment=s3[1])
        assert (done.returncode, done.stdout) == (0, expected.stdout), done.stderr


@pytest.mark.parametrize("url", ["s3://no-bucket/runs", "nonsense://runs"])
def test_a_copy_that_cannot_be_written_is_a_usage_error(s3: S3, tmp_path: Path, url: str) -> None:
    words = ["scenarios.tutorial", "--trainer.output_dir", "run", "--trainer.mirror_to", url]
    done = run_command("train-scenario", *words, cwd=tmp_path, environment=s3[1])
    assert done.returncode == 2
    assert f"--trainer.mirror_to {url}/run: " in done.stderr
    assert not s3[0].exists("no-bucket")
