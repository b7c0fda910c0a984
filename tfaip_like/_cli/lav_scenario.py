"""`lav-scenario EXPORT_DIR... [flags]`: load-and-validate (LAV) for exported models."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tfaip_like._cli.command import run_program
from tfaip_like._cli.command_line import ParamsCommand, ParsedCommandLine
from tfaip_like._cli.export_arguments import ResolvedExport, load_named_scenario, open_exports
from tfaip_like._cli.result_table import CollectedErrors, ResultRow, format_results, write_results, write_summaries
from tfaip_like._cli.runtime import initialize_runtime
from tfaip_like._export.exported_model import load_export
from tfaip_like._export.layout import read_versions
from tfaip_like._export.scenario_loading import load_scenario
from tfaip_like._user_code.trust import allow_untrusted_code
from tfaip_like._utils.console import echo
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.interruption import InterruptFlag, graceful_shutdown_signals
from tfaip_like._utils.lazy_keras import BACKENDS
from tfaip_like._utils.progress_bar import sample_progress_bar
from tfaip_like.data import Data, LavLoaderSettings, Source
from tfaip_like.data._loader.bad_samples import BadSampleLog
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader_factory import open_validation
from tfaip_like.data._writers import WriteSample, open_writer, writer_for
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.modeling._context import TrainingPosition, use_position
from tfaip_like.params import Params
from tfaip_like.params._base import field_types
from tfaip_like.scenario import Scenario
from tfaip_like.settings import Device

if TYPE_CHECKING:
    from tfaip_like.evaluation._output_metrics import OutputMetrics

logger = logging.getLogger(__name__)


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
    is_installed = importlib.util.find_spec(BACKENDS[scenario.device.backend]) is not None
    backend = scenario.device.backend if is_installed else Device().backend
    body["device"] = dataclasses.replace(scenario.device, gpus=None, backend=backend)
    body |= {
        "__doc__": LavOptions.__doc__,
        **{name: getattr(scenario, name) for name in groups if name not in body},
    }
    return cast(LavOptions, type("LavOptions", (LavOptions,), body)())


def _default_options(words: Sequence[str]) -> LavOptions:
    return _options_for(load_named_scenario(words[0])) if words else LavOptions()


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
    results: list[ResultRow] = []
    with ExitStack() as stack:
        exports = stack.enter_context(open_exports(line.words, settings.device))
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
    echo(format_results(results))
    write_results(settings.json, results)
    failures.raise_collected()


def _open_dump(file: Path, with_inputs: bool) -> AbstractContextManager[WriteSample]:
    return open_writer(file, dataclasses.replace(writer_for(file, "--dump"), inputs=with_inputs), "--dump")


def _validate_export(
    named: ResolvedExport,
    line: ParsedCommandLine,
    interrupt: InterruptFlag,
    dump: WriteSample | None,
    metrics: list[OutputMetrics],
) -> Iterator[ResultRow]:
    """Yield the results of an export on each of its LAV data sets.

    Args:
        named: export to validate.
        line: parsed command line, whose flags override the settings of the export.
        interrupt: flag that a signal sets.
        dump: writer of targets and outputs, if any.
        metrics: losses and metrics of earlier exports; reused for the same model, as compiling them takes a second.
    """
    from tfaip_like._export.eager_network import build_eager_network
    from tfaip_like.evaluation._output_metrics import OutputMetrics
    from tfaip_like.inference._lav import TopLosses, load_and_validate

    trained = load_scenario(named.path)
    settings = cast(LavOptions, line.apply_to(_options_for(trained)))
    groups = {name: getattr(settings, name) for name in ("lav", "data", "evaluator")}
    scenario = dataclasses.replace(trained, **groups)
    exported = load_export(named.path)
    network = build_eager_network(named.path, trained) if settings.run_eagerly else exported
    if not any(known.model == scenario.model for known in metrics):
        metrics.append(OutputMetrics(scenario.model, settings.run_eagerly))
    of_model = next(known for known in metrics if known.model == scenario.model)
    bad_samples = BadSampleLog(None, scenario.data.max_bad_samples)
    position = TrainingPosition(*read_versions(named.path).position)
    for name, source in _require_lav_datasets(scenario).items():
        batches = open_validation(
            scenario.data, source, scenario.lav, scenario.trainer.random_seed or 0, interrupt.check, "lav"
        )
        if batches is None:
            raise UsageError(f"{named.name}: {name or type(scenario.data).__name__} has no samples to validate on")
        worst = TopLosses(settings.worst)
        with closing(batches), sample_progress_bar(len(batches), str(named.name)) as bar:

            def on_batch(batch: Batch) -> None:
                interrupt.check()
                bad_samples.record(batch.bad)
                bar.update(len(batch))

            batches.auto_select_num_workers(batches.num_batches or 0)
            with use_position(lambda: position):
                result = load_and_validate(
                    network,
                    batches,
                    scenario.model,
                    scenario.evaluator,
                    on_batch,
                    on_sample=dump,
                    worst=worst,
                    metrics=of_model,
                )
            write_summaries(settings.summaries, name, result.summaries)
            worst_samples = [(loss, batches.samples.describe_sample(index)) for loss, index in worst.sorted()]
        yield ResultRow(named.name, name, exported.metrics.get("epoch"), dict(result.numbers), worst_samples)
    bad_samples.log_summary()


def _require_lav_datasets(scenario: Scenario) -> dict[str, Source]:
    sources = dict(scenario.validate_lav_sources())
    if not sources:
        raise UsageError(f"{type(scenario).__name__} has no validation data; set --lav.lists or --data.*")

    return sources


def main() -> None:
    """Run the console script."""
    run_program(COMMAND.program, lav_scenario)


if __name__ == "__main__":
    main()
