"""`lav-scenario EXPORT_DIR... [flags]`: loads exports and validates them."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tfaip_like._cli.command import run_command
from tfaip_like._cli.named_exports import NamedExport, named_exports, named_scenario
from tfaip_like._cli.params_command import Line, ParamsCommand
from tfaip_like._cli.results import Failures, Result, keep_summaries, table, write_results
from tfaip_like._cli.start import start
from tfaip_like._export.exported import load_export
from tfaip_like._export.scenario_loading import rebuilt_scenario
from tfaip_like._user_code.trust import trusting
from tfaip_like._utils.console import samples_bar, say
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.interruption import InterruptFlag, catch_interrupts
from tfaip_like._utils.lazy_keras import BACKENDS
from tfaip_like.data import Data, LavData, Source
from tfaip_like.data._loader.bad_samples import BadSamples
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.opening import open_validation
from tfaip_like.data._writer import Write
from tfaip_like.data._writers import writer_for, written
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.params import Params
from tfaip_like.params._base import field_types
from tfaip_like.scenario import Scenario
from tfaip_like.settings import Device

if TYPE_CHECKING:
    from tfaip_like.inference._lav import Averages

logger = logging.getLogger(__name__)


class LoadAndValidate(Params):
    """What is validated, and what is kept of it."""

    dump: Path | None = None
    """File for targets and predictions of all samples: .jsonl or .npz."""

    dump_inputs: bool = False
    """Dump the inputs too, for evaluators that need them in evaluate-predictions."""

    json: Path | None = None
    """File for the results, as JSON."""

    summaries: Path | None = None
    """Directory for what the evaluator and the model show: pictures, tables, curves."""

    run_eagerly: bool = False
    """Run losses, metrics and the network line by line, for a debugger; the network is built by the scenario's code,
    with the weights of the export. Slower."""

    worst: int = 5
    """How many samples with the largest losses are listed."""

    lav: LavData = LavData()
    """Batches for load-and-validate."""

    data: Data | None = None
    """The data of the scenario, with the values it was trained with."""

    evaluator: Evaluator | None = None
    """Judges the predictions, in plain Python."""

    device: Device = Device()
    """What computes."""

    def check(self) -> None:
        self.require(self.worst >= 0, "worst", "must be 0 (none) or more")
        self.require(self.dump is not None or not self.dump_inputs, "dump_inputs", "has no effect without --dump FILE")


def _settings_of(scenario: Scenario) -> LoadAndValidate:
    """The settings of a scenario, with the types that its class gives them: lists, where it has any."""
    groups = ("lav", "data", "evaluator", "device")
    types = field_types(type(scenario))
    body: dict[str, Any] = {"__annotations__": {name: types[name] for name in groups}, "__module__": __name__}
    # An export can be validated where it could not be trained.
    is_here = importlib.util.find_spec(BACKENDS[scenario.device.backend]) is not None
    backend = scenario.device.backend if is_here else Device().backend
    body["device"] = dataclasses.replace(scenario.device, gpus=None, backend=backend)
    body |= {
        "__doc__": LoadAndValidate.__doc__,
        **{name: getattr(scenario, name) for name in groups if name not in body},
    }
    return cast(LoadAndValidate, type("LoadAndValidate", (LoadAndValidate,), body)())


def _defaults(words: Sequence[str]) -> LoadAndValidate:
    return _settings_of(named_scenario(words[0])) if words else LoadAndValidate()


COMMAND = ParamsCommand(
    program="lav-scenario",
    purpose="Validates exports on the validation data of their scenario, or on other data. The folder of a run stands "
    "for its best model; RUN/checkpoints/epoch_0012 for that of a kept epoch.",
    placeholder="EXPORT_DIR...",
    tree=_defaults,
    runs_code=True,
)


def lav_scenario(argv: Sequence[str]) -> None:
    """Validates what the command line describes, and prints a table."""
    line = COMMAND.read(argv)
    if line is None:
        return
    if not line.words:
        raise UsageError("which export? lav-scenario EXPORT_DIR... [--FLAG VALUE ...], with its folder first")
    with trusting(line.is_trusting):
        _validate_line(line)


def _validate_line(line: Line) -> None:
    settings = cast(LoadAndValidate, line.applied(_defaults(line.words)))
    for flag, what, kept in (("dump", "predictions", settings.dump), ("summaries", "summaries", settings.summaries)):
        if kept and len(line.words) > 1:
            raise UsageError(f"--{flag} {kept}: takes the {what} of one export, there are {len(line.words)}")
    start(settings.device)
    results: list[Result] = []
    with ExitStack() as stack:
        exports = stack.enter_context(named_exports(line.words, settings.device))
        interrupt = stack.enter_context(catch_interrupts())
        dump = stack.enter_context(_dump(settings.dump, settings.dump_inputs)) if settings.dump else None
        averages: list[Averages] = []
        failures = Failures()
        for export in exports:
            with failures.collected():
                results += _validated(export, line, interrupt, dump, averages)
        interrupt.nothing_to_stop()
        if len(exports) == len(failures.errors):
            failures.raise_them()  # in here: what was dumped is not complete
    say(table(results))
    write_results(settings.json, results)
    failures.raise_them()


def _dump(file: Path, with_inputs: bool) -> AbstractContextManager[Write]:
    return written(file, dataclasses.replace(writer_for(file, "--dump"), inputs=with_inputs), "--dump")


def _validated(
    named: NamedExport, line: Line, interrupt: InterruptFlag, dump: Write | None, averages: list[Averages]
) -> Iterator[Result]:
    """Yield the results of an export, on one source after another.

    Args:
        averages: of earlier exports; those of the same model are used again, as compiling them takes a second.
    """
    from tfaip_like._export.built_network import built_network
    from tfaip_like.inference._lav import Averages, Worst, load_and_validate

    trained = rebuilt_scenario(named.path)
    settings = cast(LoadAndValidate, line.applied(_settings_of(trained)))
    groups = {name: getattr(settings, name) for name in ("lav", "data", "evaluator")}
    scenario = dataclasses.replace(trained, **groups)
    exported = load_export(named.path)
    network = built_network(named.path, trained) if settings.run_eagerly else exported
    if not any(known.model == scenario.model for known in averages):
        averages.append(Averages(scenario.model, settings.run_eagerly))
    of_model = next(known for known in averages if known.model == scenario.model)
    bad_samples = BadSamples(None, scenario.data.max_bad_samples)
    for name, source in _sources(scenario).items():
        batches = open_validation(
            scenario.data, source, scenario.lav, scenario.trainer.random_seed or 0, interrupt.check, "lav"
        )
        if batches is None:
            raise UsageError(f"{named.name}: {name or type(scenario.data).__name__} has no samples to validate on")
        worst = Worst(settings.worst)
        with closing(batches), samples_bar(len(batches), str(named.name)) as bar:

            def note(batch: Batch) -> None:
                interrupt.check()
                bad_samples.note(batch.bad)
                bar.update(len(batch))

            batches.decide_processes(batches.steps or 0)
            judged = load_and_validate(
                network,
                batches,
                scenario.model,
                scenario.evaluator,
                note,
                each_sample=dump,
                worst=worst,
                averages=of_model,
            )
            keep_summaries(settings.summaries, name, judged.summaries)
            places = [(loss, batches.samples.place(index)) for loss, index in worst.listed()]
        yield Result(named.name, name, exported.metrics.get("epoch"), dict(judged.numbers), places)
    bad_samples.tell()


def _sources(scenario: Scenario) -> dict[str, Source]:
    sources = dict(scenario.checked_lav_sources())
    if not sources:
        raise UsageError(f"{type(scenario).__name__} has no validation data; --lav.lists or --data.* name some")
    return sources


def main() -> None:
    """The entry point of the console script."""
    sys.exit(run_command(COMMAND.program, lav_scenario, sys.argv[1:]))


if __name__ == "__main__":
    main()
