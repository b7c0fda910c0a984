"""Persistent cache of compiled programs on JAX."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import REPOSITORY, Run

from tfaip_like._training import compilation_cache
from tfaip_like._training.compilation_cache import enable_compilation_cache

TRAIN = """
import sys
import jax, numpy as np
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name) if name.endswith("/cache_hits") else None)
from small import small
from tfaip_like import train
from tfaip_like.settings import Device
result = train(small(trainer={"jit_compile": None, "epochs": 1}, device={"compilation_cache": sys.argv[1] == "true"}))
print(len(hits), [weight.tobytes().hex() for weight in result.network.get_weights()])
"""


@pytest.mark.slow
def test_a_repeated_run_does_not_compile_again_and_computes_the_same_bits(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("jax")
    environment = {
        "PYTHONPATH": f"{Path(__file__).parent}:{REPOSITORY}",
        "KERAS_BACKEND": "jax",
        "XDG_CACHE_HOME": str(tmp_path),
    }

    def train(cached: str) -> tuple[int, str]:
        done = run(sys.executable, "-c", TRAIN, cached, cwd=tmp_path, environment=environment)
        assert done.returncode == 0, done.stderr[-2000:]
        hits, _, bits = done.stdout.partition(" ")
        return int(hits), bits

    without = train("false")
    assert without[0] == 0
    assert not list(tmp_path.rglob("*-cache"))
    first, second = train("true"), train("true")
    assert first[1] == second[1] == without[1]
    assert second[0] > first[0]


class Config(SimpleNamespace):
    """JAX's configuration."""

    def update(self, name: str, value: Any) -> None:
        setattr(self, name, value)


@pytest.fixture
def jax() -> Any:
    return SimpleNamespace(config=Config(jax_compilation_cache_dir=None))


def test_machines_with_other_cpus_do_not_share_programs(
    jax: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    enable_compilation_cache(jax)
    first, jax.config.jax_compilation_cache_dir = jax.config.jax_compilation_cache_dir, None
    monkeypatch.setattr(compilation_cache, "num_usable_cpus", lambda: 77)
    enable_compilation_cache(jax)
    assert os.path.dirname(first) == os.path.dirname(jax.config.jax_compilation_cache_dir)
    assert first != jax.config.jax_compilation_cache_dir


def test_the_directory_that_the_user_has_chosen_is_kept(jax: Any) -> None:
    jax.config.jax_compilation_cache_dir = "/scratch/programs"
    enable_compilation_cache(jax)
    assert vars(jax.config) == {"jax_compilation_cache_dir": "/scratch/programs"}


def test_a_cache_that_cannot_be_written_is_a_warning(
    jax: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    enable_compilation_cache(jax)
    assert "no compilation cache" in caplog.text
    assert jax.config.jax_compilation_cache_dir is None
