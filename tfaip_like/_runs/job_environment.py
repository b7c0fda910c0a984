"""Job of a cluster that this process belongs to, from its environment variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple, cast

from tfaip_like._runs.run_files import ClusterJobInfo

JOB_ID_VARIABLE, JOB_NAME_VARIABLE = "TFAIP_LIKE_JOB_ID", "TFAIP_LIKE_JOB_NAME"
"""Set by the job scripts of launchers."""


class JobVariables(NamedTuple):
    """Environment variables that a cluster sets in its jobs; empty if it has none."""

    job: str
    name: str = ""
    partition: str = ""
    account: str = ""
    array: str = ""
    task: str = ""


CLUSTERS = (
    JobVariables(
        "SLURM_JOB_ID",
        "SLURM_JOB_NAME",
        "SLURM_JOB_PARTITION",
        "SLURM_JOB_ACCOUNT",
        "SLURM_ARRAY_JOB_ID",
        "SLURM_ARRAY_TASK_ID",
    ),
    JobVariables("PBS_JOBID", "PBS_JOBNAME", "PBS_QUEUE", "PBS_ACCOUNT"),
    JobVariables("LSB_JOBID", "LSB_JOBNAME", "LSB_QUEUE"),
)
"""Common clusters, for jobs that were submitted by hand."""


def read_cluster_job(environment: Mapping[str, str] = os.environ) -> ClusterJobInfo | None:
    """Return the cluster job of this process; None if there is none."""
    variables = next((one for one in CLUSTERS if one.job in environment), None)
    if variables is None and JOB_ID_VARIABLE not in environment:
        return None
    names = variables._asdict() if variables is not None else {}
    values = {key: environment[name] for key, name in names.items() if name in environment}
    own = {"job": JOB_ID_VARIABLE, "name": JOB_NAME_VARIABLE}
    values |= {key: environment[name] for key, name in own.items() if name in environment}
    array, task = values.pop("array", ""), values.pop("task", "")
    if array and task and JOB_ID_VARIABLE not in environment:
        values["job"] = f"{array}_{task}"
    return cast(ClusterJobInfo, values)
