"""The record of a run as a tree: every thought where it grew, what was read from it, what failed and why, and what came of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text
from rich.tree import Tree

from pondera.errors import LedgerError
from pondera.ledger import Row, effective, tree
from pondera.ops import Call
from pondera.plain import fingerprint
from pondera.terminal.text import count, one_line, safe, seconds
from pondera.thought import Thought

STYLES = {"done": "green", "length": "yellow", "loop": "yellow", "step": "cyan", "tokens": "cyan"}
SAID = {"length": "cut off", "loop": "cut off in a loop"}
TOOLS = ("python", "tests")


@dataclass(slots=True)
class _Facts:
    """What the rows say of each thought, by its id."""

    nodes: dict[str, Thought]
    keys: dict[str, str | None] = field(default_factory=dict)
    scores: dict[str, list[str]] = field(default_factory=dict)
    faults: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # by parent: (key, reason)
    samples: dict[str, Mapping[str, Any]] = field(default_factory=dict)  # their rows' bodies
    chosen: str | None = None


def trace_tree(rows: Sequence[Row], *, full: bool = False) -> Tree:
    """The tree of a run's rows; `full` shows whole texts, else their first lines. Raises LedgerError where the rows are no run."""
    if not rows or rows[0].kind != "run":
        raise LedgerError("The file holds no run: give one that --trace wrote.")
    facts = _facts(rows)
    children: dict[str, list[Thought]] = {}
    for node in facts.nodes.values():
        if node.id != "0":
            children.setdefault(_parent(node, facts), []).append(node)
    root = Tree(_root(rows, facts), guide_style="dim")
    _grow(root, "0", children, facts, full)
    for line in _course(rows, facts):
        root.add(line)
    return root


def _facts(rows: Sequence[Row]) -> _Facts:
    facts = _Facts(tree(rows))
    valid = effective(rows)
    for row in valid:
        body = row.body
        if row.kind == "answer" or (row.kind == "offer" and not any(r.kind == "answer" for r in valid)):
            facts.chosen = body["node"]
        if row.kind == "op" and body["op"] == "Key" and "value" in body:
            facts.keys |= dict(zip(body["nodes"], body["value"], strict=False))
        if row.kind == "op" and body["op"] == "Score" and "value" in body:
            for node, score in zip(body["nodes"], body["value"], strict=False):
                facts.scores.setdefault(node, []).append(f"{body['by']} {'none' if score is None else format(score, '.3f')}")
    facts.samples = {row.key: row.body for row in rows if row.kind == "sample"}
    for parent, key, reason in _faults(valid, facts):
        facts.faults.setdefault(parent, []).append((key, reason))
    return facts


def _faults(rows: Sequence[Row], facts: _Facts) -> Iterator[tuple[str, str, str]]:
    """Branches without a thought: failed samples beside their siblings, failed tools under the thought that called them."""
    parents = {key.rsplit("/", 1)[0]: node.parent.id for key, node in facts.nodes.items() if node.parent and "/" in key}
    calls = {fingerprint(Call(node, tool, node.reply)): node.id for node in facts.nodes.values() for tool in TOOLS}
    told: set[str] = set()
    for row in rows:
        if row.kind == "sample" and row.key not in facts.nodes:
            yield parents.get(row.key.rsplit("/", 1)[0], "0"), row.key, row.body["error"][1]
        elif row.kind == "op" and row.body["op"] == "Call" and "error" in row.body:
            told.add(row.key.rsplit(".", 1)[0])
            yield calls.get(row.body["print"], "0"), row.key, row.body["error"][1]
        elif row.kind == "drop" and row.key not in told:
            yield "0", row.key, row.body["reason"]


def _parent(node: Thought, facts: _Facts) -> str:
    """Where a thought hangs: what a judge said hangs under the thought that it judged, whose id its own root's begins with."""
    if node.parent:
        return node.parent.id
    judged = str(facts.samples.get(node.id, {}).get("parent", "")).split("?", 1)[0]
    return judged if judged in facts.nodes else "0"


# ---------------------------------------------------------------- words


