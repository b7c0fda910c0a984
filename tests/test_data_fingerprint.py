"""Fingerprints of data: they differ if the data do, are stored with the run, and are compared when it is resumed."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, slow
from hypothesis import given
from hypothesis import strategies as st
from small import small

from tfaip_like import ArraySource, Sample, train
from tfaip_like._runs.reader import read_run
from tfaip_like._runs.run_files import RUN_INFO_FORMAT
from tfaip_like._utils.file_formats import VERSION
from tfaip_like.data._fingerprint import MAX_FILE_BYTES, fingerprint_file, fingerprint_source

LIST_SCENARIO = '''
from pathlib import Path

from tfaip_like import Data, Model, Sample, Scenario, Spec, keras


class Numbers(Data):
    """Numbers in files."""

    inputs = {"x": Spec(())}
    targets = {"y": Spec(())}
    folder: Path = Path("numbers")
    table: Path = Path("table.txt")

    def source(self, mode):
        files = sorted(self.folder.glob("*.txt"))
        return [Sample({"x": float(file.read_text())}, {"y": 1.0}, meta={"file": file}) for file in files]


class One(Model):
    """One weight."""

    def build(self, inputs):
        return {"y": keras.layers.Dense(1)(inputs["x"][:, None])[:, 0]}

    def loss(self, inputs, targets, outputs):
        return {"square": (targets["y"] - outputs["y"]) ** 2}


class Example(Scenario):
    """Numbers."""

    data: Data = Numbers()
    model: Model = One()
'''


@pytest.mark.parametrize(
    ("source", "other"),
    [
        ([1.0, 2.0], [1.0, 2.0, 2.0]),
        ([1.0, 2.0], [1.0, 2.5]),
        ([(1, 2)], [(2, 1)]),
        ([{"x": "a"}], [{"x": "b"}]),
        ([{"x": 1}], [{"y": 1}]),
        ([{"x": b"a"}], [{"x": b"b"}]),
        ([Sample({"x": 1}, {"y": 2})], [Sample({"x": 1}, {"y": 3})]),
        ([Sample({"x": np.float32(1)})], [Sample({"x": np.float64(1)})]),
        (ArraySource({"x": np.arange(9)}), ArraySource({"x": np.arange(9)[::-1].copy()})),
    ],
)
def test_other_data_have_another_hash(source: Any, other: Any) -> None:
    assert fingerprint_source(source) == fingerprint_source(source)
    assert fingerprint_source(source)["sha256"] != fingerprint_source(other)["sha256"]


@given(st.lists(st.one_of(st.none(), st.integers(), st.floats(), st.text(), st.binary(), st.lists(st.integers()))))
def test_all_values_can_be_hashed(values: list[Any]) -> None:
    assert fingerprint_source(values) == fingerprint_source(list(values))


class Drawn(list[float]):
    """Source with random augmentation."""

    def __getitem__(self, index: Any) -> Any:
        return random.random()


class Damaged(list[float]):
    """Source that cannot read a sample."""

    def __getitem__(self, index: Any) -> Any:
        if index == 1:
            raise ValueError("damaged")
        return index


def test_random_sources_and_streams_have_no_hash() -> None:
    assert fingerprint_source(Drawn([1, 2]))["sha256"] == ""
    assert fingerprint_source(Drawn([1, 2]))["samples"] == 2
    assert fingerprint_source(iter([1, 2])) == {"samples": None, "hashed_samples": 0, "bytes": 0, "sha256": ""}
    assert fingerprint_source([])["samples"] == 0


def test_a_sample_that_cannot_be_read_is_part_of_the_hash() -> None:
    assert fingerprint_source(Damaged([0, 1, 2]))["sha256"] not in ("", fingerprint_source([0, 1, 2])["sha256"])


def test_files_count_by_name_and_content_in_any_folder(tmp_path: Path) -> None:
    def source(folder: str, content: str) -> list[Sample]:
        file = tmp_path / folder / "a.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
        return [Sample({"x": str(file)}), Sample({"x": file})]

    first = fingerprint_source(source("one", "text"))
    assert first == fingerprint_source(source("two", "text"))
    assert first["bytes"] == 8
    assert first["sha256"] != fingerprint_source(source("one", "changed"))["sha256"]


@pytest.mark.parametrize("size", [0, 10, MAX_FILE_BYTES, MAX_FILE_BYTES + 1, 3 * MAX_FILE_BYTES])
def test_a_file_is_hashed_at_its_begin_and_its_end(size: int, tmp_path: Path) -> None:
    file = tmp_path / "file"
    hashes = set()
    for change in [None, *([0, size - 1] if size else [])]:
        content = bytearray(size)
        if change is not None:
            content[change] = 1
        file.write_bytes(content)
        assert fingerprint_file(file)["bytes"] == size
        hashes.add(fingerprint_file(file)["sha256"])
    assert len(hashes) == (3 if size else 1)


def change_value(folder: Path) -> None:
    (folder / "numbers/0.txt").write_text("7")


def add_file(folder: Path) -> None:
    (folder / "numbers/9.txt").write_text("1")


def change_table(folder: Path) -> None:
    (folder / "table.txt").write_text("other")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        slow(None, None),
        (change_value, "train data changed since the run started: as many samples, but of 4 compared ones, some"),
        slow(add_file, "train data changed since the run started: 4 samples to 5 samples; the results differ"),
        slow(change_table, "the file of --data.table changed since the run started (4 to 5 bytes)"),
    ],
)
def test_changed_data_are_named_on_resume(
    change: Callable[[Path], None] | None, message: str | None, quick_run: Run, tmp_path: Path
) -> None:
    (tmp_path / "numbers").mkdir()
    (tmp_path / "example.py").write_text(LIST_SCENARIO)
    (tmp_path / "table.txt").write_text("text")
    for number in range(4):
        (tmp_path / f"numbers/{number}.txt").write_text(str(number))
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    words = ["example", "--trainer.epochs", 1, "--trainer.output_dir", "run", "--train.batch_size", 2]
    assert quick_run("train-scenario", *words, cwd=tmp_path, environment=environment).returncode == 0
    recorded = json.loads((tmp_path / "run/run.json").read_text())
    assert recorded["data_fingerprints"]["train"]["samples"] == 4
    assert recorded["data_files"]["--data.table"]["bytes"] == 4
    if change is not None:
        change(tmp_path)
    done = quick_run("resume-training", "run", "--trainer.epochs", 2, cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    printed = done.stdout + done.stderr
    assert (message in printed) if message is not None else ("since the run started" not in printed)


@pytest.mark.slow
def test_a_comparison_shows_data_that_differ(tmp_path: Path, quick_run: Run) -> None:
    for name, size in (("one", 40), ("two", 40), ("three", 50)):
        train(small(tmp_path / name, trainer={"epochs": 1}, data={"samples": size}))
    one, two, three = (read_run(tmp_path / name).info["data_fingerprints"]["train"] for name in ("one", "two", "three"))
    assert one == two != three
    printed = quick_run("compare-runs", tmp_path / "one", tmp_path / "three").stdout
    assert "train data" in printed
    assert f"40 samples {one['sha256'][:8]}" in printed
    assert "train data" not in quick_run("compare-runs", tmp_path / "one", tmp_path / "two").stdout


def test_a_run_of_an_earlier_version_has_no_fingerprints() -> None:
    info = RUN_INFO_FORMAT.decode({VERSION: 1, "status": "done", "data": {"train": 3}}, "run.json")
    assert info == {"status": "done", "data": {"train": 3}}
