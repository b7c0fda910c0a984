"""Batches of experiments: a plan becomes a folder of runs, which a local queue or SLURM works on."""

from tfaip_like.experiments.configuration import Configuration, Draws
from tfaip_like.experiments.plan import Plan, PlannedRun

__all__ = ["Configuration", "Draws", "Plan", "PlannedRun"]
