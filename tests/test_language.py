"""The project's language: imperative docstrings, documented arguments, examples, and standard terms."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import NamedTuple

import pytest
from test_layers import PUBLIC

from tfaip_like.experiments import Launcher
from tfaip_like.optimizers import Optimizer
from tfaip_like.schedules import Schedule

ROOT = Path(__file__).parent.parent
CODE = sorted(path for name in ("tfaip_like", "scenarios", "scripts") for path in (ROOT / name).rglob("*.py"))
TESTS = sorted(path for path in (ROOT / "tests").glob("*.py") if path != Path(__file__))
DOCUMENTS = [
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.name != "public-api.md"),  # from docstrings
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "scenarios").rglob("*.yaml")),
]
SETTINGS = [ROOT / name for name in ("pyproject.toml", "setup.py", "scripts/check.sh", ".vscode/launch.json")]


class Finding(NamedTuple):
    """Place in a file, and what is wrong there."""

    path: Path
    line: int
    problem: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.problem}"

    @property
    def package(self) -> str:
        """Return the folder that the file belongs to, as `tfaip_like/data`."""
        return "/".join(self.path.relative_to(ROOT).parts[:2])


def assert_none(findings: list[Finding]) -> None:
    """Fail if there are findings, and print how many each package has."""
    counts = "\n".join(f"{count:5d}  {name}" for name, count in Counter(f.package for f in findings).most_common())
    listing = "\n".join(str(finding) for finding in findings)
    assert not findings, f"{len(findings)} findings\n{counts}\n{listing}"


NOT_IMPERATIVE = re.compile(r"what|how|whether|which|the|an?|all|one|its|where|why|when|who|that|is|are|if|.*[^s]s")
"""First words that are no imperatives: question words, articles and the third person."""


def has_imperative_opening(docstring: str) -> bool:
    """Return whether the first word of a docstring can be an imperative."""
    word = re.split(r"[^\w'-]", docstring.strip(), maxsplit=1)[0]
    return not NOT_IMPERATIVE.fullmatch(word.lower())


def openings(path: Path) -> Iterator[Finding]:
    """Yield the functions of a file whose docstring does not open with an imperative."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node) or "Return."
            if not has_imperative_opening(docstring):
                yield Finding(path, node.lineno, f"{node.name}: {docstring.splitlines()[0]}")


def test_docstrings_of_functions_open_with_an_imperative() -> None:
    assert_none([finding for path in CODE for finding in openings(path)])


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Return the rate.", True),
        ("Pass a value on.", True),
        ("The rate.", False),
        ("Returns the rate.", False),
        ("Whether it stops.", False),
        ("How many samples.", False),
    ],
)
def test_an_imperative_opening_is_recognised(docstring: str, expected: bool) -> None:
    assert has_imperative_opening(docstring) is expected


TERMS = {
    "tells?|telling|told": "say, report, log, show",
    "(go|goes|going|went) on": "continue, resume, keep",
    "anew": "again, from scratch",
    "at once": "immediately, at the same time; steps per execution",
    "so many": "this many, a number of",
    "as many as pay": "chosen automatically",
    "whoever|whatever|wherever": "name what is meant",
    "of (its|their|one's) own": "its own, separate",
    "beside": "next to, in addition to",
    "(?<!there )(is|are|was|were) no(?! longer)": "is not a",
    "no finite number|no number": "not finite, not a number",
    "cannot be had": "is not available, requires",
    "for a person": "human-readable",
    "what computes": "device",
    "mend|mends|mended|mending": "fix, work around",
    "that (are|is) there": "existing, available",
    "said": "state, report",
    "lies|lying": "is",
    "(is|are) to be": "should be, must be",
    "for ever": "forever, indefinitely",
    "data process(es)?": "data worker",
    "patiently": "with retries",
}
"""Words of a dialect, as regular expressions whose blanks are any separator, and the usual terms."""


EXCEPTIONS = re.compile(r'\.tell\(|"(resume with more )?data processes"')
"""Methods and messages of libraries, and names of recorded results."""


def term_pattern(term: str) -> re.Pattern[str]:
    """Return a pattern that finds a term in prose, in comments of several lines and within identifiers."""
    separator = r"(?:[-_]|\s+(?:#\s*)?)"
    alternatives = term.replace(" ", separator).replace("(?<!there" + separator, r"(?<!there[\s_]")
    return re.compile(rf"(?<![A-Za-z])(?:{alternatives})(?![a-z])", re.IGNORECASE)


