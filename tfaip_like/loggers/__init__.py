"""Loggers: services that get the values of a training, in addition to its run directory."""

from tfaip_like.loggers._logger import LoggedRun, Logger, ParamValue, Status
from tfaip_like.loggers._mlflow import MLflow
from tfaip_like.loggers._tensorboard import TensorBoard

__all__ = ["LoggedRun", "Logger", "MLflow", "ParamValue", "Status", "TensorBoard"]
