"""Every command and listing of the README and of docs/ runs as it is printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)(?: +(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INSTALLS = ("python3 -m venv", "bash scripts/check.sh")
"""The two commands of the README that make an environment: one has a slow test, the other runs this one."""


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """Language, file name and text of each block."""
    for match in BLOCK.finditer(page.read_text()):
        yield match[1], match[2] or "", match[3]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_listings_run(page: Path, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
    }
    for number, (language, name, text) in enumerate(blocks(page)):
        if language == "bash" and not text.startswith(INSTALLS):
            command = ["bash", "-e", "-c", text]
        elif language == "python":
            file = name or f"listing_{number}.py"
            (tmp_path / file).write_text(text)
            command = [sys.executable, file]
        else:
            if name:
                (tmp_path / name).write_text(text)
            continue
        if language == "python" and "Scenario" in text and "train(" not in text:
            continue  # a scenario file; the commands below it run it
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, f"{text}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_first_command_of_the_readme_works_in_a_fresh_clone(tmp_path: Path) -> None:
    command = next(text for language, _, text in blocks(REPOSITORY / "README.md") if language == "bash")
    assert command.startswith("python3 -m venv")
    subprocess.run(["git", "clone", "-q", REPOSITORY, tmp_path / "clone"], check=True)
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path / "clone", env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "epoch 10/10: loss" in done.stderr
    assert (tmp_path / "clone" / "runs" / "tutorial" / "best" / "serve" / "saved_model.pb").exists()


def test_the_readme_shows_the_minimal_scenario_as_it_is() -> None:
    listings = [text for language, _, text in blocks(REPOSITORY / "README.md") if language == "python"]
    assert listings == [(REPOSITORY / "scenarios" / "minimal.py").read_text()]


@pytest.mark.parametrize("page", [*PAGES, REPOSITORY / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    prose = BLOCK.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)#]+)\)", prose):
        if "://" not in target:
            assert (page.parent / target).exists(), target