def terms(path: Path) -> Iterator[Finding]:
    """Yield the dialect terms of a file."""
    text = EXCEPTIONS.sub(lambda match: " " * len(match[0]), path.read_text())
    for term, replacement in TERMS.items():
        for match in term_pattern(term).finditer(text):
            words = " ".join(match[0].split())
            yield Finding(path, text.count("\n", 0, match.start()) + 1, f"{words!r}: write {replacement}")


def test_code_and_documents_use_standard_terms() -> None:
    assert_none([finding for path in (*CODE, *DOCUMENTS, *SETTINGS) for finding in terms(path)])


def test_tests_use_standard_terms() -> None:
    assert_none([finding for path in TESTS for finding in terms(path)])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("it goes\n    # on", True),
        ("steps_at_once", True),
        ("`x` is no folder", True),
        ("there is no folder", False),
        ("is no longer there", False),
        ("besides", False),
        ("data processing", False),
    ],
)
def test_terms_are_found_over_line_breaks_and_in_identifiers(text: str, found: bool) -> None:
    assert any(term_pattern(term).search(text) for term in TERMS) is found


def public_objects() -> dict[str, type | FunctionType]:
    """Return the public classes and functions by qualified name, each once."""
    objects: dict[int, tuple[str, type | FunctionType]] = {}
    for name in PUBLIC:
        module = importlib.import_module(f"tfaip_like.{name}".rstrip("."))
        for public in module.__all__:
            value = getattr(module, public)
            if isinstance(value, type | FunctionType) and value.__module__.startswith("tfaip_like"):
                objects.setdefault(id(value), (f"{module.__name__}.{public}", value))
    return dict(objects.values())


PUBLIC_OBJECTS = public_objects()


def find(value: type | FunctionType, problem: str) -> Finding:
    """Return a finding at the definition of an object."""
    return Finding(Path(inspect.getsourcefile(value) or ""), inspect.getsourcelines(value)[1], problem)


def public_functions() -> Iterator[tuple[str, FunctionType, str]]:
    """Yield the name, the function and the docstring of public functions and methods that a person wrote."""
    for name, value in PUBLIC_OBJECTS.items():
        if isinstance(value, FunctionType):
            yield name, value, inspect.getdoc(value) or ""
            continue
        for attribute, member in vars(value).items():
            function = getattr(member, "__func__", member)
            if isinstance(function, FunctionType) and not attribute.startswith("_"):
                yield f"{name}.{attribute}", function, inspect.getdoc(function) or ""


def test_public_functions_with_several_parameters_document_them() -> None:
    missing = []
    for name, function, docstring in public_functions():
        parameters = [
            parameter for parameter in inspect.signature(function).parameters if parameter not in ("self", "cls")
        ]
        if len(parameters) >= 2 and "Args:" not in docstring:
            missing.append(find(function, f"{name}: no Args for {', '.join(parameters)}"))
    assert_none(missing)


PUBLIC_CLASSES = {name: value for name, value in PUBLIC_OBJECTS.items() if isinstance(value, type)}
EXAMPLE = re.compile(r">>>|^ *Example::$|^ *```python$", re.MULTILINE)


def examples_of(value: type) -> list[type]:
    """Return the classes whose examples show a class: itself, and its base if all that extend that are used alike."""
    return [value, *(base for base in (Optimizer, Schedule, Launcher) if issubclass(value, base))]


FENCED = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_public_classes_have_an_example() -> None:
    missing = []
    for name, value in PUBLIC_CLASSES.items():
        if not any(EXAMPLE.search(cls.__doc__ or "") for cls in examples_of(value)):
            missing.append(find(value, f"{name}: no example"))
    assert_none(missing)


@pytest.mark.parametrize("name", PUBLIC_OBJECTS)
def test_fenced_examples_of_docstrings_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for block in FENCED.findall(inspect.getdoc(PUBLIC_OBJECTS[name]) or ""):
        exec(compile(block, name, "exec"), {})  # its own text


MODULES_WITH_DOCTESTS = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in CODE
    if path.is_relative_to(ROOT / "tfaip_like") and ">>> " in path.read_text()
]


@pytest.mark.parametrize("name", [*MODULES_WITH_DOCTESTS, "scenarios.track_trigger.activation"])
def test_doctests_pass(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(importlib.import_module(name), optionflags=options).failed == 0
