"""`evaluate-predictions EXPORT_DIR FILE... [flags]`: judges predictions that were stored."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

from tfaip_like.cli.command import run_command
from tfaip_like.cli.named_exports import named_scenario
from tfaip_like.cli.params_command import ParamsCommand
from tfaip_like.cli.results import Result, keep_summaries, table, write_results
from tfaip_like.console import say
from tfaip_like.errors import UsageError
from tfaip_like.evaluator import Evaluator
from tfaip_like.interrupt import InterruptFlag, catch_interrupts
from tfaip_like.params import Params
from tfaip_like.params.base import with_defaults
from tfaip_like.predict.judge import Judged, judge
from tfaip_like.predict.stored import stored_predictions
from tfaip_like.sample import Sample
from tfaip_like.scenario import Scenario
from tfaip_like.scenario_lookup import find_scenario
from tfaip_like.trust import trusting


class Evaluation(Params):
    """How stored predictions are judged."""

    evaluator: Evaluator | None = None
    """Judges the predictions; by default the scenario's own."""

    json: Path | None = None
    """File for the results, as JSON."""

    summaries: Path | None = None
    """Directory for what the evaluator shows: pictures, tables, curves."""


def _scenario(word: str) -> Scenario:
    """Return the scenario of an export, a run or a checkpoint, or the one of that name."""
    if Path(word).is_dir() and not (Path(word) / "scenario.py").is_file():
        return named_scenario(word)
    return with_defaults(find_scenario(word))


def _defaults(words: Sequence[str]) -> Evaluation:
    return Evaluation(evaluator=_scenario(words[0]).evaluator) if words else Evaluation()


COMMAND = ParamsCommand(
    program="evaluate-predictions",
    purpose="Judges predictions that lav-scenario --dump or predict-scenario --output has stored (.jsonl, .npz), with "
    "the evaluator of their scenario: that of an export or a run, or the one that is named. No network is loaded.",
    placeholder="EXPORT_DIR|SCENARIO FILE...",
    tree=_defaults,
    runs_code=True,
)


def evaluate_predictions(argv: Sequence[str]) -> None:
    """Judge what the command line names, and print a table."""
    line = COMMAND.read(argv)
    if line is None:
        return
    if len(line.words) < 2:
        raise UsageError(f"which predictions? {COMMAND.program} {COMMAND.placeholder}: the scenario first, then files")
    with trusting(line.is_trusting):
        settings = cast(Evaluation, line.applied(_defaults(line.words)))
    if settings.evaluator is None:
        raise UsageError(f"{line.words[0]}: its scenario has no evaluator; name one: --evaluator module:Class")
    files = [Path(word) for word in line.words[1:]]
    if settings.summaries and len(files) > 1:
        raise UsageError(f"--summaries {settings.summaries}: takes the summaries of one file, there are {len(files)}")
    results = []
    with catch_interrupts() as interrupt:
        for file in files:
            judged = _judged(file, settings.evaluator, interrupt)
            keep_summaries(settings.summaries, "", judged.summaries)
            results.append(Result(file, "", None, dict(judged.numbers), []))
        interrupt.nothing_to_stop()
    say(table(results))
    write_results(settings.json, results)


def _judged(file: Path, evaluator: Evaluator, interrupt: InterruptFlag) -> Judged:
    lacking: list[str] = []

    def samples() -> Iterator[Sample]:
        number = -1
        for number, sample in enumerate(stored_predictions(file)):
            interrupt.check()
            if not number:
                groups = {"inputs": sample.inputs, "targets": sample.targets}
                lacking.extend(name for name, values in groups.items() if not values)
            yield sample
        if number < 0:
            raise UsageError(f"{file}: holds no predictions")

    try:
        return judge(evaluator, samples(), known=())
    except KeyError as error:
        if lacking:
            error.add_note(
                f"{file} holds no {' and no '.join(lacking)}: lav-scenario --dump stores targets and outputs (.jsonl "
                "also meta), with --dump_inputs true inputs too."
            )
        raise


def main() -> None:
    """The entry point of the console script."""
    sys.exit(run_command(COMMAND.program, evaluate_predictions, sys.argv[1:]))


if __name__ == "__main__":
    main()
