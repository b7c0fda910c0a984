"""Loggers: services that get the values of a training, in addition to its run directory."""

from tfaip_like.loggers._logger import LoggedRun, Logger, ParamValue, Status
from tfaip_like.loggers._mlflow import MLflow
from tfaip_like.loggers._tensorboard import TensorBoard
from tfaip_like.loggers._trackio import Trackio
from tfaip_like.loggers._wandb import WandB

__all__ = ["LoggedRun", "Logger", "MLflow", "ParamValue", "Status", "TensorBoard", "Trackio", "WandB"]
