"""HTML and SVG builder that escapes all text except `Markup`."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Container, Iterable, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any, Literal

VOID_ELEMENTS = frozenset({"br", "img", "meta"})


class Markup(str):
    """String that is markup and not escaped."""

    __slots__ = ()


Child = str | None | Iterable["Child"]
"""Text (escaped unless it is `Markup`), None, or several of these."""


def element(tag: str, /, *children: Child, **attributes: object) -> Markup:
    """Return an element.

    Args:
        tag: Name of the element.
        children: Content.
        attributes: Attributes; `_` in names is written as `-`, a trailing `_` is dropped. None and False omit the
            attribute, True writes it without a value.

    Example:
        >>> element("p", "a < b", class_="note")
        '<p class="note">a &lt; b</p>'
    """
    attribute_text = "".join(
        _attribute(key, value) for key, value in attributes.items() if value is not None and value is not False
    )
    if tag in VOID_ELEMENTS:
        return Markup(f"<{tag}{attribute_text}>")
    return Markup(f"<{tag}{attribute_text}>{join_markup(*children)}</{tag}>")


def join_markup(*children: Child) -> Markup:
    """Return the concatenated children."""
    return Markup("".join(_to_markup(child) for child in children))


def _to_markup(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, str):
        return child if isinstance(child, Markup) else escape(child)
    return join_markup(*child)


def _attribute(name: str, value: object) -> str:
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'


def table(
    header: Sequence[Child] | None,
    rows: Iterable[Sequence[Child]],
    class_: str | None = None,
    caption: Child = None,
    marked: Container[Child] = (),
) -> Markup:
    """Return a horizontally scrollable table whose first column contains row headers.

    Args:
        header: Column titles; None for no header.
        rows: Cells of each row.
        class_: CSS class.
        caption: Caption.
        marked: Headers of the highlighted rows.
    """
    head = element("tr", (element("th", cell, scope="col") for cell in header)) if header else None
    body = (
        element(
            "tr",
            element("th", name, scope="row"),
            (element("td", cell) for cell in cells),
            class_="marked" if name in marked else None,
        )
        for name, *cells in rows
    )
    parts = (
        element("caption", caption) if caption else None,
        element("thead", head) if head else None,
        element("tbody", body),
    )
    return make_scrollable(element("table", *parts, class_=class_))


def make_scrollable(wide: Child) -> Markup:
    """Return wide content in a scrollable box that is accessible by keyboard."""
    return element("div", wide, class_="wide", tabindex="0")


def section(title: str, *children: Child) -> Markup:
    """Return a section with a heading, or empty markup without content."""
    content = join_markup(*children)
    return element("section", element("h2", title), content) if content else Markup()


def make_collapsible(title: str, *children: Child) -> Markup:
    """Return a collapsed block; print shows it only if it is open."""
    return element("details", element("summary", title), *children)


def json_script(values: Any) -> Markup:
    """Return values as JSON for the script of the page, escaped so that it cannot contain markup."""
    text = json.dumps(values, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return element("script", Markup(text), type="application/json")


def page(title: str, *body: Child, library: Literal["echarts.common", "echarts"]) -> str:
    """Return a self-contained HTML page with embedded style sheet, scripts and charting library.

    Args:
        title: Title of the page.
        body: Content.
        library: Build of ECharts: `echarts.common` has line and bar charts, `echarts` all kinds.
    """
    script = _read_asset("page.js")
    # Defence in depth: even if user data were injected as markup, no other script could run and nothing be fetched.
    allowed = " ".join(f"'sha256-{_hash(text)}'" for text in (script, _read_asset(f"{library}.min.js")))
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(_read_asset("page.css"))),
    )
    scripts = (
        element("script", Markup(_compress_library(library)), type="application/gzip", id="library"),
        element("script", Markup(script)),
    )
    return "<!DOCTYPE html>\n" + element("html", head, element("body", *body, *scripts), lang="en")


@cache
def _compress_library(library: str) -> str:
    """Return the charting library compressed to a third of its size, as hundreds of reports contain it."""
    return base64.b64encode(gzip.compress(_read_asset(f"{library}.min.js").encode(), mtime=0)).decode()


@cache
def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def _read_asset(name: str) -> str:
    return files(__package__).joinpath("assets", name).read_text(encoding="utf-8")
