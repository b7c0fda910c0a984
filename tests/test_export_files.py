"""Exports contain every file that prediction uses, and use no other."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
from conftest import Run
from small import Points, Small

from tfaip_like import Mode, Params, Processor, Sample, UsageError, load_predictor, train
from tfaip_like._export import bundled_files as files
from tfaip_like._export.exported_model import load_export
from tfaip_like._export.pipeline import load_pipeline
from tfaip_like._export.scenario_loading import load_scenario
from tfaip_like._export.writing import write_export
from tfaip_like.data import Source
from tfaip_like.modeling._network import build_networks
from tfaip_like.settings import Trainer


class Part(Params):
    """Part of a processor."""

    table: Path | None = None
    """A file."""


class Reads(Processor):
    """Has paths in every kind of parameter, and adds what it reads to the outputs."""

    file: Path | None = None
    """A file."""

    several: list[Path] = []
    """Files."""

    named: dict[str, Path] = {}
    """Files by name."""

    part: Part = Part()
    """Has a file."""

    parts: list[Part] = []
    """Have files."""

    text: str = ""
    """No path to us."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        places = [self.file, *self.several, *self.named.values(), self.part.table, *(part.table for part in self.parts)]
        read = [text for place in places if place is not None for text in contents(place)]
        return dataclasses.replace(sample, outputs={**sample.outputs, "read": read})


def contents(place: Path) -> list[str]:
    return [file.read_text() for file in (sorted(place.rglob("*")) if place.is_dir() else [place]) if file.is_file()]


class PointsWithFiles(Points):
    """Points, a folder with samples, and files."""

    folder: Path = Path("samples")
    """The samples; no part of an export."""

    declared: Path | None = None
    """A resource."""

    learnt: Path | None = None
    """Made by `adapt`, and declared nowhere."""

    reads: Reads | None = None
    """A post-processor."""

    resources = ("declared",)

    def post_pipeline(self, mode: Mode) -> Sequence[Processor]:
        return [*super().post_pipeline(mode), *([self.reads] if self.reads else [])]


class Learns(Small):
    """Writes a file before the training."""

    letters: str = ""
    """What is learnt; nothing by default."""

    def adapt(self, train: Source | None, folder: Path) -> Self:
        if not self.letters:
            return self
        assert isinstance(self.data, PointsWithFiles)
        (folder / "letters.txt").write_text(self.letters)
        learnt = folder / "letters.txt"
        data = dataclasses.replace(self.data, learnt=learnt, reads=Reads(file=learnt))
        return dataclasses.replace(self, data=data)


def scenario(output_dir: Path | None = None, letters: str = "", epochs: int = 1, **data: Any) -> Learns:
    trainer = Trainer(epochs=epochs, random_seed=7, jit_compile=False, output_dir=output_dir)
    return Learns(data=PointsWithFiles(samples=16, **data), letters=letters, evaluator=None, trainer=trainer)


def exported(place: Path, **data: Any) -> Path:
    """Return an export that was never trained."""
    made = scenario(**data)
    write_export(place / "export", build_networks(made.model, made.data), made, {"epoch": 1})
    return place / "export"


def predict_single(path: Path) -> list[str]:
    read: list[str] = load_predictor(path).one({"x": [1.0, 2.0]}).outputs["read"]
    return read


