"""Processors that convert texts to numbers of tokens, with the vocabulary in a file."""

from __future__ import annotations

import abc
import dataclasses
import importlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tfaip_like._utils.errors import UsageError, short_error_message
from tfaip_like._utils.packages import require_packages
from tfaip_like._utils.remote_paths import local_path
from tfaip_like.data._processors import Processor
from tfaip_like.data._sample import Sample, to_text_array


class Tokenizer(Processor, abc.ABC):
    """Base class of processors that convert a text to the numbers of its tokens.

    The vocabulary is copied into exports, which therefore accept texts.

    Example:
        >>> tokenizer = HuggingFaceTokenizer(file=Path("tokenizer.json"))
        >>> tokenizer.process(Sample({"text": "a b"}), np.random.default_rng()).inputs["tokens"]  # doctest: +SKIP
        array([5, 9], dtype=int32)
    """

    file: Path
    """File with the vocabulary."""

    input: str = "text"
    """Name of the input with the text."""

    output: str = "tokens"
    """Name of the input with the numbers: Spec((None,), "int32")."""

    max_length: int | None = None
    """Number of tokens after which a text is cut; none for no limit."""

    is_thread_safe = True

    def check(self) -> None:
        super().check()
        self.require(self.max_length is None or self.max_length > 0, "max_length", "must be above 0")

    @abc.abstractmethod
    def encode(self, text: str) -> Sequence[int]:
        """Return the numbers of the tokens of a text."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        if self.input not in sample.inputs:
            raise UsageError(f"input {self.input!r} is missing (available: {', '.join(sample.inputs) or 'none'})")
        text = to_text_array(np.asarray(sample.inputs[self.input])).item()
        others = {name: value for name, value in sample.inputs.items() if name != self.input}
        numbers = np.asarray(self.encode(text)[: self.max_length], np.int32)
        return dataclasses.replace(sample, inputs={**others, self.output: numbers})


class HuggingFaceTokenizer(Tokenizer):
    """Tokenizer of the package `tokenizers`, from its file `tokenizer.json`.

    Example:
        >>> HuggingFaceTokenizer(file=Path("tokenizer.json"), max_length=512).output
        'tokens'
    """

    def encode(self, text: str) -> Sequence[int]:
        ids: list[int] = _load("tokenizers", self.file, self.file.stat().st_mtime_ns).encode(text).ids
        return ids


class SentencePieceTokenizer(Tokenizer):
    """Tokenizer of the package `sentencepiece`, from its model file.

    Example:
        >>> SentencePieceTokenizer(file=Path("pieces.model"), output="ids").output
        'ids'
    """

    def encode(self, text: str) -> Sequence[int]:
        ids: list[int] = _load("sentencepiece", self.file, self.file.stat().st_mtime_ns).encode(text)
        return ids


@cache
def _load(package: str, file: Path, modified: int) -> Any:
    """Return the tokenizer of a file.

    Args:
        package: package that reads it.
        file: its path.
        modified: time of its last change, so that a changed file is read again.

    Raises:
        UsageError: if the package is not installed, or the file is none of its files.
    """
    require_packages(f"{file}", (package,))
    name = str(local_path(file))
    module: Any = importlib.import_module(package)
    try:
        if package == "tokenizers":
            return module.Tokenizer.from_file(name)
        return module.SentencePieceProcessor(model_file=name)
    except Exception as error:  # both raise anything
        raise UsageError(f"{file}: no file of {package}: {short_error_message(error)}") from error
