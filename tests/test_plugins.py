"""Plug-ins: classes of installed packages are choices by name, and their packages are imported on use only."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import Run

BODY = '''
import json
import sys
import uuid
from pathlib import Path
import keras
from tfaip_like import Processor
from tfaip_like.callbacks import Callback
from tfaip_like.loggers import Logger
from tfaip_like.optimizers import Optimizer
from tfaip_like.schedules import Schedule
from small import Points

print("extension is imported", file=sys.stderr)


class Announce(Callback):
    """Announcement of each epoch."""

    text: str = "done"
    """What is announced."""

    def on_epoch_end(self, run, metrics):
        print(f"{self.text} {run.epoch}")


class Board(Logger):
    """Runs on a board, which is a folder here, as W&B has them on a server."""

    project: str = "default"
    """Project of the run."""

    def start(self, run):
        if not run.is_resumed:
            self.run_id = uuid.uuid4().hex[:8]
        self._file = Path(f"{self.project}-{self.run_id}.jsonl").open("a")

    def last_step(self):
        lines = Path(self._file.name).read_text().splitlines()
        return max((json.loads(line)["step"] for line in lines), default=0)

    def log_metrics(self, metrics, step, epoch):
        print(json.dumps({"step": step, "val_loss": metrics["val_loss"]}), file=self._file, flush=True)

    def finish(self, status):
        self._file.close()


class Half(Processor):
    """Halves inputs."""

    def process(self, sample, random):
        return sample


class Fixed(Optimizer):
    """SGD under another name."""

    @property
    def keras_class(self):
        return keras.optimizers.SGD


class Level(Schedule):
    """Constant rate."""

    def decay_schedule(self, training_length):
        return None


class Stored(Points):
    """Points of a store."""


class NotAnything:
    pass
'''
ENTRY_POINTS = """
[tfaip_like.callbacks]
Announce = extension:Announce
Broken = extension:NotAnything
[tfaip_like.loggers]
Board = extension:Board
[tfaip_like.processors]
Half = extension:Half
[tfaip_like.optimizers]
Fixed = extension:Fixed
[tfaip_like.schedules]
Level = extension:Level
[tfaip_like.sources]
Stored = extension:Stored
"""


def install(site: Path, package: str, entry_points: str) -> None:
    """Install a package that announces classes, as pip does with a wheel."""
    info = site / f"{package.replace('-', '_')}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(entry_points)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Provide a folder with a scenario, in which a package is installed."""
    (tmp_path / "extension.py").write_text(BODY)
    shutil.copy(Path(__file__).with_name("small.py"), tmp_path / "small.py")
    install(tmp_path, "my-extension", ENTRY_POINTS)
    return tmp_path


def test_an_installed_class_is_chosen_by_its_name(site: Path, quick_run: Run) -> None:
    flags = ["--trainer.epochs", "1", "--trainer.output_dir", "run", "--callbacks", "announce", "--callbacks.0.text"]
    chosen = ["--optimizer", "Fixed", "--data", "Stored", "--data.processors", "Half", "--learning_rate", "Level"]
    chosen += ["--loggers", "Board", "--loggers.0.project", "digits"]
    done = quick_run("train-scenario", "small:Small", *flags, "finished", *chosen, cwd=site)
    assert done.returncode == 0, done.stderr
    assert "finished 1" in done.stdout
    params = json.loads((site / "run" / "trainer_params.json").read_text())
    assert params["callbacks"] == [{"class": "extension:Announce", "every": "epoch", "text": "finished"}]
    (logger,) = params["loggers"]
    assert (logger["class"], logger["project"]) == ("extension:Board", "digits")
    (board,) = site.glob("digits-*.jsonl")
    assert [json.loads(line)["step"] for line in board.read_text().splitlines()] == [12]
    assert params["optimizer"]["class"] == "extension:Fixed"
    assert params["data"]["class"] == "extension:Stored"
    assert params["learning_rate"]["class"] == "extension:Level"


@pytest.mark.slow
def test_a_resumed_run_continues_on_the_board_of_an_installed_logger(site: Path, quick_run: Run) -> None:
    flags = ["--trainer.output_dir", "run", "--loggers", "Board"]
    assert quick_run("train-scenario", "small:Small", "--trainer.epochs", "2", *flags, cwd=site).returncode == 0
    shutil.rmtree(site / "run" / "checkpoints" / "epoch_0002")  # as a kill leaves it
    done = quick_run("resume-training", "run", cwd=site)
    assert done.returncode == 0, done.stderr
    (board,) = site.glob("default-*.jsonl")
    assert [json.loads(line)["step"] for line in board.read_text().splitlines()] == [12, 24]


def test_help_names_the_package_and_imports_nothing(site: Path, quick_run: Run) -> None:
    done = quick_run("train-scenario", "small:Small", "--help", "all", cwd=site)
    assert done.returncode == 0, done.stderr
    text = " ".join(done.stdout.split())
    assert "Plug-ins: Announce (my-extension 1.2), Broken (my-extension 1.2)." in text
    assert "--callbacks (Announce | Broken) ..." in text
    assert "Board (my-extension 1.2)" in text
    assert "Plug-ins: Fixed (my-extension 1.2)." in text
    assert "extension is imported" not in done.stdout + done.stderr


def test_a_misspelt_name_is_suggested(site: Path, quick_run: Run) -> None:
    done = quick_run("train-scenario", "small:Small", "--callbacks", "Anounce", cwd=site)
    assert done.returncode == 2
    assert "unknown Callback 'Anounce'; did you mean Announce? (choices: Announce, Broken)" in done.stderr
    assert "extension is imported" not in done.stderr


def test_a_class_of_another_kind_is_rejected(site: Path, quick_run: Run) -> None:
    done = quick_run("train-scenario", "small:Small", "--callbacks", "Broken", cwd=site)
    assert done.returncode == 2
    assert "extension has no Params class 'NotAnything'" in done.stderr


def test_two_packages_with_the_same_name_are_distinguished(site: Path, quick_run: Run) -> None:
    install(site, "other", "[tfaip_like.callbacks]\nAnnounce = elsewhere:Announce\n")
    done = quick_run("train-scenario", "small:Small", "--callbacks", "Announce", cwd=site)
    assert done.returncode == 2
    assert (
        "2 packages have a plug-in Announce; choose one of extension:Announce (my-extension 1.2), "
        "elsewhere:Announce (other 1.2)" in " ".join(done.stderr.split())
    )
