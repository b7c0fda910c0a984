"""Commands and listings of the README and of docs/ run as they are printed.

That takes minutes. By default only those of the README run; those of docs/ are parsed, which finds flags, scenarios and
imports that do not exist.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY, Run, slow

from scripts import public_api

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)(?: +(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INSTALLS = ("python3 -m venv", "bash scripts/check.sh")
"""Commands of the README that create an environment: one has a slow test, the other one runs this test."""


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """Yield language, file name and text of each block."""
    for match in BLOCK.finditer(page.read_text()):
        yield match[1], match[2] or "", match[3]


OURS = (
    "train-scenario",
    "resume-training",
    "inspect-samples",
    "benchmark-input-pipeline",
    "lav-scenario",
    "new-scenario",
    "compare-runs",
    "doctor",
    "evaluate-predictions",
)
PRINTS = ("--help", "--show", "--completion")


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of a block."""
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def uses_the_shell(text: str) -> bool:
    """Return whether a block needs a shell, not only commands and their words."""
    return bool(set("|&;<>$`\\#*") & set(text))


class Shell:
    """Runner of the commands of a page in a folder."""

    def __init__(self, folder: Path, quick_run: Run):
        self.folder = folder
        self.quick_run = quick_run
        (folder / "scenarios").mkdir()  # only their plans: the code is on the path
        (folder / "scenarios" / "plans").symlink_to(REPOSITORY / "scenarios" / "plans")
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
        }

    def block(self, text: str) -> None:
        """Run a block of commands unchanged."""
        if uses_the_shell(text) or any(words[0] not in OURS for words in commands(text)):
            self.program("bash", "-e", "-c", text)
        else:
            for words in commands(text):
                self.ours(*words)

    def ours(self, *words: str) -> None:
        """Run one of our commands, in a warm process if its backend is the imported one."""
        if "--device.backend" in words:
            self.program(*words)
        else:
            done = self.quick_run(*words, cwd=self.folder)
            assert done.returncode == 0, f"{shlex.join(words)}\n{done.stderr}"

    def program(self, *words: str) -> None:
        """Run any program."""
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stderr}"


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "page",
    [page if page.name == "README.md" else slow(page) for page in PAGES],
    ids=lambda page: page.name,
)
def test_commands_and_listings_run(page: Path, quick_run: Run, tmp_path: Path) -> None:
    shell = Shell(tmp_path, quick_run)
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


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_flags_scenarios_and_imports_of_commands_and_listings_exist(page: Path, quick_run: Run, tmp_path: Path) -> None:
    shell = Shell(tmp_path, quick_run)
    runs: list[str] = []
    for language, name, text in blocks(page):
        if name:
            (tmp_path / name).write_text(text)
        if language == "python":
            assert_imports_exist(text)
        for words in commands(text) if language == "bash" else ():
            folder = words.index("--trainer.output_dir") + 1 if "--trainer.output_dir" in words else None
            needs_a_run = any(word.startswith(run) for word in words for run in runs)  # there is none
            if words[0] in OURS and not needs_a_run and not any(set("|&;<>$`") & set(word) for word in words):
                is_quick = words[0] == "new-scenario" or set(PRINTS) & set(words)
                shell.ours(*words, *([] if is_quick else ["--show"]))
            runs += [words[folder]] if folder else []


def assert_imports_exist(listing: str) -> None:
    """Fail if a listing imports a name of ours that does not exist."""
    for node in ast.walk(ast.parse(listing)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tfaip_like"):
            module = importlib.import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


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


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, REPOSITORY / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", BLOCK.sub("", page.read_text())):
        if "://" not in target:
            file, _, anchor = target.partition("#")
            linked = page.parent / file if file else page
            assert linked.exists(), target
            assert not anchor or anchor in anchors(linked), target


def test_every_page_is_linked_from_the_readme() -> None:
    linked = re.findall(r"\]\(([^)#]+\.md)\)", (REPOSITORY / "README.md").read_text())
    assert {str(page.relative_to(REPOSITORY)) for page in PAGES[1:]} <= set(linked)


def test_the_page_about_the_public_api_is_that_of_the_docstrings() -> None:
    assert public_api.PAGE.read_text() == public_api.page(), "run python scripts/public_api.py"