def write_file(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_paths_in_every_kind_of_parameter_travel_with_an_export(tmp_path: Path) -> None:
    here = tmp_path / "here"
    write_file(here / "tree" / "deep" / "x.txt", "tree x")
    write_file(here / "elsewhere.txt", "a link")
    (here / "tree" / "link.txt").symlink_to(here / "elsewhere.txt")
    (here / "tree" / "empty").mkdir()
    reads = Reads(
        file=write_file(here / "a" / "x.txt", "file"),
        several=[write_file(here / "b" / "x.txt", "one of several"), here / "tree", here / "a" / ".." / "a" / "x.txt"],
        named={"first": write_file(here / "c" / "x.txt", "named")},
        part=Part(table=write_file(here / "ü [1]*.csv", "part")),
        parts=[Part(table=write_file(here / "d" / "x.txt", "in a list"))],
    )
    write_file(here / "samples" / "many.txt", "no part of it")
    declared = write_file(here / "declared.txt", "declared")
    export = exported(tmp_path, reads=reads, folder=here / "samples", declared=declared)
    moved = export.rename(tmp_path / "moved")
    shutil.rmtree(here)
    assert predict_single(moved) == ["file", "one of several", "tree x", "a link", "file", "named", "part", "in a list"]
    params = json.loads((moved / "scenario_params.json").read_text())["data"]
    assert params["declared"] == "resources/declared.txt"
    assert params["folder"] == str(here / "samples")
    assert params["reads"]["several"] == ["resources/x-2.txt", "resources/tree", "resources/x.txt"]
    assert not [file for file in moved.rglob("*") if file.name == "many.txt"]
    assert load_export(moved).resource("resources/tree/deep/x.txt").read_text() == "tree x"
    (moved / "resources" / "tree" / "deep" / "x.txt").write_text("half")
    with pytest.raises(UsageError, match=r"deep/x.txt: has 4 bytes instead of the 6 exported"):
        load_export(moved)


def test_a_moved_export_never_uses_files_of_another_run(tmp_path: Path) -> None:
    train(scenario(tmp_path / "run", letters="abc"))
    shutil.copytree(tmp_path / "run" / "best", tmp_path / "elsewhere" / "deployed")
    shutil.rmtree(tmp_path / "run")
    assert predict_single(tmp_path / "elsewhere" / "deployed") == ["abc"]
    train(scenario(tmp_path / "run", letters="xyz"))
    assert predict_single(tmp_path / "elsewhere" / "deployed") == ["abc"]
    assert predict_single(tmp_path / "run") == ["xyz"]


@pytest.mark.slow
def test_a_run_that_was_moved_resumes_with_what_it_learnt(tmp_path: Path, quick_run: Run) -> None:
    train(scenario(tmp_path / "run", letters="abc"))
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    assert json.loads((moved / "trainer_params.json").read_text())["data"]["learnt"] == "resources/letters.txt"
    done = quick_run("resume-training", moved, "--trainer.epochs", 2)
    assert done.returncode == 0, done.stderr
    assert predict_single(moved / "export") == ["abc"]
    assert not (tmp_path / "run").exists()


# What cannot be copied is rejected before the first epoch.


def missing(folder: Path) -> Path:
    return folder / "missing.txt"


def keep_run(folder: Path) -> Path:
    return folder


def link_resources(folder: Path) -> Path:
    write_file(folder / "tree" / "x.txt", "x")
    (folder / "tree" / "loop").symlink_to(folder / "tree")
    return folder / "tree"


def add_broken_link(folder: Path) -> Path:
    write_file(folder / "tree" / "x.txt", "x")
    (folder / "tree" / "gone").symlink_to(folder / "nothing")
    return folder / "tree"


def too_many(folder: Path) -> Path:
    for number in range(6):
        write_file(folder / "tree" / f"{number}.txt", "x")
    return folder / "tree"


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (missing, "no such file or directory (required for inference and copied to every export)"),
        (keep_run, "contains the run directory"),
        (link_resources, "tree/loop is a link to a directory"),
        (add_broken_link, "tree/gone is neither a file nor a directory"),
        (too_many, "more than 5 files or 1 GiB"),
        (fifo, "neither a file nor a directory"),
    ],
)
def test_resources_that_cannot_be_copied_are_rejected_before_the_training(
    make: Callable[[Path], Path], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_FILES", 5)
    path = make(tmp_path)
    with pytest.raises(UsageError) as raised:
        train(scenario(tmp_path / "run", reads=Reads(several=[path])))
    assert f"Reads.several {path}: " in str(raised.value)
    assert message in str(raised.value)
    assert not (tmp_path / "run" / "best").exists()
    assert not (tmp_path / "run" / "history.csv").exists()


def test_a_str_parameter_that_names_a_file_gives_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = scenario(tmp_path / "run", reads=Reads(text=str(write_file(tmp_path / "x.txt", "x"))))
    files.check_bundled_files(made, made.data.reads)  # type: ignore[attr-defined]
    assert "Reads.text" in caplog.text
    assert "is a string that names a file" in caplog.text


# Received exports.


@pytest.mark.parametrize("path", ["../secret", "SECRET", "resources/link", "resources/folder"])
@pytest.mark.parametrize(
    "change",
    [
        lambda path: {"file": path},
        lambda path: {"several": ["resources/own.txt", path]},
        lambda path: {"named": {"x": path}},
        lambda path: {"part": {"table": path}},
        lambda path: {"parts": [{"table": path}]},
    ],
)
def test_a_received_export_uses_no_file_outside_of_itself(
    change: Callable[[str], dict[str, Any]], path: str, own: Path, tmp_path: Path
) -> None:
    export = shutil.copytree(own, tmp_path / "export")
    write_file(tmp_path / "secret", "secret")
    (export / "resources" / "link").symlink_to(tmp_path / "secret")
    (export / "resources" / "folder").mkdir()
    (export / "resources" / "folder" / "link").symlink_to(tmp_path / "secret")
    path = path.replace("SECRET", str(tmp_path / "secret"))
    pipeline = json.loads((export / "pipeline.json").read_text())
    pipeline["post_processors"][0] |= change(path)
    (export / "pipeline.json").write_text(json.dumps(pipeline))
    with pytest.raises(UsageError, match="outside of the export"):
        load_pipeline(export)


def test_a_received_export_names_no_resource_outside_of_itself(own: Path, tmp_path: Path, quick_run: Run) -> None:
    export = shutil.copytree(own, tmp_path / "export")
    params = json.loads((export / "scenario_params.json").read_text())
    params["data"]["declared"] = str(write_file(tmp_path / "secret", "secret"))
    (export / "scenario_params.json").write_text(json.dumps(params))
    with pytest.raises(UsageError, match=r"data.declared .*secret: outside of the export"):
        load_scenario(export)
    params["data"] |= {
        "declared": None,
        "reads": {"class": "test_export_files:Reads", "file": str(tmp_path / "secret")},
    }
    (export / "scenario_params.json").write_text(json.dumps(params))
    write_file(tmp_path / "x.jsonl", '{"x": [1, 2]}\n')
    flags = ["--predict.files", tmp_path / "x.jsonl"]
    done = quick_run("predict-scenario", export, *flags, cwd=Path(__file__).parent)
    assert "own" in done.stdout, done.stderr
    done = quick_run("predict-scenario", export, *flags, "--data.max_bad_samples", 3, cwd=Path(__file__).parent)
    assert done.returncode == 2
    assert "secret; an export may only refer to files inside it" in done.stderr
    done = quick_run(
        "predict-scenario",
        export,
        *flags,
        "--data.reads.file",
        write_file(tmp_path / "mine", "mine"),
        cwd=Path(__file__).parent,
    )
    assert "mine" in done.stdout, done.stderr


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    return exported(folder, reads=Reads(file=write_file(folder / "own.txt", "own")))
