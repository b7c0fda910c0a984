"""What a person at a terminal sees: lines of epochs, colors, bars, and help in a pager."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from conftest import Run
from hypothesis import example, given
from hypothesis import strategies as st
from terminals import COLOR, resize, run_in_terminal, screen_lines, train_in_terminal

from tfaip_like._cli.experiments import COMMANDS, experiments
from tfaip_like._cli.lav_scenario import COMMAND as LAV
from tfaip_like._cli.predict_scenario import COMMAND as PREDICT
from tfaip_like._cli.train_scenario import COMMAND as TRAIN
from tfaip_like._training.epoch_line import EpochLine, shorten
from tfaip_like._utils.escaping import is_printable
from tfaip_like._utils.progress_bar import display_width
from tfaip_like._utils.terminal import DEFAULT_COLUMNS, Style, terminal_columns, terminal_style
from tfaip_like.list_files import ListFileScenario
from tfaip_like.params._base import default_instance
from tfaip_like.params._help import group_flags
from tfaip_like.scenario import Scenario

# Lines of epochs.

BOOKKEEPING = {"epoch": 3, "lr": 0.001, "seconds": 12.5, "samples_per_second": 1234.5, "input_bound": 0.01}
ROW = {**BOOKKEEPING, "loss": 0.25, "val_loss": 0.5, "accuracy": 0.75, "val_accuracy": 0.875}


def console_line(row: Mapping[str, float], is_best: bool = False, columns: int = 80, monitor: str = "val_loss") -> str:
    return EpochLine(20, ["a", "b"], monitor).format_for_console(row, is_best, columns, Style(is_colored=False))


def test_a_line_shows_loss_val_loss_and_the_monitored_value_first() -> None:
    line = console_line(ROW, is_best=True, monitor="val_accuracy")
    assert line.startswith("epoch 3/20:  loss 0.2500  val_loss 0.5000  val_accuracy 0.8750*  ")
    assert line.endswith("  12.5 s")


def test_lines_of_epochs_align() -> None:
    def columns(row: Mapping[str, float], is_best: bool) -> list[int]:
        return [match.start() for match in re.finditer("[a-z_]+ ", console_line(row, is_best))]

    assert columns(ROW, True) == columns({**ROW, "epoch": 12, "loss": 30, "val_loss": 1.75, "accuracy": 1}, False)


def test_what_does_not_fit_is_counted() -> None:
    many = {**ROW, **{f"metric_{number}": 0.5 for number in range(30)}}
    line = console_line(many)
    shown = re.findall(r"[a-z_\d.]+ [\d.]+", line.removesuffix("  12.5 s").partition(":")[2])
    hidden = [name for name in BOOKKEEPING if name != "lr"]
    assert int(re.search(r"\+(\d+)", line)[1]) + len(shown) == len(many) - len(hidden)  # type: ignore[index]


def test_the_monitored_value_is_shown_rather_than_val_loss() -> None:
    row = {**ROW, "epoch": 12.247, "step": 200, "val_accuracy": 0.95}
    line = EpochLine(200, ["a", "b"], "val_accuracy").format_for_console(row, True, 80, Style(is_colored=False))
    assert "0.9500*" in line
    assert "val_loss" not in line


def test_waiting_for_data_is_shown_if_it_takes_long() -> None:
    assert "input-bound" not in console_line(ROW)
    assert "input-bound 73 %" in console_line({**ROW, "input_bound": 0.73})


def test_a_single_loss_that_equals_the_total_is_shown_once() -> None:
    line = EpochLine(20, ["square"], "val_loss")
    row = {**ROW, "square": 0.25, "val_square": 0.5}
    assert "square" not in line.format_for_console(row, False, 200, Style(is_colored=False))
    assert "square" not in line.format_complete(row, False)


def test_the_log_file_has_all_values() -> None:
    many = {**ROW, **{f"metric_{number}": 0.5 for number in range(30)}}
    line = EpochLine(20, ["a", "b"], "val_loss").format_complete(many, is_best=True)
    assert all(f"{name} " in line for name in many if name not in BOOKKEEPING)
    assert line.endswith("| lr 0.001, 1234 samples/s, input-bound 1 %  (best so far)")


VALUES = st.floats(allow_nan=True, allow_infinity=True)
NAMES = st.text(min_size=1, max_size=60)


@given(
    st.dictionaries(NAMES, VALUES, max_size=20),
    st.integers(50, 200),
    st.integers(1, 1000),
    st.booleans(),
    NAMES,
    VALUES,
)
@example({}, 80, 1, True, "\x1f\u0e5c", -1e4)  # a character that is two columns wide
def test_a_line_fits_every_terminal(
    metrics: dict[str, float], columns: int, epoch: int, is_best: bool, monitor: str, loss: float
) -> None:
    row = {**metrics, f"val_{monitor}": 0.5, **BOOKKEEPING, "epoch": epoch, "loss": loss, "val_loss": 0.5}
    formatter = EpochLine(1000, ["a", "b"], f"val_{monitor}")
    plain = formatter.format_for_console(row, is_best, columns, Style(is_colored=False))
    assert display_width(plain) < columns
    assert is_printable(plain)
    assert COLOR.sub("", formatter.format_for_console(row, is_best, columns, Style(is_colored=True))) == plain
    assert " loss " in plain
    if columns >= 80:
        assert " val_loss " in plain
        assert ("*" in plain) >= is_best


@given(st.text(min_size=1), st.integers(4, 30))
def test_shortened_names_keep_both_ends(name: str, length: int) -> None:
    short = shorten(name, length)
    assert display_width(short) <= length
    head, _, tail = short.rpartition("..")
    assert short == name or (name.startswith(head) and name.endswith(tail))


# Colors.


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "variables", "platform", "is_colored"),
    [
        (Terminal(), {"TERM": "xterm"}, "linux", True),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": ""}, "linux", True),
        (Terminal(), {"TERM": "xterm", "NO_COLOR": "1"}, "linux", False),
        (Terminal(), {"TERM": "dumb"}, "linux", False),
        (Terminal(), {}, "linux", False),
        (Terminal(), {}, "win32", False),
        (Terminal(), {"WT_SESSION": "id"}, "win32", True),
        (Terminal(), {"WT_SESSION": "id", "NO_COLOR": "1"}, "win32", False),
        (io.StringIO(), {"TERM": "xterm"}, "linux", False),
    ],
)
def test_colors_are_for_terminals_that_show_them(
    stream: io.StringIO,
    variables: Mapping[str, str],
    platform: str,
    is_colored: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("TERM", "NO_COLOR", "WT_SESSION", "ANSICON", "TERM_PROGRAM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert terminal_style(stream).is_colored is is_colored


def test_width_without_a_terminal() -> None:
    assert terminal_columns(io.StringIO()) == terminal_columns(Terminal()) == DEFAULT_COLUMNS


# A training.


@pytest.fixture
def slow_validation(tmp_path: Path) -> Path:
    """Provide a scenario whose validation takes longer than it takes to show a bar."""
    shutil.copy(Path(__file__).with_name("small.py"), tmp_path / "small.py")
    (tmp_path / "slow.py").write_text(
        """
