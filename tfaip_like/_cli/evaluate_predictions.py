"""`evaluate-predictions EXPORT_DIR FILE... [flags]`: evaluate stored predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from tfaip_like._cli.command import run_program
from tfaip_like._cli.command_line import ParamsCommand
from tfaip_like._cli.result_table import CollectedErrors, ResultRow, format_results, write_results, write_summaries
from tfaip_like._commands.named_exports import load_named_scenario
from tfaip_like._export.layout import VERSIONS, Shape, read_versions, resolve_export_dir
from tfaip_like._scenario_lookup import find_scenario
from tfaip_like._training.checkpointing.checkpoints import open_checkpoint
from tfaip_like._user_code.code_errors import CodeError
from tfaip_like._user_code.trust import allow_untrusted_code
from tfaip_like._utils.console import echo
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.interruption import InterruptFlag, graceful_shutdown_signals
from tfaip_like._utils.remote_paths import to_path
from tfaip_like.data._sample import Mode, Sample
from tfaip_like.evaluation._evaluation import EvaluationResult, run_evaluator
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.inference._stored_predictions import JSON_LINES_SUFFIX, NPZ_SUFFIX, check_shapes, read_predictions
from tfaip_like.params import Params
from tfaip_like.params._base import default_instance
from tfaip_like.scenario import Scenario


class EvaluationOptions(Params):
    """Options for evaluating stored predictions."""

    evaluator: Evaluator | None = None
    """Evaluator of the predictions. Default: the evaluator of the scenario."""

    json: Path | None = None
    """JSON file for the results."""

    summaries: Path | None = None
    """Directory for the summaries of the evaluator: images, tables, curves."""


def _load_scenario(word: str) -> Scenario:
    """Return the scenario of an export, a run or a checkpoint, or the scenario with this name."""
    if Path(word).suffix in (JSON_LINES_SUFFIX, NPZ_SUFFIX):
        raise UsageError(f"{word}: is a predictions file. usage: {COMMAND.program} {COMMAND.placeholder}")
    if Path(word).name != word and not word.endswith(".py") and not Path(word).exists():
        raise UsageError(f"{word}: no such run, export or scenario")
    if Path(word).is_dir() and not (Path(word) / "scenario.py").is_file():
        return load_named_scenario(Path(word))
    return default_instance(find_scenario(word))


def _default_options(words: Sequence[str]) -> EvaluationOptions:
    return EvaluationOptions(evaluator=_load_scenario(words[0]).evaluator) if words else EvaluationOptions()


COMMAND = ParamsCommand(
    program="evaluate-predictions",
    purpose="Evaluate stored predictions, without loading a model. FILE is written by lav-scenario --dump (.jsonl or "
    ".npz), which includes targets, or, if the evaluator needs no targets, by predict-scenario --output. The first "
    "argument is the export, run or scenario whose evaluator is used.",
    placeholder="EXPORT_DIR|SCENARIO FILE...",
    tree=_default_options,
    runs_code=True,
)


def evaluate_predictions(argv: Sequence[str]) -> None:
    """Evaluate the files that the command line names, and print a table."""
    line = COMMAND.read(argv)
    if line is None:
        return
    if len(line.words) < 2:
        missing = "FILE" if line.words else "EXPORT_DIR or SCENARIO"
        raise UsageError(f"missing argument {missing}. usage: {COMMAND.program} {COMMAND.placeholder}")
    with allow_untrusted_code(line.is_trusting):
        settings = cast(EvaluationOptions, line.apply_to(_default_options(line.words)))
    if settings.evaluator is None:
        raise UsageError(f"{line.words[0]}: the scenario has no evaluator; pass --evaluator module:Class")
    files = [to_path(word) for word in line.words[1:]]
    if settings.summaries and len(files) > 1:
        raise UsageError(f"--summaries {settings.summaries}: requires a single predictions file, got {len(files)}")
    results, failures = [], CollectedErrors()
    shapes = _read_shapes(line.words[0], _load_scenario(line.words[0]))
    with graceful_shutdown_signals() as interrupt:
        for file in files:
            with failures.collected():
                result = _evaluate_file(file, settings.evaluator, shapes, interrupt)
                write_summaries(settings.summaries, "", result.summaries)
                results.append(ResultRow(file, "", None, dict(result.numbers), []))
        interrupt.disarm()
    if results:
        echo(format_results(results))
        write_results(settings.json, results)
    failures.raise_collected()


def _read_shapes(word: str, scenario: Scenario) -> dict[str, Mapping[str, Shape]]:
    """Return the shapes of stored targets and outputs; none if a postprocessor may have changed them."""
    data = scenario.data
    if any(data.validate_processors("post_pipeline", mode) for mode in (Mode.EVALUATE, Mode.PREDICT)):
        return {}
    targets = {name: spec.shape for name, spec in data.validate_specs("targets").items()}
    if not Path(word).is_dir() or open_checkpoint(Path(word)) is not None:
        return {"targets": targets}
    export = resolve_export_dir(Path(word))
    return {"targets": targets, "outputs": read_versions(export).outputs if (export / VERSIONS).is_file() else {}}


def _evaluate_file(
    file: Path, evaluator: Evaluator, shapes: Mapping[str, Mapping[str, Shape]], interrupt: InterruptFlag
) -> EvaluationResult:
    first: list[Sample] = []

    def samples() -> Iterator[Sample]:
        for number, sample in enumerate(read_predictions(file)):
            interrupt.check()
            check_shapes(sample, shapes, f"{file}: sample {number}")
            first.append(sample)
            del first[1:]
            yield sample
        if not first:
            raise UsageError(f"{file}: contains no predictions")

    try:
        return run_evaluator(evaluator, samples(), reserved_names=())
    except UsageError:
        raise
    except Exception as error:
        if isinstance(error, KeyError) and first and _is_missing(error, first[0]):
            raise CodeError(_missing_values_message(file, error, first[0], shapes)) from error
        error.add_note(f"Raised while evaluating {file}.")
        raise


def _is_missing(error: KeyError, sample: Sample) -> bool:
    """Return whether an evaluator accessed an array that the sample lacks."""
    return not any(name in values for name in error.args for values in (sample.inputs, sample.targets, sample.outputs))


def _missing_values_message(
    file: Path, error: KeyError, sample: Sample, shapes: Mapping[str, Mapping[str, Shape]]
) -> str:
    """Return a message about the array that a predictions file lacks, and how to store it."""
    name = error.args[0]
    described = [
        f"the {group.removesuffix('s')} {name!r} of shape {of[name]}" for group, of in shapes.items() if name in of
    ]
    groups = {"inputs": sample.inputs, "targets": sample.targets, "outputs": sample.outputs}
    found = "; ".join(f"{group}: {', '.join(values) or 'none'}" for group, values in groups.items())
    text = f"{file}: the evaluator needs {described[0] if described else repr(name)}, missing in this file ({found})."
    if name not in shapes.get("outputs", {}) and not (sample.targets and sample.inputs):
        text += "\nlav-scenario --dump stores targets too (predict-scenario does not), with --dump_inputs also inputs."

    return text


def main() -> None:
    """Run the console script."""
    run_program(COMMAND.program, evaluate_predictions)


if __name__ == "__main__":
    main()
