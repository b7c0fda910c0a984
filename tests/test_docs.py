"""Every command and listing of the README and of docs/ runs as it is printed."""

from __future__ import annotations

import json
import os
import re
import shlex
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


OURS = (
    "train-scenario",
    "resume-training",
    "look-at-samples",
    "benchmark-input-pipeline",
    "lav-scenario",
    "compare-runs",
)


class Shell:
    """Runs the commands of a page in a folder; ours quickly, from a process that has imported TensorFlow."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
        }
        server = [sys.executable, Path(__file__).parent / "command_server.py"]
        self._server = subprocess.Popen(
            server, cwd=folder, env=self.environment, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True
        )

    def block(self, text: str) -> None:
        """Runs a block of commands."""
        needs_a_shell = set("|&;<>$`\\#*") & set(text) or "--device.backend" in text
        lines = [] if needs_a_shell else [shlex.split(line) for line in text.splitlines() if line.strip()]
        if lines and all(words[0] in OURS for words in lines):
            for words in lines:
                self._ours(words)
        else:
            self.program("bash", "-e", "-c", text)

    def _ours(self, words: list[str]) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        errors = self.folder / ".errors"
        self._server.stdin.write(json.dumps({"words": words, "errors": str(errors)}) + "\n")
        self._server.stdin.flush()
        assert self._server.stdout.readline() == "0\n", f"{shlex.join(words)}\n{errors.read_text()}"

    def program(self, *words: str) -> None:
        """Runs any program."""
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stderr}"

    def close(self) -> None:
        """Ends the server."""
        self._server.communicate(timeout=60)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_listings_run(page: Path, tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    for number, (language, name, text) in enumerate(blocks(page)):
        if language == "bash" and not text.startswith(INSTALLS):
            shell.block(text)
        elif language == "python":
            file = name or f"listing_{number}.py"
            (tmp_path / file).write_text(text)
            if "Scenario" not in text or "train(" in text:  # the others are run by the commands below them
                shell.program(sys.executable, file)
        elif name:
            (tmp_path / name).write_text(text)
    shell.close()


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
