"""Batches of experiments: a plan is expanded into a directory of runs for a local queue or SLURM."""

from tfaip_like.experiments._batches.generation import add, generate
from tfaip_like.experiments._plans.configuration import Configuration, Distribution, RandomSearchSpace
from tfaip_like.experiments._plans.plan import Plan, PlannedRun

__all__ = ["Configuration", "Distribution", "Plan", "PlannedRun", "RandomSearchSpace", "add", "generate"]
