"""`lav-scenario EXPORT_DIR... [flags]`: load-and-validate (LAV) for exported models."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tfaip_like._cli.command import run_program
from tfaip_like._cli.command_line import ParamsCommand, ParsedCommandLine
from tfaip_like._cli.result_table import CollectedErrors, ResultRow, format_results, write_results, write_summaries
from tfaip_like._commands.evaluation import EvaluatedExport, EvaluationSettings, iter_evaluations
from tfaip_like._commands.named_exports import ResolvedExport, default_device, load_named_scenario, open_exports
from tfaip_like._commands.runtime import initialize_runtime
from tfaip_like._export.scenario_loading import load_scenario
from tfaip_like._runs.fetching import fetch_exports
from tfaip_like._user_code.trust import allow_untrusted_code
from tfaip_like._utils.console import echo
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.interruption import InterruptFlag, graceful_shutdown_signals
from tfaip_like.data import Data, LavLoaderSettings
from tfaip_like.data._writers import WriteSample, open_writer, writer_for
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.params import Params
from tfaip_like.params._base import field_types
from tfaip_like.scenario import Scenario
from tfaip_like.settings import Device

if TYPE_CHECKING:
    from tfaip_like.evaluation._output_metrics import OutputMetrics


class LavOptions(Params):
    """Options of load-and-validate (LAV)."""

    dump: Path | None = None
    """File for targets and predictions of all samples: .jsonl or .npz."""

    dump_inputs: bool = False
    """Include inputs in --dump, for evaluators that need them in evaluate-predictions."""

    json: Path | None = None
    """JSON file for the results."""

    summaries: Path | None = None
    """Directory for the summaries of evaluator and model: images, tables, curves."""

    run_eagerly: bool = False
    """Run losses, metrics and the network eagerly, for a debugger. The network is built by the scenario's code, with
    the weights of the export. Slower."""

    worst: int = 5
    """Number of samples with the largest losses to list."""

    lav: LavLoaderSettings = LavLoaderSettings()
    """Data loader of load-and-validate."""

    data: Data | None = None
    """Data of the scenario. Default: the values it was trained with."""

    evaluator: Evaluator | None = None
    """Evaluator of the predictions. Default: the evaluator of the scenario."""

    device: Device = Device()
    """Device settings."""

    def check(self) -> None:
        self.require(self.worst >= 0, "worst", "must not be negative")
        self.require(self.dump is not None or not self.dump_inputs, "dump_inputs", "has no effect without --dump FILE")


def _options_for(scenario: Scenario) -> LavOptions:
    """Return the settings of a scenario, with the field types of its class, such as data with list files."""
    groups = ("lav", "data", "evaluator", "device")
    types = field_types(type(scenario))
    body: dict[str, Any] = {"__annotations__": {name: types[name] for name in groups}, "__module__": __name__}
    # LAV must also work on machines without the backend of the training.
    body["device"] = default_device(scenario)
    body |= {
        "__doc__": LavOptions.__doc__,
        **{name: getattr(scenario, name) for name in groups if name not in body},
    }
    return cast(LavOptions, type("LavOptions", (LavOptions,), body)())


def _default_options(words: Sequence[str]) -> LavOptions:
    return _options_for(load_named_scenario(fetch_exports(words[0]))) if words else LavOptions()


COMMAND = ParamsCommand(
    program="lav-scenario",
    purpose="Validate exports on the validation data of their scenario, or on other data. A run directory stands for "
    "its best model, RUN/checkpoints/epoch_0012 for the model of that epoch.",
    placeholder="EXPORT_DIR...",
    tree=_default_options,
    runs_code=True,
)


def lav_scenario(argv: Sequence[str]) -> None:
    """Validate the exports that the command line names, and print a table."""
    line = COMMAND.read(argv)
    if line is None:
        return
    if not line.words:
        raise UsageError("missing argument EXPORT_DIR. usage: lav-scenario EXPORT_DIR... [--FLAG VALUE ...]")
    with allow_untrusted_code(line.is_trusting):
        _validate_exports(line)


def _validate_exports(line: ParsedCommandLine) -> None:
    settings = cast(LavOptions, line.apply_to(_default_options(line.words)))
    for flag, path in (("dump", settings.dump), ("summaries", settings.summaries)):
        if path and len(line.words) > 1:
            raise UsageError(f"--{flag} {path}: requires a single export, got {len(line.words)}")
    initialize_runtime(settings.device)
    results: list[EvaluatedExport] = []
    with ExitStack() as stack:
        exports = stack.enter_context(open_exports([fetch_exports(word) for word in line.words], settings.device))
        interrupt = stack.enter_context(graceful_shutdown_signals())
        dump = stack.enter_context(_open_dump(settings.dump, settings.dump_inputs)) if settings.dump else None
        metrics: list[OutputMetrics] = []
        failures = CollectedErrors()
        for export in exports:
            with failures.collected():
                results += _validate_export(export, line, interrupt, dump, metrics)
        interrupt.disarm()
        if len(exports) == len(failures.errors):
            failures.raise_collected()  # inside the block: the dump is incomplete and must be discarded
    rows = [ResultRow(each.export, each.dataset, each.epoch, dict(each.metrics), each.worst) for each in results]
    echo(format_results(rows))
    write_results(settings.json, rows)
    failures.raise_collected()


def _open_dump(file: Path, with_inputs: bool) -> AbstractContextManager[WriteSample]:
    return open_writer(file, dataclasses.replace(writer_for(file, "--dump"), inputs=with_inputs), "--dump")


def _validate_export(
    named: ResolvedExport,
    line: ParsedCommandLine,
    interrupt: InterruptFlag,
    dump: WriteSample | None,
    metrics: list[OutputMetrics],
) -> Iterator[EvaluatedExport]:
    """Yield the results of an export on each of its LAV data sets; its settings are overridden by the flags."""
    options = cast(LavOptions, line.apply_to(_options_for(load_scenario(named.path))))
    settings = EvaluationSettings(options.data, options.evaluator, options.lav, options.run_eagerly, options.worst)
    for result in iter_evaluations(named, settings, interrupt, dump, metrics):
        write_summaries(options.summaries, result.dataset, result.summaries)
        yield result


def main() -> None:
    """Run the console script."""
    run_program(COMMAND.program, lav_scenario)


if __name__ == "__main__":
    main()
