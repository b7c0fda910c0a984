"""What the author of a scenario sees of their code: the line of an error, and what they log."""

from __future__ import annotations

import logging
import logging.config
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import REPOSITORY, Run, slow

from tfaip_like._cli.command import EXIT_ERROR, run_command
from tfaip_like._cli.train_scenario import train_scenario
from tfaip_like._utils.console import _LogFileHandler, default_console_logging, log_to_file

SCENARIO = """
import logging
import numpy as np
from tfaip_like import *

logger = logging.getLogger(__name__)

class Say(Processor):
    def process(self, sample, random):
        logger.info("a processor says hello")
        return sample

class Points(Data):
    inputs = {{"x": Spec((8, 8, 1), "uint8")}}
    targets = {{"y": Spec((), "int32")}}
    processors: list[Processor] = [Say()]
    def source(self, mode):
        x = np.random.default_rng(0).integers(0, 255, (20, 8, 8, 1), "uint8")
        return ArraySource({{"x": x}}, {{"y": x[:, 0, 0, 0] // 128}}) if mode is Mode.TRAIN else None

class Net(Model):
    def build(self, inputs):
        logger.info("the model says hello")
        logging.getLogger("a_library").warning("a library warns")
        x = {build}
        return {{"p": keras.layers.Dense(2, activation="softmax")(keras.layers.Flatten()(x))}}

    def loss(self, inputs, targets, outputs):
        return {{"ce": keras.losses.sparse_categorical_crossentropy(targets["y"], outputs["p"])}}

class Pictures(Scenario):
    data: Data = Points()
    model: Model = Net()
"""
HELLO = 'logger.info("a processor says hello")'
UNFIT = 'logger.info("a mistake: %d", "text")'
"""Breaks pytest's own handler, so it is only in what runs as a program."""
WORKS = 'ops.cast(inputs["x"], "float32")'


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        ('keras.layers.Conv2D(4, 3)(inputs["x"])', "Conv2D 'conv2d': ValueError: Incompatible type conversion"),
        ('ops.matmul(ops.ones((8, 8)), inputs["y"])', "KeyError: 'y'"),
        ('keras.layers.Reshape((3, 3))(inputs["x"])', "ValueError: The total size of the tensor must be unchanged"),
        (
            'keras.layers.Lambda(lambda x: x.nothing)(inputs["x"])',
            "AttributeError: 'SymbolicTensor' object has no attribute 'nothing'",
        ),
    ],
)
def test_an_error_of_a_layer_shows_the_line_and_the_reason(
    build: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    module = f"pictures_{abs(hash(build))}"
    (tmp_path / f"{module}.py").write_text(SCENARIO.format(build=build))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert run_command("train-scenario", train_scenario, [f"{module}.py", "--trainer.epochs", "1"]) == EXIT_ERROR
    printed = capfd.readouterr().err
    lines = printed[printed.index("train-scenario: ") :].splitlines()
    assert lines[0].startswith(f"train-scenario: {tmp_path / module}.py, line ")
    assert lines[1].strip() in f"x = {build}"
    assert reason in "\n".join(lines[2:])
    assert len(lines) <= 8
    assert "Traceback" not in printed


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a folder with scenarios as pip installs them."""
    folder = tmp_path_factory.mktemp("lib") / "site-packages"
    for name, build in (("works", WORKS), ("typo", 'inputs["z"]')):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(SCENARIO.format(build=build).replace(HELLO, f"{HELLO}; {UNFIT}"))
    (folder / "broken").mkdir()
    (folder / "broken" / "__init__.py").write_text("x = 1 / 0\n")
    return folder


@pytest.mark.parametrize(
    ("name", "line"),
    [
        slow("typo", 'x = inputs["z"]'),
        ("broken", "broken/__init__.py, line 1, in <module>\n    x = 1 / 0\nZeroDivisionError"),
    ],
)
def test_an_error_of_an_installed_scenario_shows_the_line_of_its_author(
    name: str, line: str, installed: Path, quick_run: Run, tmp_path: Path
) -> None:
    done = quick_run("train-scenario", name, cwd=tmp_path, environment={"PYTHONPATH": str(installed)})
    assert done.returncode in (1, 2)
    assert line in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("processes", [slow(0), 1])
def test_log_output_of_a_scenario_is_printed_once_and_stored(
    processes: int, installed: Path, quick_run: Run, tmp_path: Path
) -> None:
    flags = ["--trainer.epochs", 1, "--trainer.output_dir", "run", "--train.num_processes", processes]
    words = ["train-scenario", "works", *flags, "--train.batch_size", 20]
    done = quick_run(*words, cwd=tmp_path, environment={"PYTHONPATH": str(installed)})
    assert done.returncode == 0, done.stderr
    for text in (done.stderr, (tmp_path / "run" / "train.log").read_text()):
        assert text.count("the model says hello") == 1
        assert text.count("a library warns") == 1
        assert text.count("on 20 samples") == 1  # of the framework
        assert text.count("a processor says hello") >= 20
        assert text.count("cannot log 'a mistake: %d': ") >= 20


def test_the_level_of_the_environment_holds_for_scenarios(installed: Path, quick_run: Run, tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(installed), "TFAIP_LOG_LEVEL": "warning"}
    done = quick_run("train-scenario", "works", "--trainer.epochs", 1, cwd=tmp_path, environment=environment)
    assert "a library warns" in done.stderr
    assert "says hello" not in done.stderr


LIBRARY = """
import logging
logger = logging.getLogger("some.library")
def log_message(level):
    logger.log(level, "from a library")
"""


@pytest.fixture
def library(tmp_path: Path) -> dict[str, object]:
    """Provide names of a module in site-packages that belongs to no scenario."""
    file = tmp_path / "site-packages" / "some" / "library.py"
    file.parent.mkdir(parents=True)
    file.write_text(LIBRARY)
    names: dict[str, object] = {}
    exec(compile(LIBRARY, str(file), "exec"), names)
    return names


@contextmanager
def no_handlers() -> Iterator[None]:
    """As in a separate program, without pytest's handlers."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        root.handlers[:] = before
        root.setLevel(level)


def test_library_logs_are_filtered_by_level(
    library: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with no_handlers(), default_console_logging(), log_to_file(tmp_path / "log"):
        library["log_message"](logging.DEBUG)  # type: ignore[operator]
        library["log_message"](logging.INFO)  # type: ignore[operator]
        library["log_message"](logging.WARNING)  # type: ignore[operator]
        logging.getLogger("mine").info("mine")
    assert capsys.readouterr().err == "some.library: from a library\nwarning: some.library: from a library\nmine\n"
    assert [line.split(" ", 2)[2] for line in (tmp_path / "log").read_text().splitlines()] == [
        "INFO    some.library: from a library",
        "WARNING some.library: from a library",
        "INFO    mine: mine",
    ]


def test_a_log_call_with_mismatched_arguments_is_printed_with_its_location(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with no_handlers(), default_console_logging(), log_to_file(tmp_path / "log"):
        logging.getLogger("mine").warning("%d samples", "ten")
        logging.getLogger("mine").info("%s", "the next line")
    printed, logged = capsys.readouterr().err, (tmp_path / "log").read_text()
    reason = "cannot log '%d samples': %d format: a real number is required, not str\n"
    place, _, rest = printed.partition(": cannot")
    assert place.startswith(f"warning: {__file__}, line ")
    assert f"cannot{rest}" == f"{reason}the next line\n"
    assert reason in logged
    assert "the next line" in logged


def test_noisy_libraries_are_limited_to_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with no_handlers(), default_console_logging(), log_to_file(tmp_path / "log"):
        logging.getLogger("urllib3.connectionpool").info("connecting")
        logging.getLogger("urllib3.connectionpool").warning("retrying")
    assert "connecting" not in capsys.readouterr().err + (tmp_path / "log").read_text()
    assert "retrying" in (tmp_path / "log").read_text()


def test_a_warning_of_python_is_reported_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with no_handlers(), default_console_logging(), log_to_file(tmp_path / "log"):
        for _ in range(3):
            with warnings.catch_warnings():  # which forgets what was warned of
                warnings.simplefilter("always")
                warnings.warn("deprecated", stacklevel=1)
    printed = capsys.readouterr().err
    assert printed.startswith(f"warning: {__file__}:")
    assert printed.endswith("UserWarning: deprecated\n")
    assert printed.count("\n") == 1
    assert (tmp_path / "log").read_text().count("UserWarning: deprecated") == 1


def test_our_lines_are_in_the_log_of_a_run_though_a_scenario_configures_logging(tmp_path: Path) -> None:
    logging.getLogger("tfaip_like.some_module")
    with no_handlers():
        logging.config.dictConfig({"version": 1})  # which disables all loggers that there are
        with log_to_file(tmp_path / "log"):
            logging.getLogger("tfaip_like.some_module").info("ours")
    assert "ours" in (tmp_path / "log").read_text()
    for logger in logging.root.manager.loggerDict.values():  # of other tests
        if isinstance(logger, logging.Logger):
            logger.disabled = False


def test_a_handler_of_the_scenario_prints_instead_of_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with no_handlers(), default_console_logging():
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("MINE %(message)s"))
        logging.getLogger().addHandler(handler)
        logging.getLogger("mine").warning("once")
    assert capsys.readouterr().err == "MINE once\n"


def test_importing_configures_nothing(tmp_path: Path, run: Run) -> None:
    program = "import logging, tfaip_like; root = logging.getLogger(); print(root.handlers, root.level)"
    assert run("python", "-c", program, environment={"PYTHONPATH": str(REPOSITORY)}).stdout == "[] 30\n"


LOGGING_SCENARIO = """
import logging, warnings
from small import *

class Speak(Processor):
    def process(self, sample, random):
        logging.getLogger("scenario_code").info("log of a processor")
        warnings.warn("a processor warns")
        return sample

class Reported(Largest):
    def evaluate(self, samples):
        logging.getLogger("scenario_code").info("log of an evaluator")
        return super().evaluate(samples)

class Spoken(Small):
    data: Data = Points(processors=[Speak()], samples=16)
    evaluator: Evaluator | None = Reported()
"""


@pytest.mark.slow
def test_every_command_prints_what_is_logged(quick_run: Run, tmp_path: Path) -> None:
    (tmp_path / "logging_scenario.py").write_text(LOGGING_SCENARIO)
    environment = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parent}"}

    def output_of(*words: object) -> str:
        done = quick_run(*words, cwd=tmp_path, environment=environment)
        assert done.returncode == 0, done.stderr
        return done.stderr

    train = ["train-scenario", "logging_scenario", "--trainer.epochs", 1, "--trainer.output_dir", "run"]
    for text in (output_of(*train, "--train.num_processes", 1), (tmp_path / "run" / "train.log").read_text()):
        assert "log of a processor" in text
        assert text.count("UserWarning: a processor warns") == 1
        assert "log of an evaluator" in text
    assert "scenario_code: log of a processor" in (tmp_path / "run" / "train.log").read_text()
    log_before = (tmp_path / "run" / "train.log").read_text()
    assert "log of an evaluator" in output_of("resume-training", "run", "--trainer.epochs", 2)
    assert (tmp_path / "run" / "train.log").read_text().startswith(log_before)
    assert "log of an evaluator" in output_of("lav-scenario", "run")
    (tmp_path / "samples.jsonl").write_text('{"x": [0.5, 0.5]}\n')
    assert "log of a processor" in output_of("predict-scenario", "run", "--predict.files", "samples.jsonl")
    assert "log of a processor" in output_of("benchmark-input-pipeline", "logging_scenario", "--benchmark.samples", 32)
    assert "log of a processor" in output_of("inspect-samples", "logging_scenario", "--inspect.count", 2)


def test_loggers_with_a_handler_are_not_printed_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("prints_itself")
    logger.addHandler(logging.StreamHandler(sys.stderr))
    with no_handlers(), default_console_logging(), log_to_file(tmp_path / "log"):
        logger.warning("once")
    assert capsys.readouterr().err == "once\n"
    assert (tmp_path / "log").read_text().count("once") == 1


def test_logging_configured_by_an_application_is_not_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with no_handlers():
        logging.basicConfig(stream=sys.stderr, level=logging.ERROR, format="APP %(message)s")
        handlers = list(logging.getLogger().handlers)
        with default_console_logging(), log_to_file(tmp_path / "log"):
            logging.getLogger("mine").warning("not asked for")
            logging.getLogger("mine").error("asked for")
        assert logging.getLogger().handlers == handlers
        assert logging.getLogger().level == logging.ERROR
    assert capsys.readouterr().err == "APP asked for\n"


def test_a_log_file_that_cannot_be_written_is_reported_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    handler = _LogFileHandler(tmp_path / "train.log")
    os.close(handler.stream.fileno())
    for _ in range(2):
        handler.emit(logging.makeLogRecord({"msg": "a line", "levelno": logging.INFO}))
    printed = capsys.readouterr().err
    assert printed == f"warning: {tmp_path / 'train.log'}: Bad file descriptor; log lines are lost\n"
    handler.stream = None
