"""Exporters: further formats of the exported network, chosen by `--exporters`."""

from tfaip_like.exporters._exporter import ExportedNetwork, Exporter
from tfaip_like.exporters._int8 import Int8
from tfaip_like.exporters._litert import LiteRT
from tfaip_like.exporters._onnx import ONNX

__all__ = ["ONNX", "ExportedNetwork", "Exporter", "Int8", "LiteRT"]
