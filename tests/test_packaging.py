"""The metadata, the source distribution and the wheel."""

from __future__ import annotations

import ast
import email
import os
import re
import shutil
import site
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from command_server import REPOSITORY

import tfaip_like

MAX_CORE_DEPENDENCIES = 10
OTHER_PYTHONS = ("3.12", "3.13")


def run(*words: object, cwd: Path, timeout: float = 280) -> str:
    """Run a program outside of the repository, and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the tracked files: a build must neither write to the repository nor include anything else."""
    target = tmp_path_factory.mktemp("sources")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, target / name)
    return target


@pytest.fixture(scope="module")
def sdist(sources: Path) -> Path:
    run(sys.executable, "-c", "import setuptools.build_meta as b; b.build_sdist('dist')", cwd=sources)
    [path] = (sources / "dist").glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution, as package managers do."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    [unpacked] = folder.iterdir()
    options = ("--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    run(sys.executable, "-m", "pip", "wheel", *options, unpacked, cwd=folder)
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def list_tracked_files(*patterns: str) -> set[str]:
    """Return the files of the repository that match, without those of the tests' caches."""
    found = (path for pattern in patterns for path in REPOSITORY.glob(pattern) if path.is_file())
    return {str(path.relative_to(REPOSITORY)) for path in found if "__pycache__" not in path.parts}


def test_the_sdist_is_complete(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "README.md", "pyproject.toml", "setup.py"} <= names
    assert list_tracked_files("tfaip_like/**/*.py", "scenarios/**/*.py", "tests/*.py", "docs/**/*.md") <= names
    assert not [name for name in names if "__pycache__" in name]


def test_the_wheel_is_complete(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = list_tracked_files("tfaip_like/**/*.py", "tfaip_like/py.typed", "tfaip_like/_report/assets/*")
    scenarios = {f"tfaip_like_{name}" for name in list_tracked_files("scenarios/**/*.py", "scenarios/**/*.yaml")}
    assert package | scenarios | {"tfaip_like_scenarios/py.typed"} <= names
    assert any(re.fullmatch(r"tfaip_like-.*\.dist-info/licenses/LICENSE", name) for name in names)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"tfaip_like", "tfaip_like_scenarios"}


def test_the_metadata_are_complete(metadata: Message) -> None:
    assert metadata["Version"] == tfaip_like.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Author"] == "The tfaip_like authors"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "keras" in metadata["Keywords"]
    versions = {entry.rpartition(" :: ")[2] for entry in metadata.get_all("Classifier", [])}
    assert versions >= {"3.11", "3.12", "3.13"}


def test_the_metadata_name_no_address_that_does_not_exist(metadata: Message) -> None:
    remotes = subprocess.run(["git", "remote", "-v"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    for entry in [*metadata.get_all("Project-URL", []), *metadata.get_all("Home-page", [])]:
        address = entry.rpartition(", ")[2].removesuffix("/")
        assert address in remotes.stdout, f"{address} is not the address of this repository"
    links = re.findall(r"\]\(([^)]+)\)", str(metadata.get_payload()))
    assert all(link.startswith(("https://", "#")) for link in links), links


def test_core_dependencies_are_few(metadata: Message) -> None:
    core = [entry for entry in metadata.get_all("Requires-Dist", []) if "extra ==" not in entry]
    assert len(core) <= MAX_CORE_DEPENDENCIES


def test_the_configuration_names_the_oldest_supported_python() -> None:
    configuration = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert configuration["tool"]["ruff"]["target-version"] == "py311"
    assert configuration["tool"]["mypy"]["python_version"] == "3.11"


@pytest.mark.parametrize("version", OTHER_PYTHONS)
def test_other_pythons_compile_all_modules(version: str, tmp_path: Path) -> None:
    interpreter = find_python(version)
    if interpreter is None:
        pytest.skip(f"Python {version} is not installed")
    code = (
        "import pathlib, sys, warnings; warnings.simplefilter('error')\n"
        "for folder in sys.argv[1:]:\n"
        "    for file in pathlib.Path(folder).rglob('*.py'): compile(file.read_text('utf-8'), str(file), 'exec')"
    )
    run(interpreter, "-c", code, REPOSITORY / "tfaip_like", REPOSITORY / "scenarios", cwd=tmp_path)


def find_python(version: str) -> Path | None:
    """Return an interpreter of a version, on PATH or of pyenv."""
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    on_path = shutil.which(f"python{version}")
    for candidate in [*installed, *([Path(on_path)] if on_path else [])]:
        done = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False)
        if done.returncode == 0 and f" {version}." in done.stdout:
            return candidate
    return None


def test_no_module_uses_what_python_3_13_removed() -> None:
    removed = {
        *("aifc", "asynchat", "asyncore", "audioop", "cgi", "cgitb", "chunk", "crypt", "distutils", "imghdr", "imp"),
        *("lib2to3", "mailcap", "msilib", "nis", "nntplib", "ossaudiodev", "pipes", "pkg_resources", "smtpd"),
        *("sndhdr", "spwd", "sunau", "telnetlib", "uu", "xdrlib"),
    }
    for name in list_tracked_files("tfaip_like/**/*.py", "scenarios/**/*.py"):
        for node in ast.walk(ast.parse((REPOSITORY / name).read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                modules.append(str(node.module))
            assert removed.isdisjoint(module.partition(".")[0] for module in modules), name


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_user_of_the_wheel_starts_without_a_clone(wheel: Path, tmp_path: Path) -> None:
    environment, folder = tmp_path / "venv", tmp_path / "work"
    folder.mkdir()
    venv.create(environment, with_pip=False)
    bin_dir = environment / "bin"
    [target] = environment.glob("lib/python*/site-packages")
    pip = (sys.executable, "-m", "pip", "--python", bin_dir / "python")
    run(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    # The dependencies are those of this interpreter; the .pth files there, which lead to a clone, are not read.
    (target / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")

    where = run(bin_dir / "python", "-c", "import tfaip_like; print(tfaip_like.__file__)", cwd=folder)
    assert Path(where.strip()).is_relative_to(environment)
    run(bin_dir / "new-scenario", "x", "--from", "tutorial", cwd=folder)
    output = ("--trainer.epochs", 1, "--trainer.samples_per_epoch", 256, "--trainer.output_dir", "run")
    run(bin_dir / "train-scenario", "x", *output, cwd=folder)
    predicted = run(bin_dir / "predict-scenario", "run", "--predict.limit", 2, cwd=folder)
    assert "probabilities" in predicted
    assert "1 passed" in run(bin_dir / "python", "-m", "pytest", "-q", "x", cwd=folder)
    # The shipped scenarios do not shadow a user's own folder of that name.
    (folder / "scenarios").mkdir()
    (folder / "scenarios" / "mine.py").write_text((folder / "x" / "scenario.py").read_text())
    assert "--model.dropout" in run(bin_dir / "train-scenario", "scenarios.mine", "--show", cwd=folder)
    assert "--data.num_files" in run(bin_dir / "train-scenario", "tfaip_like_scenarios.jets", "--show", cwd=folder)
