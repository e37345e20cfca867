"""Questions, thoughts and bills as plain JSON values, and the fingerprint of an op: what rows of a ledger are made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pondera.errors import BadInput, LedgerError
from pondera.thought import Message, Question, Spend, Thought


def digest(value: object) -> str:
    """A value by its `repr`, in 16 hexadecimal digits; a lone surrogate is a character too."""
    return hashlib.blake2b(repr(value).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def json_object(line: bytes, where: str) -> dict[str, Any]:
    """A line of JSON Lines. Raises BadInput, which begins with `where`."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise BadInput(f"{where}: this is not a JSON object; mend the line, or remove it.")
    return row


def fingerprint(op: object) -> str:
    """What an op asks, in 16 hexadecimal digits; thoughts count by their ids, and what is left at its default does not count."""

    def plain(value: object) -> object:
        if isinstance(value, Thought):
            return value.id
        if is_dataclass(value) and not isinstance(value, type):
            given = ((f.name, getattr(value, f.name), f.default) for f in fields(value))
            return [type(value).__name__, *((name, plain(one)) for name, one, default in given if one != default)]
        return [plain(v) for v in value] if isinstance(value, tuple | list) else value

    return digest(plain(op))


def spend_to_json(spend: Spend) -> dict[str, Any]:
    return {f.name: value for f in fields(spend) if (value := getattr(spend, f.name))}


_PLAIN = ("said", "text", "forced", "thinking", "finish", "tokens", "model", "tool")


def thought_to_json(thought: Thought) -> dict[str, Any]:
    """All but the question and the model's own state."""
    body: dict[str, Any] = {"parent": thought.parent.id if thought.parent else ""}
    body |= {name: value for name in _PLAIN if (value := getattr(thought, name))}
    if thought.ids:
        body["ids"] = list(thought.ids)
    if thought.logprobs:
        body["logprobs"] = list(thought.logprobs)
    return body


def thought_from_json(key: str, body: Mapping[str, Any], parent: Thought | None) -> Thought:
    plain = {name: body[name] for name in _PLAIN if name in body}
    return Thought(key, parent, ids=tuple(body.get("ids", ())), logprobs=tuple(body.get("logprobs", ())), **plain)


def question_to_json(question: Question) -> dict[str, Any]:
    turns = [{"role": m.role, "content": m.content, **({"extra": dict(m.extra)} if m.extra else {})} for m in question.messages]
    return {"messages": turns, "kind": question.kind, "tools": [dict(t) for t in question.tools], "format": question.format}


def question_from_json(body: Mapping[str, Any]) -> Question:
    try:
        turns = tuple(Message(m["role"], m["content"], m.get("extra", {})) for m in body["messages"])
        return Question(turns, body.get("kind", "math"), tuple(body.get("tools", ())), body.get("format"))
    except (KeyError, TypeError, BadInput) as error:
        raise LedgerError(f"The ledger's question is damaged ({error}).")
