"""Calls written as text: `vote(n=8)` against a table of functions whose signatures are the schema."""

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pondera.errors import BadInput

Table = Mapping[str, Callable[..., Any]]
_KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (float, int), "str": (str,), "bool": (bool,)}


def call(text: str, table: Table, sort: str, /, **defaults: Any) -> Callable[..., Any]:
    """The function that `text` names, its keyword arguments bound. `defaults` bind where the function takes them and the text does not.

    Raises BadInput, in one sentence with the nearest right one, for a wrong name, argument or value.
    """
    name, given = split(text, sort)
    if name not in table:
        raise BadInput(f"There is no {sort} {name!r}{nearest(name, table)}; there are: {', '.join(sorted(table))}.")
    taken = keywords(table[name])
    for key, value in given.items():
        if key not in taken:
            known = ", ".join(taken) or "none"
            raise BadInput(f"The {sort} {name} takes no argument {key!r}{nearest(key, taken)}; it takes: {known}.")
        _check(name, key, value, taken[key])
    return partial(table[name], **{k: v for k, v in defaults.items() if k in taken} | given)


def registry(ours: Table, group: str) -> Table:
    """Our functions by name, and other packages' by entry point; ours cannot be replaced. What cannot be loaded says so when used."""
    return {point.name: _load(point) for point in entry_points(group=group)} | dict(ours)


def _load(point: EntryPoint) -> Callable[..., Any]:
    try:
        found = point.load()
        fault = "" if callable(found) else "it is not a function"
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"

    def broken(*given: Any, **named: Any) -> Any:
        raise BadInput(f"{point.name!r} of {point.value!r} cannot be used ({fault}): mend its package.")

    return broken if fault else found


def keywords(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The arguments with a default that a function takes, in order: those are its configuration."""
    return {k: p for k, p in inspect.signature(function).parameters.items() if p.default is not p.empty}


def split(text: str, sort: str) -> tuple[str, dict[str, Any]]:
    """The name and the keyword arguments of a call written as text. Raises BadInput for anything else."""
    shape = BadInput(f'{text!r} is not a {sort}: write its name, and arguments by keyword, as in "name(n=8)".')
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if isinstance(tree, ast.Name):
            return tree.id, {}
        if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name) or tree.args:
            raise shape
        given = {k.arg: ast.literal_eval(k.value) for k in tree.keywords if k.arg}
        if len(given) < len(tree.keywords):  # one twice, or a **
            raise shape
        return tree.func.id, given
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        raise shape


def _check(name: str, key: str, value: Any, parameter: inspect.Parameter) -> None:
    wanted = str(parameter.annotation)
    right = _KINDS.get(wanted)
    if right and (not isinstance(value, right) or (isinstance(value, bool) and bool not in right)):
        raise BadInput(
            f"{name}({key}={value!r}): {key} must be {'an' if wanted == 'int' else 'a'} {wanted}, such as {parameter.default!r}."
        )


def nearest(word: str, known: Mapping[str, Any]) -> str:
    """ ", did you mean 'this'?", or nothing."""
    near = difflib.get_close_matches(word, known, 1, 0.5)
    return f", did you mean {near[0]!r}?" if near else ""
