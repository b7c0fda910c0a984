"""MLflow logger."""

from __future__ import annotations

import hashlib
import io
import logging
import os
import posixpath
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tfaip_like.loggers._logger import LoggedRun, Logger, Metrics, ParamValue, Status
from tfaip_like.summaries import ConfusionMatrix, Figure, Image, Summary
from tfaip_like.summaries._files import to_file

logger = logging.getLogger(__name__)

T = TypeVar("T")

DEFAULT_URI = "sqlite:///mlflow.db"
"""MLflow's own default, a file in the current directory; its file stores (`./mlruns`) are gone since version 3.13."""
SQLITE = "sqlite:///"
MAX_KEY, MAX_PARAM_VALUE, MAX_TAG_VALUE = 250, 6000, 8000
"""Maximum lengths that MLflow accepts."""
MAX_METRICS, MAX_PARAMS = 1000, 100
"""Maximum numbers in one request."""
SETTINGS = {
    # The thread of the logger repeats requests itself; MLflow does so for several minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Environment variables of MLflow, unless they are set."""
TEMPORARY_ERRORS = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "DEADLINE_EXCEEDED")
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Makes MLflow link the experiment in its list to the page for trainings instead of that for language models."""
STATUSES: Mapping[Status, str] = {"done": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}


class MLflow(Logger):
    """MLflow run: parameters, metrics by step, images, and the exported model.

    Example:
        >>> MLflow(tracking_uri="http://localhost:5000", experiment="digits")
        MLflow(tracking_uri='http://localhost:5000', experiment='digits')
    """

    required_packages = ("mlflow",)
    extra = "tfaip_like[mlflow]"

    tracking_uri: str | None = None
    """Server (http://HOST:5000) or database (sqlite:///FILE); by default MLFLOW_TRACKING_URI, else mlflow.db in the
    current directory."""
    experiment: str | None = None
    """Experiment; by default MLFLOW_EXPERIMENT_NAME, else the class name of the scenario."""
    run_name: str | None = None
    """Name of the run; by default that of the run directory."""
    tags: dict[str, str] = {}
    """Tags of the run, in addition to the description, the git commit and the command."""
    log_model: bool = True
    """Upload best/ at the end of a complete training."""

    def check(self) -> None:
        super().check()
        is_uri = self.tracking_uri is None or re.match(r"databricks|[\w+-]+:/", self.tracking_uri) is not None
        is_file = (self.tracking_uri or "").startswith("file:")
        self.require(
            is_uri and not is_file,
            "tracking_uri",
            f"must be a server (http://HOST:5000) or a database ({DEFAULT_URI}); MLflow has no file stores any more",
        )

    def start(self, run: LoggedRun) -> None:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        self.server: str = self._find_server((run.parent or vars(self)).get("server"))
        with self._connection():
            self._client = MlflowClient(self.server)
            if not (run.is_resumed and self._continue_run()):
                self.run_id = self._create_run(run)
        self._times: dict[int, int] = {}
        if self.server.startswith("http"):
            where = re.sub(r"//[^/@]*@", "//", self.server).rstrip("/")
            experiment = self._client.get_run(self.run_id).info.experiment_id
            # Without the query, MLflow shows the page for language models unless the other one was chosen before.
            page = f"{where}/#/experiments/{experiment}/runs/{self.run_id}?workflowType=machine_learning"
            logger.info("logger MLflow: %s", page)

    def _find_server(self, previous: str | None) -> str:
        """Return the URI of the server; a relative path is resolved once, when the run starts."""
        uri = self.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
        path = uri.removeprefix(SQLITE)
        if not uri.startswith(SQLITE) or path.startswith("/"):
            return uri
        return previous or f"{SQLITE}{Path(path).absolute()}"

    def _continue_run(self) -> bool:
        """Set the run to running again; return False if it was deleted."""
        from mlflow.exceptions import MlflowException

        try:
            is_deleted = self._client.get_run(self.run_id).info.lifecycle_stage == "deleted"
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            is_deleted = True
        if is_deleted:
            logger.warning("logger MLflow: run %s was deleted; a new one begins", self.run_id)
        else:
            self._client.update_run(self.run_id, status="RUNNING")
        return not is_deleted

    def _create_run(self, run: LoggedRun) -> str:
        experiment = self.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or run.scenario
        created = self._client.create_run(
            self._find_experiment(experiment), tags=self._make_tags(run), run_name=self.run_name or run.name
        )
        return str(created.info.run_id)

    def _find_experiment(self, name: str) -> str:
        """Return the ID of an experiment, which is created if it does not exist."""
        from mlflow.exceptions import MlflowException

        if (found := self._client.get_experiment_by_name(name)) is not None:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(name, tags=EXPERIMENT_TAGS))
        except MlflowException as error:  # another run of a batch has created it
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return str(self._client.get_experiment_by_name(name).experiment_id)

    def _make_tags(self, run: LoggedRun) -> dict[str, str]:
        parent = (run.parent or {}) if (run.parent or {}).get("server") == self.server else {}
        tags = {
            **{name: run.provenance.get(name) for name in ("scenario", "command", "host")},
            "output_dir": str(run.output_dir) if run.output_dir is not None else None,
            "batch": run.batch,
            "mlflow.note.content": run.description,
            "mlflow.user": run.provenance.get("user"),
            "mlflow.source.name": run.provenance.get("scenario"),
            "mlflow.source.git.commit": run.provenance.get("git_commit"),
            "mlflow.parentRunId": parent.get("run_id"),
            **self.tags,
        }
        return {to_key(name): value[:MAX_TAG_VALUE] for name, value in tags.items() if value}

    def last_step(self) -> int | None:
        with self._connection():
            return max((point.step for point in self._client.get_metric_history(self.run_id, "epoch")), default=0)

    def log_params(self, params: Mapping[str, ParamValue]) -> None:
        from mlflow.entities import Param

        entries = [Param(to_key(name), str(value)[:MAX_PARAM_VALUE]) for name, value in params.items()]
        with self._connection():
            for part in _split(entries, MAX_PARAMS):
                self._client.log_batch(self.run_id, params=part, synchronous=True)

    def log_metrics(self, metrics: Metrics, step: int, epoch: float) -> None:
        # `last_step` asks for the epoch: it is sent when everything else is.
        self._log({**{name: value for name, value in metrics.items() if name != "epoch"}, "epoch": epoch}, step)

    def log_best(self, metrics: Metrics, step: int, epoch: float) -> None:
        self._log({f"best/{name}": value for name, value in {**metrics, "epoch": epoch}.items()}, step)

    def _log(self, metrics: Metrics, step: int) -> None:
        from mlflow.entities import Metric

        # The same time if the request is repeated: MLflow then recognises a value that had arrived after all.
        timestamp = self._times.setdefault(step, int(1000 * time.time()))
        entries = [Metric(to_key(name), float(value), timestamp, step) for name, value in metrics.items()]
        with self._connection():
            for part in _split(entries, MAX_METRICS):
                self._client.log_batch(self.run_id, metrics=part, synchronous=True)

    def log_summary(self, name: str, summary: Summary, step: int, epoch: float) -> None:
        from PIL import Image as PillowImage

        key = to_key(name, ascii_only=True)
        with self._connection():
            if isinstance(summary, (Image, Figure, ConfusionMatrix)):
                image = PillowImage.open(io.BytesIO(summary.png()))
                self._client.log_image(self.run_id, image, key=key, step=step, synchronous=True)
            else:
                suffix, content = to_file(summary)
                self._client.log_text(self.run_id, content.decode(), f"summaries/{key}/step_{step:08d}{suffix}")

    def log_artifact(self, path: Path) -> None:
        if self.log_model:
            with self._connection():
                self._client.log_artifacts(self.run_id, str(path), artifact_path=path.name)

    def finish(self, status: Status) -> None:
        with self._connection():
            self._client.set_terminated(self.run_id, STATUSES[status])

    @contextmanager
    def _connection(self) -> Iterator[None]:
        """Raise `ConnectionError` if the server is away: MLflow raises the same exception as for invalid values."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except MlflowException as error:
            if error.error_code not in TEMPORARY_ERRORS:
                raise
            where = re.sub(r"//[^/@]*@", "//", self.server)
            raise ConnectionError(f"{where} does not answer ({_reason(str(error))})") from error


def _reason(message: str) -> str:
    """Return the reason in a message of MLflow, which repeats the request in each layer."""
    for pattern in (r"\[Errno -?\d+\] ([^'\")]+)", r".*(?:Error|Disconnected)\('([^']+)'\)"):
        if match := re.search(pattern, message):
            return match[1]
    return re.sub(r".*(?:failed with (?:timeout )?exception|Caused by) ?\(?", "", message.splitlines()[0])[:150]


def to_key(name: str, ascii_only: bool = False) -> str:
    """Return a name as a key that MLflow accepts: other characters as their code (`_25_`), a hash for what is too long.

    Args:
        name: name of a parameter, metric, tag or image.
        ascii_only: whether to replace letters that are not ASCII as well.
    """
    pattern = r"[^\w.\- /]"
    key = re.sub(pattern, lambda match: f"_{ord(match[0]):x}_", name, flags=re.ASCII if ascii_only else 0)
    if posixpath.normpath(key) != key or key.startswith((".", "/")):  # it may become a path
        key = re.sub(r"[./]", lambda match: f"_{ord(match[0]):x}_", key)
    if len(key) > MAX_KEY:
        digest = hashlib.sha256(key.encode()).hexdigest()[:8]
        key = f"{key[: MAX_KEY - 9]}_{digest}"
    return key


def _split(entries: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the parts of a list that fit into a request."""
    return (entries[begin : begin + size] for begin in range(0, len(entries), size))
