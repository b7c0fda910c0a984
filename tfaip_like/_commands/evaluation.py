"""Load-and-validate (LAV) of exports: what `lav-scenario` does, and `tfaip_like.evaluate`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tfaip_like._commands.named_exports import ResolvedExport, default_device, load_named_scenario, open_exports
from tfaip_like._commands.runtime import initialize_runtime
from tfaip_like._export.exported_model import load_export
from tfaip_like._export.layout import read_versions
from tfaip_like._export.scenario_loading import load_scenario
from tfaip_like._runs.fetching import fetch_exports
from tfaip_like._user_code.trust import allow_untrusted_code
from tfaip_like._utils.console import default_console_logging
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.interruption import InterruptFlag, graceful_shutdown_signals
from tfaip_like._utils.progress_bar import sample_progress_bar
from tfaip_like.data import Data, LavLoaderSettings, Source
from tfaip_like.data._loader.bad_samples import BadSampleLog
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader_factory import open_validation
from tfaip_like.data._writers import WriteSample
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.modeling._context import TrainingPosition, use_position
from tfaip_like.scenario import Scenario
from tfaip_like.settings import Device
from tfaip_like.summaries import Summary

if TYPE_CHECKING:
    from tfaip_like.evaluation._output_metrics import OutputMetrics


@dataclass(frozen=True)
class EvaluatedExport:
    """Result of `evaluate`: the values of an export on one data set."""

    export: Path
    dataset: str
    """Name of the data set (`Scenario.lav_sources`); empty for the only one."""
    epoch: float | None
    """Epoch of the model, if it is known."""
    metrics: Mapping[str, float]
    """Losses, metrics and values of the evaluator, by name."""
    worst: list[tuple[float, str]]
    """Loss and description of the samples with the largest losses, in descending order."""
    summaries: Mapping[str, Summary] = field(default_factory=dict, repr=False)
    """Images, tables and curves of the evaluator and the model, by name."""


@dataclass(frozen=True)
class EvaluationSettings:
    """What is evaluated and how; see `evaluate`."""

    data: Data | None
    evaluator: Evaluator | None
    lav: LavLoaderSettings
    run_eagerly: bool = False
    worst: int = 5


def evaluate(
    export: Path | str,
    *,
    data: Data | None = None,
    evaluator: Evaluator | None = None,
    lav: LavLoaderSettings | None = None,
    device: Device | None = None,
    run_eagerly: bool = False,
    worst: int = 5,
    trust_code: bool = False,
) -> list[EvaluatedExport]:
    """Validate an export on the validation data of its scenario, or on other data, as `lav-scenario` does.

    Args:
        export: Export directory; a run directory, whose best model is used; or a checkpoint.
        data: Data of the scenario. Default: the values it was trained with.
        evaluator: Evaluator of the predictions. Default: the evaluator of the scenario.
        lav: Data loader. Default: that of the scenario.
        device: Device settings. Default: the backend of the training, if it is installed.
        run_eagerly: Run losses, metrics and the network eagerly, for a debugger.
        worst: Number of samples with the largest losses to list.
        trust_code: Import code from the directory even if another user wrote it.

    Returns:
        A result for each data set of the scenario, usually one.

    Raises:
        UsageError: If the directory is not an export, its code cannot be imported, or there are no samples.
        Interrupted: After Ctrl-C or SIGTERM.

    Example:
        >>> (result,) = evaluate("runs/digits")  # doctest: +SKIP
        >>> result.metrics["accuracy"]  # doctest: +SKIP
        0.972
    """
    with default_console_logging(), allow_untrusted_code(trust_code):
        export = fetch_exports(export)
        trained = load_named_scenario(export)
        device = device or default_device(trained)
        settings = EvaluationSettings(
            data or trained.data, evaluator or trained.evaluator, lav or trained.lav, run_eagerly, worst
        )
        initialize_runtime(device)
        with open_exports([export], device) as exports, graceful_shutdown_signals() as interrupt:
            results = list(iter_evaluations(exports[0], settings, interrupt))
            interrupt.disarm()
        return results


def iter_evaluations(
    named: ResolvedExport,
    settings: EvaluationSettings,
    interrupt: InterruptFlag,
    on_sample: WriteSample | None = None,
    known_metrics: list[OutputMetrics] | None = None,
) -> Iterator[EvaluatedExport]:
    """Yield the results of an export on each data set of its scenario.

    Args:
        named: Export to validate.
        settings: What is evaluated and how.
        interrupt: Flag that a signal sets.
        on_sample: Called with each predicted sample.
        known_metrics: Losses and metrics of earlier exports; reused for the same model, as compiling them takes a
            second.

    Raises:
        UsageError: If there are no samples.
    """
    from tfaip_like._export.eager_network import build_eager_network
    from tfaip_like.evaluation._output_metrics import OutputMetrics
    from tfaip_like.inference._lav import TopLosses, load_and_validate

    trained = load_scenario(named.path)
    groups = {name: getattr(settings, name) for name in ("lav", "data", "evaluator")}
    scenario = dataclasses.replace(trained, **groups)
    exported = load_export(named.path)
    network = build_eager_network(named.path, trained) if settings.run_eagerly else exported
    metrics = known_metrics if known_metrics is not None else []
    if not any(known.model == scenario.model for known in metrics):
        metrics.append(OutputMetrics(scenario.model, settings.run_eagerly))
    of_model = next(known for known in metrics if known.model == scenario.model)
    bad_samples = BadSampleLog(None, scenario.data.max_bad_samples)
    position = TrainingPosition(*read_versions(named.path).position)
    for name, source in _require_datasets(scenario).items():
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
                    on_sample=on_sample,
                    worst=worst,
                    metrics=of_model,
                )
            worst_samples = [(loss, batches.samples.describe_sample(index)) for loss, index in worst.sorted()]
        epoch = exported.metrics.get("epoch")
        yield EvaluatedExport(named.name, name, epoch, dict(result.numbers), worst_samples, result.summaries)
    bad_samples.log_summary()


def _require_datasets(scenario: Scenario) -> dict[str, Source]:
    sources = dict(scenario.validate_lav_sources())
    if not sources:
        raise UsageError(f"{type(scenario).__name__} has no validation data; set --lav.lists or --data.*")
    return sources