import time
from small import Largest, Small
from tfaip_like import Evaluator

class Waits(Largest):
    def evaluate(self, samples):
        def waiting():
            for sample in samples:
                time.sleep(0.02)
                yield sample
        return super().evaluate(waiting())

class Slow(Small):
    evaluator: Evaluator | None = Waits()
"""
    )
    return tmp_path


def test_a_training_in_a_terminal(slow_validation: Path) -> None:
    run_dir = slow_validation / "run"
    flags = ["--trainer.epochs", 2, "--trainer.output_dir", run_dir, "--val.batch_size", 4, "--optimizer.clip_value", 9]
    narrow: list[int] = []

    def shrink(terminal: int, output: str) -> None:
        if "epoch 1/2: " in output and not narrow:
            resize(terminal, columns=60)
            narrow.append(len(output))

    code, output = train_in_terminal(
        "train-scenario",
        slow_validation / "slow.py:Slow",
        *flags,
        environment={"PYTHONPATH": str(slow_validation)},
        on_output=shrink,
    )
    assert code == 0, output
    wide, small = screen_lines(output[: narrow[0]]), screen_lines(output[narrow[0] :])
    first = next(line for line in wide if line.startswith("epoch 1/2: "))
    second = next(line for line in small if line.startswith("epoch 2/2: "))
    assert len(first) < 80
    assert len(second) < 60
    assert re.search(r"val_loss \S+\*", first)
    assert "\x1b[1;32mval_loss" in output
    bars = [COLOR.sub("", part) for part in re.split(r"[\r\n]", output)]
    assert any(re.fullmatch(r"epoch 1/2(, \d\d:\d\d left)?, val +\d+%\|.*\| batch \d+/25 *", bar) for bar in bars), bars
    assert any(re.match(r"epoch [12]/2, \d\d:\d\d left +50%\|.*\| step 12/24", bar) for bar in bars), bars
    log = (run_dir / "train.log").read_text()
    assert "\x1b" not in log
    assert "epoch 1/2: loss" in log
    assert "largest_error" in log


def test_errors_and_warnings_stand_out() -> None:
    code, output = train_in_terminal("train-scenario", "scenarios.minimal", "--trainer.epoch", 1)
    assert code == 2
    assert output.startswith("\x1b[1;31mtrain-scenario:\x1b[0m --trainer.epoch: unknown flag")
    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        code, output = train_in_terminal(
            "train-scenario", "scenarios.minimal", "--trainer.epoch", 1, environment=variables
        )
        assert output.startswith("train-scenario: --trainer.epoch: unknown flag")


# Help.


def test_help_shows_the_flags_of_the_scenario_first(quick_run: Run) -> None:
    text = quick_run("train-scenario", "scenarios.tutorial", "--help").stdout
    places = [text.index(f"\n{name}: ") for name in ("data", "model", "evaluator", "common")]
    assert places == sorted(places)
    assert places[-1] < text.index("\nfurther flags, by group:") < text.index("\n  --show ")
    assert "--data.name" in text
    assert "--data.on_bad_sample" not in text  # of all data
    assert "--trainer.epochs INT  [100]" in text
    assert "--trainer.keep_checkpoints" not in text
    assert re.search(r"\n  trainer +\d+  Training loop and run directory\.\n", text)


@pytest.mark.parametrize("topic", ["trainer", "callbacks", "data"])
def test_help_of_a_group_lists_its_flags(topic: str, quick_run: Run) -> None:
    text = quick_run("train-scenario", "scenarios.tutorial", "--help", topic).stdout
    assert text.startswith(f"{topic}: ")
    flags = re.findall(r"^  --([a-z_]+)", text, re.MULTILINE)
    assert set(flags) == {topic}
    assert f"--{topic}" in text


def test_help_of_all_lists_every_flag(quick_run: Run) -> None:
    text = quick_run("train-scenario", "scenarios.tutorial", "--help", "all").stdout
    shown = quick_run("train-scenario", "scenarios.tutorial", "--show").stdout
    assert {line.split()[0] for line in shown.splitlines()} <= set(re.findall(r"^  (--\S+)", text, re.MULTILINE))


def test_help_fits_80_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for words in (["scenarios.text_lines"], ["scenarios.tutorial"], []):
        TRAIN.read([*words, "--help"])
        TRAIN.read([*words, "--help", "all"])
    LAV.read(["--help", "all"])
    PREDICT.read(["--help", "all"])
    experiments(["--help"])
    for command in COMMANDS:
        experiments([command.name, "--help"])
    assert not [line for line in capsys.readouterr().out.splitlines() if len(line) > 80]


def test_common_flags_exist() -> None:
    flags = {leaf.flag for group in group_flags(default_instance(ListFileScenario)).values() for leaf in group.leaves}
    assert {f"--{flag}" for flag in Scenario.common_flags} <= flags


def test_topics_of_help_are_completed(capsys: pytest.CaptureFixture[str]) -> None:
    TRAIN.read(["--complete", "scenarios.tutorial", "--help", "tra"])
    assert capsys.readouterr().out.split() == ["trainer", "train"]


HELP = ["train-scenario", "scenarios.minimal", "--help", "all"]


@pytest.fixture(scope="module")
def pager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Provide a pager that shows one line, says so, and waits for a key or Ctrl-C."""
    path = tmp_path_factory.mktemp("pager") / "pager.py"
    path.write_text(
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "print('PAGED', sys.argv[1:], os.environ['LESS'], sys.stdin.readline(), flush=True)\n"
        "sys.stdin.close()\n"
        "open('/dev/tty').readline()\n"
    )
    return path


