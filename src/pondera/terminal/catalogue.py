"""Lists of what there is: models, strategies, verifiers."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from pondera import parse
from pondera.models import weights


def models() -> Group:
    """The known models: size to fetch, whether they are here, licence, and what they are."""
    lines: list[RenderableType] = []
    for row in weights.models_table():
        here = ("here     ", "green") if row.fetched else ("not here ", "dim")
        default = " (the default)" if row.name == weights.DEFAULT else ""
        lines += [Text.assemble((f"{row.name:<20}", "bold"), f"{row.size / 1e6:>6,.0f} MB  ", here, row.licence, default)]
        lines += [_about(f"{row.title}: {row.note}")]
    return Group(*lines)


def functions(table: Mapping[str, Callable[..., Any]]) -> Group:
    """Each function as it may be written with all its arguments, the first line of its docstring, and the paper that it names."""
    lines: list[RenderableType] = []
    for name, function in sorted(table.items()):
        arguments = ", ".join(f"{key}={_short(parameter.default)}" for key, parameter in parse.keywords(function).items())
        lines += [Text.assemble((name, "bold"), (f"({arguments})", "dim"))]
        told = inspect.getdoc(function) or ""
        lines += [_about(told.partition("\n")[0])]
        if papers := papers_of(told):
            lines += [_about(papers, "dim")]
    return Group(*lines)


def papers_of(docstring: str) -> str:
    """What a docstring's paragraph that begins with "Paper:" names."""
    paragraph = re.search(r"^Paper: (.+?)(?:\n\s*\n|\Z)", docstring, re.DOTALL | re.MULTILINE)
    return " ".join(paragraph[1].split()) if paragraph else ""


def _about(text: str, style: str = "") -> RenderableType:
    return Padding(Text(text, style), (0, 0, 0, 4))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]}...{text[0]}"
