"""The command `train-scenario`, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY, Run, reset_signal_handlers, slow

from tfaip_like._utils.interruption import graceful_shutdown_signals

COMMAND = str(Path(sys.executable).parent / "train-scenario")

OWN_SCENARIO = '''
"""My own numbers."""
import numpy as np
from tfaip_like import ArraySource, Data, Model, Scenario, Spec, keras

class Numbers(Data):
    inputs = {"x": Spec((2,))}
    targets = {"y": Spec((1,))}
    def source(self, mode):
        x = np.random.default_rng(0).random((64, 2), dtype="float32")
        return ArraySource({"x": x}, {"y": x.sum(axis=1, keepdims=True)})

class Net(Model):
    def build(self, inputs):
        return {"y": keras.layers.Dense(1)(inputs["x"])}
    def loss(self, inputs, targets, outputs):
        return {"square": (targets["y"] - outputs["y"])[:, 0] ** 2}

class Mine(Scenario):
    data: Data = Numbers()
    model: Model = Net()
'''


def test_help_of_a_scenario_loads_no_framework(run: Run) -> None:
    code = (
        "import sys; from tfaip_like._cli.train_scenario import train_scenario;"
        "train_scenario(['scenarios.tutorial', '--help']);"
        "slow = {'tensorflow', 'keras', 'jax', 'torch', 'sklearn', 'marshmallow', 'yaml', 'multiprocessing'};"
        "loaded = slow & set(sys.modules);"
        "assert not loaded, loaded"
    )
    done = run(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr
    assert "--data.name digits | mnist | fashion_mnist  [digits]" in done.stdout
    assert "--model.graph MLP | CNN  [MLP]" in done.stdout


def test_help_follows_the_chosen_variants_and_searches(quick_run: Run) -> None:
    assert "--model.graph.filters" in quick_run(COMMAND, "scenarios.tutorial", "--model.graph", "CNN", "--help").stdout
    found = quick_run(COMMAND, "scenarios.tutorial", "--help", "clip").stdout
    assert found.count("--") >= 3
    assert "--trainer.epochs" not in found


def test_show_prints_every_value_with_its_origin_and_stops(quick_run: Run, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("trainer:\n  epochs: 4\n")
    done = quick_run(COMMAND, "scenarios.minimal", "--params", tmp_path / "p.yaml", "--model.units", 8, "--show")
    assert re.search(r"--trainer.epochs 4 +# file .*p.yaml\n", done.stdout)
    assert re.search(r"--model.units 8 +# flag\n", done.stdout)
    assert re.search(r"--train.batch_size 16 +# default\n", done.stdout)
    assert done.stderr == ""


def test_version_and_completion(quick_run: Run) -> None:
    short, long = (quick_run(COMMAND, "scenarios.minimal", flag).stdout for flag in ("-h", "--help"))
    assert short == long
    assert re.fullmatch(r"train-scenario \d+\.\d+\.\d+\n", quick_run(COMMAND, "--version").stdout)
    for shell in ("bash", "zsh", "fish"):
        assert "train-scenario" in quick_run(COMMAND, "--completion", shell).stdout


def test_bash_completes_flags_and_choices() -> None:
    def complete(*words: str) -> list[str]:
        array = " ".join(f"'{word}'" for word in words)
        code = (
            f"source <({COMMAND} --completion bash); COMP_WORDS=('{COMMAND}' {array}); COMP_CWORD={len(words)};"
            "_tfaip_like_train_scenario; printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        return subprocess.run(
            ["bash", "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
        ).stdout.split()

    assert complete("scenarios.tutorial", "--model.gr") == ["--model.graph", "--model.graph.units"]
    assert complete("scenarios.tutorial", "--model.graph", "C") == ["CNN"]
    assert complete("scenarios.tutorial", "--model.graph", "CNN", "--model.graph.f") == ["--model.graph.filters"]
    assert complete("scenarios.tutorial", "--sh") == ["--show"]


@pytest.mark.parametrize("name", ["own/mine.py", slow("own/mine"), "mine", slow("mine:Mine")])
def test_a_custom_scenario_trains_by_path_and_by_name(name: str, quick_run: Run, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.py").write_text(OWN_SCENARIO)
    folder = tmp_path if name.startswith("own") else tmp_path / "own"
    done = quick_run(COMMAND, name, "--trainer.epochs", 1, "--trainer.output_dir", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "run" / "run.json").read_text())["scenario"] == "mine:Mine"


@pytest.mark.slow
def test_a_parameter_file_of_a_run_is_enough_to_repeat_it(quick_run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN_SCENARIO)
    first = quick_run(COMMAND, "mine", "--trainer.epochs", 2, "--trainer.output_dir", "a", cwd=tmp_path)
    again = quick_run(COMMAND, "--params", "a/trainer_params.json", "--trainer.output_dir", "b", cwd=tmp_path)
    assert first.returncode == again.returncode == 0, again.stderr

    def losses(folder: str) -> list[str]:
        lines = (tmp_path / folder / "history.csv").read_text().splitlines()
        return [line.split(",")[1] for line in lines]

    assert losses("a") == losses("b")


@pytest.mark.slow
def test_output_is_plain_lines_without_a_terminal(run: Run) -> None:
    done = run(COMMAND, "scenarios.minimal", "--trainer.epochs", 2)
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert not [line for line in lines if "\r" in line or "\x1b" in line]
    assert [line for line in lines if line.startswith("epoch 2/2: loss ")]
    examples = [line for line in lines if line.startswith("example ")]
    assert len(examples) == 6
    assert len(lines) == 9 + len(examples), done.stderr  # nothing of the libraries in between


def test_an_error_in_user_code_shows_its_line_first(quick_run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN_SCENARIO.replace("** 2}", "** undefined_name}"))
    done = quick_run(COMMAND, "mine", "--trainer.output_dir", "run", cwd=tmp_path)
    assert done.returncode == 1
    printed = done.stderr[done.stderr.index("train-scenario: ") :].splitlines()
    assert printed[0] == f"train-scenario: {tmp_path}/mine.py, line 17, in loss"
    assert printed[1].strip().startswith('return {"square"')
    assert printed[2] == "NameError: name 'undefined_name' is not defined"
    assert "Traceback" not in done.stderr
    assert "Traceback" in (tmp_path / "run" / "train.log").read_text()
    loud = quick_run(COMMAND, "mine", cwd=tmp_path, environment={"TFAIP_LOG_LEVEL": "debug"})
    assert "Traceback" in loud.stderr


ENDLESS = ["scenarios.minimal", "--trainer.epochs", 5000, "--trainer.jit_compile", "false"]
"""Begins soon, and ends when it is stopped."""


def start(*words: object) -> subprocess.Popen[str]:
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(
        [COMMAND, *map(str, words)], cwd=REPOSITORY, text=True, preexec_fn=reset_signal_handlers, **pipes
    )


def wait_for_epoch(process: subprocess.Popen[str], epoch: int) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(f"epoch {epoch}/"):
            return
    raise AssertionError("the training ended")


def test_ctrl_c_ends_cleanly(tmp_path: Path) -> None:
    process = start(*ENDLESS, "--trainer.output_dir", tmp_path / "run")
    wait_for_epoch(process, 2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.splitlines()[-2] == "train-scenario: stopped by SIGINT"
    assert errors.splitlines()[-1].startswith(f"Run `resume-training {tmp_path / 'run'}` to continue after ")
    assert "Traceback" not in errors
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "stopped"
    epochs = len((tmp_path / "run" / "history.csv").read_text().splitlines()) - 1
    assert list((tmp_path / "run" / "checkpoints").glob(f"epoch_{epochs:04d}*"))
    assert not list((tmp_path / "run").rglob(".*new-*"))


@pytest.mark.parametrize("seconds", [0.1, slow(0.5), slow(1.5), slow(2.5)])
def test_ctrl_c_while_starting_ends_cleanly(seconds: float) -> None:
    process = start(*ENDLESS)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    # Python itself reports a signal before our first line runs.
    is_python = "import main" in errors or "init_import_site" in errors
    assert process.returncode in (130, -signal.SIGINT) or is_python, errors
    assert "Traceback" not in errors or is_python, errors


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGUSR1", 143), ("SIGHUP", 143)])
def test_the_exit_code_of_a_signal_is_recorded(name: str, code: int, tmp_path: Path) -> None:
    process = start(*ENDLESS, "--trainer.output_dir", tmp_path / "run")
    wait_for_epoch(process, 1)
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code
    assert re.search(
        rf"stopped after epoch \d+\n(.*\n)*train-scenario: stopped by {name}\nRun `resume-training .*\n$", errors
    )
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "stopped"
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["best"]["epoch"] >= 1


def test_a_signal_that_was_ignored_from_the_start_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with graceful_shutdown_signals() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            interrupt.check()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
def test_a_closed_pipe_does_not_stop_the_training(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN_SCENARIO)
    command = f"{COMMAND} mine.py --trainer.epochs 3 --trainer.output_dir run 2>&1 | head -2"
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True, capture_output=True)
    deadline = time.monotonic() + 240
    while json.loads((tmp_path / "run" / "run.json").read_text()).get("status") == "running":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "done"


@pytest.fixture(scope="module")
def killed(quick_run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Provide the folder of a killed training; and what another one, which began in it before the kill, printed."""
    folder = tmp_path_factory.mktemp("killed") / "run"
    process = start(*ENDLESS, "--trainer.output_dir", folder)
    wait_for_epoch(process, 4)
    other = quick_run(COMMAND, *ENDLESS, "--trainer.output_dir", folder)
    process.kill()
    process.communicate()
    return folder, other.stderr