@pytest.mark.parametrize("key", [b"\n", b"\x03"])
def test_help_in_a_terminal_is_paged(key: bytes, pager: Path) -> None:
    typed: list[bytes] = []

    def leave(terminal: int, output: str) -> None:
        if "[--FLAG VALUE" in output and not typed:
            typed.append(key)
            os.write(terminal, key)

    environment = {"PAGER": f"{sys.executable} {pager} 'two words'"}
    code, output = run_in_terminal(*HELP, environment=environment, on_output=leave)
    assert code == 0
    assert "PAGED ['two words'] -R -F -X train-scenario scenarios.minimal" in output
    assert "train-scenario:" not in output
    assert "tfaip_like" not in output


@pytest.mark.parametrize("value", ["", "cat", "/no/such/pager", "'unclosed", "false"])
def test_help_is_printed_without_a_pager(value: str) -> None:
    code, output = run_in_terminal(*HELP, environment={"PAGER": value})
    assert code == 0
    assert ("--trainer.epochs" in output) == (value != "false")


@pytest.mark.skipif(shutil.which("less") is None, reason="less is not installed")
def test_less_is_the_default_pager() -> None:
    def leave(terminal: int, output: str) -> None:
        os.write(terminal, b"q")

    code, output = run_in_terminal(*HELP, on_output=leave)
    assert code == 0
    assert "train-scenario scenarios.minimal" in output
    assert "--device.soft_placement" not in output  # the last page was not reached


def test_piped_help_is_not_paged(quick_run: Run) -> None:
    done = quick_run(*HELP, environment={"PAGER": "false"})
    assert "--device.soft_placement" in done.stdout
