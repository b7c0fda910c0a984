"""Launchers: the machines that train the runs of a batch, chosen by `--launcher`.

A launcher for another cluster extends `Cluster`; see the how-to page about clusters.
"""

from tfaip_like.experiments.launchers._cluster import Cluster
from tfaip_like.experiments.launchers._cluster_script import JobShell
from tfaip_like.experiments.launchers._jobs import ResourceRequest
from tfaip_like.experiments.launchers._launcher import Capabilities, JobStatus, Launcher
from tfaip_like.experiments.launchers._local_queue import LocalQueue
from tfaip_like.experiments.launchers._slurm import Slurm
from tfaip_like.experiments.launchers._tools import ToolError, run_tool

__all__ = [
    "Capabilities",
    "Cluster",
    "JobShell",
    "JobStatus",
    "Launcher",
    "LocalQueue",
    "ResourceRequest",
    "Slurm",
    "ToolError",
    "run_tool",
]
