"""The live view of a run: its branches, votes, tokens, rate, and what is left of its budget.

Events only change counters here (`Screen.hear`), so a model that streams thousands of tokens a second pays next to nothing for being
watched; what is to be seen is made by a timer (`lines`), one line of text a row, never more rows than the terminal has.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from pondera.events import Asked, Dropped, Event, Growing, Grown, Keyed, Offered
from pondera.terminal.text import dollars, one_line, seconds, vote_line
from pondera.thought import Budget, Spend, Thought

REDRAWS = 5.0  # a second
WINDOW = 4.0  # seconds over which the rate is taken
TAIL = 240  # characters of a branch's text that are kept to be shown
SHOWN_VOTES = 6

State = Literal["waiting", "thinking", "judging", "done", "cut", "failed"]
MARKS: Mapping[State, tuple[str, str]] = {
    "waiting": ("·", "dim"),
    "thinking": ("●", "cyan"),
    "judging": ("●", "magenta"),
    "done": ("✓", "green"),
    "cut": ("✂", "yellow"),
    "failed": ("✗", "red"),
}


@dataclass(eq=False, slots=True)
class Branch:
    """One child that a model was asked for. `ended` is its place in the order of endings."""

    key: str
    by: str
    state: State = "waiting"
    tokens: int = 0
    tail: str = ""
    ended: int = 0

    @property
    def open(self) -> bool:
        return self.state in ("waiting", "thinking", "judging")


@dataclass(eq=False, slots=True)
class Screen:
    """What is known of a run from its events. `spent` and `before` are the bill and the seconds of earlier processes, for a resumed run."""

    title: str
    question: str
    budget: Budget
    spent: Spend = field(default_factory=Spend)
    before: float = 0.0
    branches: dict[str, Branch] = field(default_factory=dict)
    keys: dict[str, str | None] = field(default_factory=dict)  # by thought, as the run read them
    early: dict[str, str | None] = field(default_factory=dict)  # by thought, as read for this view alone
    leaf_of: dict[str, str] = field(default_factory=dict)  # from a branch to the tool's output that came of it
    best: tuple[str, float | None] | None = None
    stopping: bool = False
    began: float = field(default_factory=time.monotonic)
    streamed: int = 0
    loose: int = 0  # tokens of branches that were dropped since the last bill
    endings: int = 0
    rates: deque[tuple[float, int]] = field(default_factory=deque)

    # ------------------------------------------------------------ events

    def hear(self, event: Event) -> None:
        match event:
            case Growing(key, piece):
                branch = self._branch(key)
                branch.state = "judging" if branch.by in ("judge", "reward") else "thinking"
                branch.tokens += piece.tokens
                branch.tail = (branch.tail + piece.text)[-TAIL:]
                self.streamed += piece.tokens
            case Asked(keys, by, _):
                for key in keys:
                    self.branches[key] = Branch(key, by)
            case Grown(thought, by, spent):
                self._grown(thought, by, spent)
            case Dropped(key, reason):
                self._dropped(key, reason)
            case Keyed(keys):
                self.keys |= keys
            case Offered(thought, confidence):
                self.best = (thought.id, confidence)

    def _branch(self, key: str, by: str = "think") -> Branch:
        return self.branches.get(key) or self.branches.setdefault(key, Branch(key, by))

    def _end(self, branch: Branch, state: State, tail: str) -> None:
        self.endings += 1
        branch.state, branch.ended, branch.tail = state, self.endings, tail

    def _grown(self, thought: Thought, by: str, spent: Spend) -> None:
        asked = self.branches.get(thought.id)
        branch = self._branch(thought.id, by)
        if asked:  # what a ledger gave back was not generated now
            self.streamed += max(0, thought.tokens - branch.tokens)
        branch.tokens = thought.tokens
        self._end(branch, "cut" if thought.cut else "done", thought.text[-TAIL:])
        self.spent, self.loose = spent, 0

    def _dropped(self, key: str, reason: str) -> None:
        if "/" not in key.rsplit(".", 1)[-1]:
            return  # a coroutine was given up; the branch that it stood on keeps its own state
        branch = self._branch(key)
        self.loose += branch.tokens
        self._end(branch, "cut" if reason.startswith("cut off") else "failed", reason)

    # ------------------------------------------------------------ what follows from them

    @property
    def tokens(self) -> int:
        """Spent so far, what is being generated counted in."""
        return self.spent.tokens + self.loose + sum(b.tokens for b in self.branches.values() if b.open)

    @property
    def calls(self) -> int:
        return self.spent.calls + sum(b.open for b in self.branches.values())

    def rate(self, now: float) -> float:
        """Tokens a second over the last few seconds."""
        self.rates.append((now, self.streamed))
        while len(self.rates) > 2 and self.rates[0][0] < now - WINDOW:
            self.rates.popleft()
        (since, then), (until, here) = self.rates[0], self.rates[-1]
        return (here - then) / (until - since) if until > since else 0.0

    def answers(self) -> dict[str, str | None]:
        return self.early | self.keys

    def votes(self) -> tuple[list[tuple[str, int]], int]:
        """How many have each key, most first, and how many have none."""
        answers = list(self.answers().values())
        counts: dict[str, int] = {}
        for key in answers:
            if key is not None:
                counts[key] = counts.get(key, 0) + 1
        return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])), answers.count(None)

    def left(self, now: float) -> list[str]:
        """What is left of each cap, in words."""
        caps, words = self.budget, []
        if math.isfinite(caps.tokens):
            words.append(f"{max(0, int(caps.tokens) - self.tokens):,} tokens")
        if math.isfinite(caps.calls):
            words.append(f"{max(0, int(caps.calls) - self.calls):,} calls")
        if math.isfinite(caps.usd):
            words.append(dollars(max(0.0, caps.usd - self.spent.usd)))
        if math.isfinite(caps.seconds):
            words.append(seconds(max(0.0, caps.seconds - self.before - (now - self.began))))
        return words

    # ------------------------------------------------------------ what is seen

    def lines(self, width: int, height: int) -> list[Text]:
        """At most `height` - 1 lines of at most `width` cells: a last line written to its end would scroll the terminal."""
        now = time.monotonic()
        head = [Text(one_line(self.title), "bold"), Text(one_line(self.question[:1000]), "dim")]
        foot = self._foot(now, self.rate(now))
        room = max(1, height - 1 - len(head) - len(foot))
        votes = self._votes(width, min(SHOWN_VOTES, room // 3))
        rows = self._rows(width, room - len(votes))
        whole = [*head, *rows, *votes, *foot]
        for line in whole:
            line.no_wrap = True
            line.truncate(width, overflow="ellipsis")
        return whole[: max(1, height - 1)]

    def _foot(self, now: float, rate: float) -> list[Text]:
        parts = [f"{self.tokens:,} tokens", f"{rate:,.0f} tokens/s", f"{self.calls:,} calls", seconds(self.before + now - self.began)]
        if self.spent.usd:
            parts.insert(3, dollars(self.spent.usd))
        foot = [Text(" · ".join(parts))]
        if left := self.left(now):
            foot.append(Text("left  " + " · ".join(left), "dim"))
        if self.best:
            node, confidence = self.best
            key = self.answers().get(node)
            sure = "" if confidence is None else f"  ({confidence:.0%})"
            foot.append(Text.assemble(("best  ", "dim"), (one_line(key or node), "bold green"), sure))
        if self.stopping:
            foot.append(Text("stopping with the best answer so far; Ctrl-C again to leave at once", "yellow"))
        return foot

    def _rows(self, width: int, room: int) -> list[Text]:
        shown, hidden = self._pick(room)
        answers = self.answers()
        keyed = {b.key: answers.get(self.leaf_of.get(b.key, b.key)) for b in shown}
        key_cells = min(16, max(map(len, self.branches), default=0))  # of all, so that columns stand still
        answer_cells = min(max(6, width // 6), max((len(one_line(k)) for k in keyed.values() if k), default=0))
        rows = []
        for branch in shown:
            mark, style = MARKS[branch.state]
            key = branch.key if len(branch.key) <= key_cells else "…" + branch.key[1 - key_cells :]
            row = Text.assemble((f"{key:<{key_cells}} ", "dim"), (f"{mark} {branch.state:<8}", style), f"{branch.tokens:>6} ")
            if answer_cells:
                cell = Text(one_line(keyed[branch.key] or ""), "bold")
                cell.truncate(answer_cells, overflow="ellipsis", pad=True)
                row.append_text(cell).append(" ")
            row.append_text(_last_words(branch, width - row.cell_len))
            rows.append(row)
        if hidden:
            counts = {state: sum(b.state == state for b in hidden) for state in MARKS}
            rows.append(Text(f"… and {len(hidden)} more ({', '.join(f'{n} {state}' for state, n in counts.items() if n)})", "dim"))
        return rows

    def _pick(self, room: int) -> tuple[list[Branch], list[Branch]]:
        """The branches to show, in the order in which they were asked: those at work first, then those that ended last."""
        everyone = list(self.branches.values())
        if len(everyone) <= room:
            return everyone, []
        rank = {"thinking": 0, "judging": 0, "waiting": 2}
        chosen = sorted(everyone, key=lambda b: (rank.get(b.state, 1), -b.ended))[: max(0, room - 1)]
        ids = {b.key for b in chosen}
        return [b for b in everyone if b.key in ids], [b for b in everyone if b.key not in ids]

    def _votes(self, width: int, room: int) -> list[Text]:
        votes, none = self.votes()
        if not votes or room < 1:
            return []
        rows = [(one_line(key), count, "green") for key, count in votes]
        if none:
            rows.append(("no answer", none, "dim"))
        if len(rows) > room:
            rest = sum(count for _, count, _ in rows[room - 1 :])
            rows = [*rows[: room - 1], (f"{len(rows) - room + 1} others", rest, "dim")]
        leads = ["votes  "] + [" " * 7] * len(rows)
        return [vote_line(*row, rows[0][1], width, lead) for row, lead in zip(rows, leads, strict=False)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self.lines(options.max_width, console.height)


def _last_words(branch: Branch, cells: int) -> Text:
    """As much of the end of a branch's text as fits; of a failure's reason, the beginning."""
    text = Text(one_line(branch.tail), "red" if branch.state == "failed" else "dim")
    if branch.state == "failed":
        text.truncate(max(0, cells), overflow="ellipsis")
    elif (over := text.cell_len - cells) > 0:
        text = Text("…", "dim").append_text(text[min(len(text), over + 1) :]) if cells > 1 else Text()
    return text


# ---------------------------------------------------------------- beside the run


async def show(screen: Screen, console: Console) -> None:
    """Draw the screen by timer until cancelled, and leave the terminal as it was."""
    with Live(screen, console=console, auto_refresh=False, transient=True, vertical_overflow="crop") as live:
        while True:
            live.refresh()
            await asyncio.sleep(1 / REDRAWS)
