"""Every value given has an effect or is rejected; defaults and values of files that hold all of them are not."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from conftest import Run
from small import small

from tfaip_like import UsageError
from tfaip_like._cli.train_scenario import COMMAND
from tfaip_like.params._ignored_flags import warn_ignored_params
from tfaip_like.settings import EarlyStopping

NEEDS_N_TO_GO = "requires --early_stopping.n_to_go"
NEEDS_OUTPUT_DIR = "requires --trainer.output_dir"
LAV = "LAV during training is disabled; set --trainer.lav_every_n, or pass --lav.* to lav-scenario"
PARAMETERS = {
    "--train.fold 2": "cross-validation is disabled (--train.folds 0)",
    "--early_stopping.min_delta 0.1": NEEDS_N_TO_GO,
    "--early_stopping.frequency 2": NEEDS_N_TO_GO,
    "--early_stopping.upper_threshold 3": NEEDS_N_TO_GO,
    "--early_stopping.lower_threshold 0.5 --early_stopping.mode max": NEEDS_N_TO_GO,
    "--optimizer.exclude_from_weight_decay bias": "no weight decay (set --optimizer.weight_decay)",
    "--optimizer AdamW --optimizer.weight_decay 0 --optimizer.exclude_from_weight_decay bias": (
        "no weight decay (set --optimizer.weight_decay)"
    ),
    "--optimizer SGD --optimizer.nesterov true": "momentum is 0 (--optimizer.momentum)",
    "--optimizer AdaBelief --optimizer.rectify false --optimizer.sma_threshold 4": "--optimizer.rectify is false",
    "--learning_rate.warmup_factor 0.1": "no warm-up (set --learning_rate.warmup_epochs)",
    "--learning_rate PiecewiseConstant --learning_rate.boundaries 30 60 90": (
        "training ends after 3 epochs (--trainer.epochs)"
    ),
    "--warmstart.include dense": "requires --warmstart.model",
    "--warmstart.allow_partial true": "requires --warmstart.model",
    "--trainer.val_every_n 0 --val.batch_size 8": "validation is disabled (--trainer.val_every_n 0)",
    "--trainer.val_every_n 0 --trainer.print_eval_limit 5": "validation is disabled (--trainer.val_every_n 0)",
    "--lav.batch_size 8": LAV,
    "--lav.limit 8": LAV,
    "--data.max_bad_samples 3": "bad samples are not skipped (--data.on_bad_sample skip)",
    "--trainer.keep_checkpoints 5": NEEDS_OUTPUT_DIR,
    "--trainer.keep_epochs 1 2": NEEDS_OUTPUT_DIR,
    "--trainer.checkpoint_every 10steps": NEEDS_OUTPUT_DIR,
    "--trainer.description text": NEEDS_OUTPUT_DIR,
    "--exporters ONNX": NEEDS_OUTPUT_DIR,
    "--trainer.output_dir run --trainer.keep_epochs 7 8": "training ends after 3 epochs (--trainer.epochs)",
    "--trainer.output_dir run --trainer.keep_every_n 5": "training ends after 3 epochs (--trainer.epochs)",
}


@pytest.mark.parametrize("flags", PARAMETERS)
def test_a_flag_without_an_effect_is_rejected(flags: str) -> None:
    words = flags.split()
    with pytest.raises(UsageError) as rejection:
        COMMAND.read_scenario(["small", *words])
    message = str(rejection.value)
    assert message.endswith(f" has no effect: {PARAMETERS[flags]}")
    assert any(message.startswith(word) for word in words)


def test_a_setting_of_another_backend_is_rejected(run: Run) -> None:
    flags = ["--device.backend", "jax", "--device.soft_placement", "false"]
    environment = {"PYTHONPATH": str(Path(__file__).parent)}
    done = run("train-scenario", "small", *flags, environment=environment)
    assert done.returncode == 2
    assert "has no effect: requires the tensorflow backend, not jax" in done.stderr


@pytest.mark.parametrize(
    "flags",
    [
        "--train.folds 3 --train.fold 2",
        "--early_stopping.min_delta 0.1 --early_stopping.n_to_go 3",
        "--early_stopping.lower_threshold 0.5",  # with mode min it stops immediately
        "--early_stopping.upper_threshold 0.5 --early_stopping.mode max",
        "--optimizer.exclude_from_weight_decay bias --optimizer.weight_decay 0.1",
        "--learning_rate.warmup_factor 0.1 --learning_rate.warmup_epochs 1",
        "--learning_rate PiecewiseConstant --learning_rate.boundaries 1 60 90",
        "--trainer.lav_every_n 1 --lav.batch_size 8",
        "--data.on_bad_sample skip --data.max_bad_samples 3",
        "--trainer.output_dir run --trainer.keep_epochs 2 8",
    ],
)
def test_a_flag_with_an_effect_is_accepted(flags: str) -> None:
    assert COMMAND.read_scenario(["small", *flags.split()]) is not None


def test_defaults_of_a_scenario_are_never_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "with_defaults.py").write_text(
        "from small import *\n"
        "from tfaip_like.settings import EarlyStopping\n"
        "from tfaip_like.optimizers import AdamW, Optimizer\n"
        "class Mine(Small):\n"
        "    early_stopping: EarlyStopping = EarlyStopping(min_delta=0.1)\n"
        "    optimizer: Optimizer = AdamW(exclude_from_weight_decay=['bias'])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert COMMAND.read_scenario(["with_defaults", "--optimizer.weight_decay", "none"]) is not None


def test_a_file_value_without_an_effect_gives_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "parameters.json"
    file.write_text(json.dumps({"early_stopping": {"min_delta": 0.1, "start_from": 0}}))
    with caplog.at_level(logging.WARNING):
        assert COMMAND.read_scenario(["small", "--params", str(file)]) is not None
    assert caplog.messages == [f"early_stopping.min_delta=0.1 has no effect: {NEEDS_N_TO_GO}"]


def test_a_python_value_without_an_effect_gives_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        warn_ignored_params(small(early_stopping=EarlyStopping(min_delta=0.1)))
        warn_ignored_params(small())
    assert caplog.messages == [f"early_stopping.min_delta=0.1 has no effect: {NEEDS_N_TO_GO}"]


LEARNT = '''
import dataclasses
from small import *
class Learnt(Line):
    classes: int = 2
    """How many there are; learnt from the data."""
class Mine(Small):
    model: Model = Learnt()
    def adapt(self, train, folder):
        return dataclasses.replace(self, model=dataclasses.replace(self.model, classes=7))
'''
PLAIN = "an ArraySource without processors is sliced in the main process"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (
            "--model.classes 5",
            "--model.classes 5 has no effect: `adapt` sets it to 7; omit it",
        ),
        ("--data.validation false --val.limit 8", "--val.limit 8 has no effect: Mine has no validation data"),
        (
            "--data.validation false --trainer.val_every_n 2",
            "--trainer.val_every_n 2 has no effect: Mine has no validation data",
        ),
        (
            "--data.validation false --trainer.lav_every_n 2",
            "--trainer.lav_every_n 2 has no effect: Mine has no data for load-and-validate",
        ),
        ("--train.cache memory", f"--train.cache memory has no effect: {PLAIN}"),
    ],
)
def test_flags_without_an_effect_on_the_data_are_rejected_before_the_first_step(
    flags: str, says: str, quick_run: Run, tmp_path: Path
) -> None:
    (tmp_path / "learnt.py").write_text(LEARNT)
    environment = {"PYTHONPATH": str(Path(__file__).parent)}
    done = quick_run("train-scenario", "learnt.py", *flags.split(), cwd=tmp_path, environment=environment)
    assert done.stderr.splitlines()[-1] == f"train-scenario: {says}"
    assert done.returncode == 2


def test_a_machine_setting_without_an_effect_gives_a_warning(quick_run: Run, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(Path(__file__).parent)}
    flags = ["--train.num_processes", 2, "--val.num_processes", 0, "--val.timeout_seconds", 5, "--trainer.epochs", 1]
    done = quick_run("train-scenario", "small", *flags, cwd=tmp_path, environment=environment)
    assert f"warning: --train.num_processes 2 has no effect: {PLAIN}" in done.stderr
    assert "warning: --val.timeout_seconds 5.0 has no effect" in done.stderr
    assert "--val.num_processes" not in done.stderr
    assert done.returncode == 0


def test_an_explicit_value_that_adapt_would_learn_is_accepted(quick_run: Run, tmp_path: Path) -> None:
    (tmp_path / "learnt.py").write_text(LEARNT)
    environment = {"PYTHONPATH": str(Path(__file__).parent)}
    words = ["learnt.py", "--model.classes", 7, "--trainer.epochs", 1]
    assert quick_run("train-scenario", *words, cwd=tmp_path, environment=environment).returncode == 0
