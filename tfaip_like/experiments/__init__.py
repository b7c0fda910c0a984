"""Batches of experiments: a plan is expanded into a directory of runs, which a launcher trains."""

from tfaip_like.experiments._batches.generation import add, generate
from tfaip_like.experiments._plans.configuration import Configuration, Distribution, RandomSearchSpace
from tfaip_like.experiments._plans.plan import Plan, PlannedRun
from tfaip_like.experiments.launchers import Launcher

__all__ = ["Configuration", "Distribution", "Launcher", "Plan", "PlannedRun", "RandomSearchSpace", "add", "generate"]
