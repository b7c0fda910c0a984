"""No setting is ignored: each is read somewhere."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tfaip_like import Scenario
from tfaip_like.data import TrainLoaderSettings, ValLoaderSettings
from tfaip_like.params._base import field_types
from tfaip_like.settings import Device, EarlyStopping, Trainer, WarmStart

PACKAGE = Path(__file__).parent.parent / "tfaip_like"
READ = {
    node.attr
    for path in PACKAGE.rglob("*.py")
    if path.parent.name != "settings"
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Attribute)
}
GROUPS = (Scenario, Trainer, Device, EarlyStopping, WarmStart, TrainLoaderSettings, ValLoaderSettings)
FIELDS = [(cls.__name__, name) for cls in GROUPS for name in field_types(cls)]


@pytest.mark.parametrize(("owner", "name"), FIELDS)
def test_every_setting_is_read_outside_of_its_definition(owner: str, name: str) -> None:
    assert name in READ, f"{owner}.{name} is a flag that nothing reads"
