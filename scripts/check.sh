#!/usr/bin/env bash
# Everything that must hold before a change lands: style, types, tests. Needs nothing but Python 3.11.
# What it installs goes into .venv; further words go to pytest (-m slow, -k NAME).
set -euo pipefail
cd "$(dirname "$0")/.."

[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]'
.venv/bin/ruff format --check .
.venv/bin/ruff check .
.venv/bin/mypy
# By file: what the tests of a file share is made once. The order is that of tests/conftest.py.
.venv/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder "$@"