def test_a_directory_with_a_running_training_is_rejected(killed: tuple[Path, str]) -> None:
    assert "another process is training in this directory" in killed[1]


def test_a_killed_run_has_the_status_killed(killed: tuple[Path, str], quick_run: Run) -> None:
    again = quick_run(COMMAND, *ENDLESS, "--trainer.output_dir", killed[0])
    assert "already contains a run (status killed)" in again.stderr


def test_a_killed_training_leaves_complete_files(killed: tuple[Path, str]) -> None:
    run, _ = killed
    json.loads((run / "run.json").read_text())
    folders = list((run / "checkpoints").glob("epoch_*"))
    assert folders
    for folder in folders:
        names = ["checksums.json", "params.json", "state.json", "variables.npz"]
        assert sorted(path.name for path in folder.iterdir()) == names
    assert (run / "best" / "model.keras").exists() or (run / ".best.previous").exists()


LAYER = """
import keras as real_keras

@real_keras.saving.register_keras_serializable("mine")
class Twice(real_keras.layers.Layer):
    def call(self, x):
        return 2 * x
"""


@pytest.mark.slow
def test_a_scenario_with_custom_layers_trains_on_another_backend(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("jax")
    text = OWN_SCENARIO.replace("class Numbers", f"{LAYER}\nclass Numbers")
    (tmp_path / "mine.py").write_text(text.replace('(inputs["x"])', '(Twice()(inputs["x"]))'))
    words = ["--trainer.epochs", 1, "--trainer.output_dir", "run"]
    done = run(COMMAND, "mine.py", "--device.backend", "jax", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "jax backend" in done.stderr
    assert (tmp_path / "run" / "export" / "serve" / "saved_model.pb").exists()
    environment = {"KERAS_BACKEND": "jax"}
    assert "--device.backend jax " in run(COMMAND, "mine.py", "--show", cwd=tmp_path, environment=environment).stdout


def test_the_parameters_of_a_run_find_its_scenario_from_any_folder(quick_run: Run, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "mine.py").write_text(OWN_SCENARIO)
    words = ["--trainer.epochs", 1, "--trainer.output_dir", "run"]
    assert quick_run(COMMAND, "deep/mine.py", *words, cwd=tmp_path).returncode == 0
    shown = quick_run(COMMAND, "--params", tmp_path / "run" / "trainer_params.json", "--show", cwd=Path("/"))
    assert shown.returncode == 0, shown.stderr


def test_a_method_without_self_is_reported_briefly(quick_run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN_SCENARIO.replace("def source(self, mode)", "def source(mode)"))
    done = quick_run(COMMAND, "mine", cwd=tmp_path)
    assert done.returncode == 2
    assert "mine.py, line " in done.stderr
    assert "Numbers.source is called with (self, mode); it takes (mode)\n" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_debugger_sees_exceptions_where_they_happen(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN_SCENARIO.replace("** 2}", "** undefined_name}"))
    commands = [part for command in ("continue", "print(len(x_here := 'here'))", "quit") for part in ("-c", command)]
    script = REPOSITORY / "scripts" / "train_scenario.py"
    done = run(sys.executable, "-m", "pdb", *commands, script, "mine", "--trainer.force_eager", "true", cwd=tmp_path)
    assert "NameError: name 'undefined_name' is not defined" in done.stdout + done.stderr
    assert "post mortem" in done.stdout


def test_a_disk_that_is_too_small_is_reported_at_the_start(quick_run: Run, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(7_500_000))
    done = quick_run(COMMAND, "scenarios.minimal", "--model.units", 700, "--trainer.output_dir", small_disk / "run")
    assert done.returncode == 2
    assert re.search(
        r"not enough disk space: \d+ kB free, at least [\d.]+ [kM]B needed for one checkpoint and the exports",
        done.stderr,
    )


@pytest.mark.slow
def test_a_full_disk_pauses_the_training_and_loses_nothing(small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(6_000_000))
    words = ["--model.units", 700, "--trainer.epochs", 3, "--trainer.jit_compile", "false"]
    process = start("scenarios.minimal", *words, "--trainer.output_dir", small_disk / "run")
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "paused until space is available" in line:
            filler.unlink()
    assert process.wait(timeout=240) == 0, lines
    text = "".join(lines)
    assert "no space left on device. Training is paused until space is available" in text
    assert "Traceback" not in text
    assert len((small_disk / "run" / "history.csv").read_text().splitlines()) == 4
    assert sorted(path.name for path in (small_disk / "run" / "checkpoints").iterdir())[-1] == "epoch_0003"
    for file in (small_disk / "run").rglob("*.json"):
        json.loads(file.read_text())


@pytest.mark.slow
def test_python_in_a_debugger_trains_by_a_plain_script(run: Run) -> None:
    script, words = (
        REPOSITORY / "scripts" / "train_scenario.py",
        ["--trainer.epochs", 1, "--trainer.jit_compile", "false"],
    )
    done = run(sys.executable, script, "scenarios.minimal", *words)
    assert done.returncode == 0, done.stderr
