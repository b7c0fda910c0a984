"""Weights & Biases logger."""

from __future__ import annotations

import html
import io
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfaip_like.loggers._logger import LoggedRun, Logger, Metrics, ParamValue, Status
from tfaip_like.summaries import ConfusionMatrix, Figure, Histogram, Image, PRCurve, Summary, Text

INIT_TIMEOUT_S = 30.0
EXIT_CODES: Mapping[Status, int] = {"done": 0, "stopped": 130, "failed": 1}


class WandB(Logger):
    """Weights & Biases run: parameters, metrics by step, images, curves, and the exported model.

    Example:
        >>> WandB(project="digits", mode="offline")
        WandB(project='digits', mode='offline')
    """

    required_packages = ("wandb",)
    extra = "tfaip_like[wandb]"

    project: str | None = None
    """Project; by default WANDB_PROJECT, else the class name of the scenario."""
    entity: str | None = None
    """User or team; by default WANDB_ENTITY, else that of the API key (`wandb login`)."""
    run_name: str | None = None
    """Name of the run; by default that of the run directory."""
    group: str | None = None
    """Group of runs; by default the batch of the run."""
    tags: list[str] = []
    """Tags of the run."""
    mode: Literal["online", "offline"] | None = None
    """By default WANDB_MODE, else online. `wandb sync` sends the files of an offline run, which are in wandb/ of the
    run directory."""
    log_model: bool = True
    """Upload best/ at the end of a complete training."""

    def start(self, run: LoggedRun) -> None:
        import wandb

        if not run.is_resumed:
            self.run_id = secrets.token_hex(4)
        is_offline = self.mode == "offline" or os.environ.get("WANDB_MODE") in ("offline", "dryrun")
        parent = {"parent_run": run.parent["run_id"]} if run.parent is not None else {}
        with _connection():
            self._run = wandb.init(
                project=self.project or os.environ.get("WANDB_PROJECT") or run.scenario,
                entity=self.entity,
                id=self.run_id,
                name=self.run_name or run.name,
                group=self.group or run.batch,
                tags=self.tags,
                notes=run.description or None,
                config={**run.provenance, **parent},
                dir=run.output_dir,
                mode=self.mode,
                resume=None if is_offline else "allow",  # W&B ignores it offline, with a warning
                reinit="create_new",  # leaves a run that user code has begun alone
                settings=wandb.Settings(
                    console="off",
                    silent=True,
                    init_timeout=INIT_TIMEOUT_S,
                    finish_timeout=self.timeout_seconds,
                ),
            )

    def last_step(self) -> int | None:
        return int(self._run.starting_step) - 1 if self._run.resumed else None

    def log_params(self, params: Mapping[str, ParamValue]) -> None:
        self._run.config.update(dict(params), allow_val_change=True)

    def log_metrics(self, metrics: Metrics, step: int, epoch: float) -> None:
        self._run.log(dict(metrics), step=step)

    def log_best(self, metrics: Metrics, step: int, epoch: float) -> None:
        self._run.summary.update({f"best/{name}": value for name, value in {**metrics, "epoch": epoch}.items()})

    def log_summary(self, name: str, summary: Summary, step: int, epoch: float) -> None:
        self._run.log({name: _to_media(name, summary)}, step=step)

    def log_artifact(self, path: Path) -> None:
        import wandb

        if self.log_model:
            artifact = wandb.Artifact(f"{path.name}-{self.run_id}", type="model")
            for file in sorted(each for each in path.rglob("*") if each.is_file()):  # `add_dir` prints
                artifact.add_file(str(file), file.relative_to(path).as_posix())
            with _connection():
                self._run.log_artifact(artifact)

    def finish(self, status: Status) -> None:
        with _connection():
            self._run.finish(exit_code=EXIT_CODES[status])


@contextmanager
def _connection() -> Iterator[None]:
    """Raise `ConnectionError` if the server is away."""
    from wandb.errors import CommError

    try:
        yield
    except CommError as error:
        raise ConnectionError(f"W&B does not answer ({error})") from error


def _to_media(name: str, summary: Summary) -> Any:
    import wandb
    from PIL import Image as PillowImage

    match summary:
        case Image() | Figure() | ConfusionMatrix():
            return wandb.Image(PillowImage.open(io.BytesIO(summary.png())))
        case Text():
            return wandb.Html(f"<pre>{html.escape(summary.markdown)}</pre>", inject=False)
        case Histogram():
            return wandb.Histogram(np_histogram=summary.counts())
        case PRCurve():
            rows = np.stack(summary.precision_recall(), axis=1).tolist()
            table = wandb.Table(columns=["precision", "recall"], data=rows)
            return wandb.plot.line(table, "recall", "precision", title=name)
    raise TypeError(f"{name}: Weights & Biases does not support {type(summary).__name__}")