def _grow(branch: Tree, node: str, children: Mapping[str, list[Thought]], facts: _Facts, full: bool) -> None:
    """Depth first, without recursion: a path may be thousands of thoughts long."""
    stack = [(branch, node)]
    while stack:
        here, parent = stack.pop()
        grown = [(child.id, child, "") for child in children.get(parent, ())]
        lost = [(key, None, reason) for key, reason in facts.faults.get(parent, ())]
        for key, child, reason in sorted([*grown, *lost], key=lambda entry: _place(entry[0])):
            if child:
                stack.append((here.add(_label(child, facts, full)), key))
            else:
                here.add(Text.assemble((f"{key} ", "dim"), (f"✗ {one_line(reason)}", "red")))


def _place(key: str) -> list[int]:
    """Keys in the order of their numbers: `0.3/10` after `0.3/9`."""
    return [int(part) for part in re.findall(r"\d+", key)]


def _root(rows: Sequence[Row], facts: _Facts) -> Text:
    body = rows[0].body
    origin = body.get("origin", {})
    how = " · ".join(str(origin[name]) for name in ("model", "strategy", "verifier", "judge", "draft", "reward") if origin.get(name))
    caps = " · ".join(f"{value:,} {name}" for name, value in body.get("budget", {}).items())
    text = Text.assemble((one_line(facts.nodes["0"].about.text)[:300], "bold"), (f"\n{how} · seed {body.get('seed', 0)}", "dim"))
    return text.append(f" · at most {caps}", "dim") if caps else text


def _label(node: Thought, facts: _Facts, full: bool) -> Text:
    ending = node.tool or SAID.get(node.finish, node.finish)
    text = Text.assemble((f"{node.id} ", "dim"), (ending, STYLES.get(node.finish, "")))
    if not node.tool:
        text.append(f" {count(node.tokens, 'token')}", "dim")
    sample = facts.samples.get(node.id, {})
    if (role := sample.get("by", "think")) != "think":
        text.append(f" {role}", "magenta")
    if "error" in sample:
        text.append(f" {one_line(sample['error'][1])}", "yellow")
    if node.id in facts.keys:
        key = facts.keys[node.id]
        text.append(" = ", "dim").append(*(("no answer", "dim") if key is None else (one_line(key), "bold green")))
    for score in facts.scores.get(node.id, ()):
        text.append(f" {score}", "magenta")
    if node.logprobs:
        text.append(f" logprob {sum(node.logprobs) / len(node.logprobs):.2f}", "dim")
    if node.id == facts.chosen:
        text.append(" ★ chosen", "bold yellow")
    whole = safe(node.thinking + node.text).strip()
    shown = whole if full else one_line(whole.split("\n", 1)[0])[:160] + (" …" if "\n" in whole or len(whole) > 160 else "")
    return text.append(f"\n{shown}") if shown else text


def _others(offer: Mapping[str, Any]) -> str:
    return f", another answer {offer['others']:.0%}" if offer.get("others") else ""


def _course(rows: Sequence[Row], facts: _Facts) -> Iterator[Text]:
    """Offers, stops, resumptions and the end, in the order in which they were."""
    for row in rows:
        at = f" at {seconds(row.body['at'])}" if "at" in row.body else ""
        if row.kind == "offer":
            sure = "" if row.body.get("confidence") is None else f" ({row.body['confidence']:.0%}{_others(row.body)})"
            why = f"\n{safe(row.body['why'])}" if "why" in row.body else ""
            yield Text(f"offer {row.body['node']}{_key(row.body['node'], facts)}{sure}{at}{why}", "dim")
        elif row.kind == "stop":
            yield Text(f"stop: {row.body['why']}{at}", "yellow")
        elif row.kind == "resume":
            yield Text("resumed", "yellow")
        elif row.kind == "answer":
            yield Text(f"answer {row.body['node']}{_key(row.body['node'], facts)}{at}", "bold")
    if not any(row.kind == "answer" for row in effective(rows)):
        yield Text("no answer yet: `pondera resume` goes on from here", "yellow")


def _key(node: str, facts: _Facts) -> str:
    key = facts.keys.get(node)
    return "" if key is None else f" = {one_line(key)}"
