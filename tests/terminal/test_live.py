"""The live view, the answer on the page, and the tree of a record: what is seen, at any size, of whatever a model says."""

from __future__ import annotations

import asyncio
import io

import pytest
from rich.console import Console

from pondera.errors import VerifierError
from pondera.events import Asked, Dropped, Growing, Grown, Keyed, Offered
from pondera.ledger import Ledger, Row
from pondera.plain import thought_to_json
from pondera.ports import Piece
from pondera.terminal import session
from pondera.terminal.answer import show_answer
from pondera.terminal.live import Screen
from pondera.terminal.text import bar, dollars, one_line, safe, seconds, vote_line
from pondera.terminal.trace import trace_tree
from pondera.thought import Answer, Budget, Candidate, Question, Spend, Thought, root_of

QUESTION = Question.of("What is 12 + 30?\nThink.")
ROOT = root_of(QUESTION)
NASTY = "\x1b[2J\x1b]0;owned\x07\r\n\u202e漢字 éà 🦉 \t\x9b31m"


def busy(n: int = 64) -> Screen:
    """A run in the middle: branches done, cut, failed, waiting and at work."""
    screen = Screen("a-model · vote(n=64)", QUESTION.text, Budget(tokens=50_000, calls=100, usd=2.0, seconds=90))
    keys = tuple(f"0.0.1.0/{i}" for i in range(n))
    screen.hear(Asked(keys, "think", 512))
    for i, key in enumerate(keys):
        if i % 8 == 7:
            continue
        for _ in range(5):
            screen.hear(Growing(key, Piece(i, f"word {i} {NASTY}", 2)))
        finish = "length" if i % 8 == 2 else "done"
        if i % 8 in (1, 2):
            spent = Spend(prompt=900, answer=10 * i, calls=i, usd=0.001 * i)
            screen.hear(Grown(Thought(key, ROOT, text=f"It is {i} {NASTY}", finish=finish, tokens=12), "think", spent))
        elif i % 8 == 3:
            screen.hear(Dropped(key, "The server answered 500 three times: try again later."))
    screen.hear(Keyed({keys[1]: "42", keys[2]: None, keys[9]: "42", keys[17]: "\\frac{1}{2}" + NASTY}))
    screen.hear(Offered(Thought(keys[1], ROOT, text="42"), 0.66))
    return screen


def drawn(screen: Screen, width: int, height: int) -> str:
    console = Console(record=True, file=io.StringIO(), width=width, height=height, force_terminal=True)
    console.print(screen)
    return console.export_text()


@pytest.mark.parametrize(("width", "height"), [(200, 50), (100, 24), (60, 15), (60, 8), (30, 6), (12, 3), (1, 1)])
@pytest.mark.parametrize("n", [0, 1, 5, 64, 300])
def test_view_stays_within_the_terminal(n: int, width: int, height: int) -> None:
    screen = busy(n) if n > 17 else Screen("m", NASTY * 50, Budget())
    lines = screen.lines(width, height)
    assert 1 <= len(lines) <= max(1, height - 1)
    assert all(line.cell_len <= width and "\n" not in line.plain and "\x1b" not in line.plain for line in lines)
    assert len(drawn(screen, width, height).splitlines()) == len(lines)


def test_view_says_what_is_going_on() -> None:
    text = drawn(busy(), 200, 50)
    for word in (
        "a-model · vote(n=64)",
        "What is 12 + 30?",
        "thinking",
        "failed",
        "The server answered 500",
        "votes  42",
        "no answer",
        "best",
    ):
        assert word in text
    assert "tokens/s" in text
    assert "left  " in text
    small = drawn(busy(), 60, 15)
    assert "… and " in small
    assert "more (" in small
    assert "thinking" in small


def test_every_branch_is_shown_or_counted() -> None:
    screen = busy()
    for height in range(4, 80):
        lines = [line.plain for line in screen.lines(120, height)]
        rows = sum(line.startswith("0.0.1.0/") for line in lines)
        hidden = next((int(line.split()[2]) for line in lines if line.startswith("… and ")), 0)
        assert rows + hidden == 64


def test_what_is_left_counts_what_is_being_generated() -> None:
    screen = Screen("m", "q", Budget(tokens=100, calls=3))
    screen.hear(Asked(("0.0/0", "0.0/1"), "think", 50))
    screen.hear(Growing("0.0/0", Piece(0, "some words", 30)))
    assert screen.tokens == 30
    assert screen.left(screen.began) == ["70 tokens", "1 calls"]
    screen.hear(Dropped("0.0/0", "it broke"))
    assert screen.tokens == 30, "what a dropped branch cost is not forgotten before the next bill"
    screen.hear(Grown(Thought("0.0/1", ROOT, text="x", finish="done", tokens=5), "think", Spend(answer=40, calls=2)))
    assert screen.tokens == 40
    assert screen.left(screen.began) == ["60 tokens", "1 calls"]


def test_rate_leaves_out_what_a_ledger_gave_back() -> None:
    screen = Screen("m", "q", Budget())
    assert screen.rate(0.0) == 0.0
    screen.hear(Grown(Thought("0.0/0", ROOT, text="x", finish="done", tokens=500), "think", Spend(answer=500, calls=1)))
    assert screen.rate(1.0) == 0.0
    screen.hear(Asked(("0.0/1",), "think", 50))
    screen.hear(Grown(Thought("0.0/1", ROOT, text="x", finish="done", tokens=20), "think", Spend(answer=520, calls=2)))
    assert screen.rate(2.0) == 10.0, "20 tokens in two seconds, by a model that does not stream"


def test_a_coroutine_that_is_given_up_is_no_branch() -> None:
    screen = Screen("m", "q", Budget())
    screen.hear(Dropped("0.0.1", "The program failed"))
    assert screen.branches == {}


def sample(key: str, text: str, parent: str = "0", **more: object) -> Row:
    body = {
        "status": "answered",
        "by": "think",
        "spend": {"answer": 3, "calls": 1},
        "parent": parent,
        "text": text,
        "finish": "done",
        "tokens": 3,
    }
    return Row("sample", key, body | more)


async def test_votes_show_before_the_run_counts_them() -> None:
    made = thought_to_json(Thought("0.1.1.0/0", Thought("0.1/1"), text="42", finish="done", tool="python"))
    rows = [
        sample("0.0/0", "= 42"),
        sample("0.0/1", "= 7", finish="length"),
        sample("0.1/1", "```python\nprint(42)\n```", forced="```python\n"),
        Row("op", "0.1.1.0", {"op": "Call", "made": made}),
        sample("0.2/0", "Yes", by="judge"),
    ]
    screen, asked = Screen("m", "q", Budget()), []

    async def keyer(question: Question, texts: list[str]) -> list[str | None]:
        asked.append(list(texts))
        return [text.rsplit(" ", 1)[-1] for text in texts]

    task = asyncio.ensure_future(session.read_votes(screen, QUESTION, Ledger(rows), keyer))
    while not screen.early:
        await asyncio.sleep(0)
    task.cancel()
    assert asked == [["= 42", "42"]], "neither what was cut off, nor programs themselves, nor judges"
    assert screen.votes() == ([("42", 2)], 0)
    assert screen.leaf_of == {"0.1/1": "0.1.1.0/0"}
    screen.hear(Keyed({"0.0/0": "43"}))
    assert screen.votes() == ([("42", 1), ("43", 1)], 0), "what the run itself reads counts"


async def test_a_keyer_that_fails_ends_the_early_votes_alone() -> None:
    async def keyer(question: Question, texts: list[str]) -> list[str | None]:
        raise VerifierError("no worker")

    await session.read_votes(Screen("m", "q", Budget()), QUESTION, Ledger([sample("0.0/0", "42")]), keyer)


# ---------------------------------------------------------------- the answer


def answer(text: str = "So it is \\boxed{42}.", n: int = 3, **more: object) -> Answer:
    thought = Thought("0.0/0", ROOT, text=text, finish="done", tokens=9)
    spend = Spend(prompt=1200, cached=900, thinking=50, answer=300, judging=8, calls=9, usd=0.0123, seconds=4.0)
    given = {
        "text": text,
        "key": "42",
        "confidence": 2 / 3,
        "thought": thought,
        "candidates": tuple(Candidate(thought, "42", {}) for _ in range(n)),
        "votes": {"42": n - 1},
        "abstentions": 1,
        "spend": spend,
        "by_role": {"think": spend, "judge": Spend(judging=8, calls=2)},
        "stopped": "budget",
        "cut": tuple(f"0.0/{i}: cut off after 512 tokens" for i in range(9)),
    }
    return Answer(**(given | more))  # type: ignore[arg-type]


def page(given: Answer, *, terminal: bool, width: int = 80) -> str:
    file = io.StringIO()
    show_answer(
        Console(
            file=file, force_terminal=terminal, width=width, highlight=False, markup=False, color_system="truecolor" if terminal else "auto"
        ),
        given,
    )
    return file.getvalue()


def test_answer_in_a_pipe_is_plain_and_whole() -> None:
    text = "\n".join(f"line {i}" for i in range(100)) + "\n" + "w" * 300
    out = page(answer(text), terminal=False)
    assert out.startswith("answer: 42\nconfidence 67%, 2 of 3 branches\n")
    assert "\x1b" not in out
    assert text in out
    for word in ("the budget was spent", "9 times", "… and 4 more", "(cached)", "thinking", "judge", "$0.0123", "4.0 s", "90 tokens/s"):
        assert word in out


@pytest.mark.parametrize("width", [40, 60, 200])
def test_answer_on_a_terminal_is_folded(width: int) -> None:
    text = "\n".join(f"line {i}" for i in range(100)) + "\nlast"
    out = page(answer(text), terminal=True, width=width)
    assert "line 0" in out
    assert "last" in out
    assert "more lines" in out
    assert "line 50" not in out


def test_answer_cannot_steer_the_terminal() -> None:
    out = page(answer(NASTY, key=NASTY, votes={NASTY: 2}, cut=(NASTY,)), terminal=False)
    assert not set("\x1b\x07\x9b\u202e\r") & set(out)
    assert "漢字" in out


def test_answer_without_a_key() -> None:
    out = page(answer("I cannot say.", key=None, confidence=None, votes={}, abstentions=3), terminal=False)
    assert "no answer was found" in out
    assert "no answer " in out


def test_answer_with_many_keys() -> None:
    votes = {str(i): 40 - i for i in range(40)}
    out = page(answer(votes=votes, abstentions=0), terminal=False)
    assert "29 others" in out


# ---------------------------------------------------------------- the tree


def rendered(rows: list[Row], *, full: bool = False) -> str:
    console = Console(file=io.StringIO(), record=True, width=120)
    console.print(trace_tree(rows, full=full))
    return console.export_text()


RUN = Row("run", "0", {"question": {"messages": [{"role": "user", "content": "What?"}]}, "origin": {"strategy": "vote(n=2)"}, "seed": 3})


def test_tree_of_a_run_that_was_cut_and_failed() -> None:
    rows = [
        RUN,
        sample("0.0/0", "first\nsecond", logprobs=[-0.5, -0.7]),
        Row("sample", "0.0/1", {"status": "failed", "by": "think", "spend": {}, "error": ["ModelError", "it is down"]}),
        sample("0.0/2", "half", status="lost", finish="length", error=["Stop", "cut off in flight (cancelled)"]),
        Row("op", "0.1", {"op": "Key", "print": "", "nodes": ["0.0/0", "0.0/2"], "value": ["42", None]}),
        Row("op", "0.2", {"op": "Score", "print": "", "nodes": ["0.0/0"], "value": [0.75], "by": "judge"}),
        sample("0.2.v.0/0", "Yes", parent="0.0/0?judge", by="judge"),
        Row("drop", "0.3.1", {"reason": "given up"}),
        Row("offer", "0.4", {"node": "0.0/0", "confidence": 0.5, "at": 1.5}),
        Row("stop", "0", {"why": "cancelled", "at": 1.6}),
    ]
    out = rendered(rows)
    for word in (
        "What?",
        "seed 3",
        "3 tokens",
        "= 42",
        "judge 0.750",
        "logprob -0.60",
        "★ chosen",
        "✗ it is down",
        "cut off in flight",
        "given up",
    ):
        assert word in out
    assert "first …" in out
    assert "second" not in out
    assert "second" in rendered(rows, full=True)
    lines = out.splitlines()
    judged = next(i for i, line in enumerate(lines) if "0.2.v.0/0" in line)
    assert lines[judged].index("0.2.v") > lines[1].index("vote"), "a verdict hangs under what it judged"
    assert "stop: cancelled at 1.6 s" in out
    assert "no answer yet" in out


def test_tree_of_a_long_path() -> None:
    rows = [RUN, sample("0.0/0", "a")] + [sample(f"0.{i}/0", "a", parent=f"0.{i - 1}/0") for i in range(1, 1500)]
    assert trace_tree(rows) is not None


# ---------------------------------------------------------------- words


def test_words() -> None:
    assert [seconds(x) for x in (0, 9.96, 99.94, 100, 3599, 7260)] == [
        "0.0 s",
        "10.0 s",
        "99.9 s",
        "1 min 40 s",
        "59 min 59 s",
        "2 h 1 min",
    ]
    assert [dollars(x) for x in (0, 0.5, 12.3, 0.0000123)] == [
        "$0.0000",
        "$0.5000",
        "$12.30",
        "$1.2e-05",
    ]
    assert bar(0.5, 10) == "█████"
    assert bar(2, 3) == "███"
    assert bar(0, 3) == ""
    assert bar(0.05, 10) == "▌"
    assert safe("a\x00b\x1bc\nd\te\ud800") == "abc\nd    e"
    assert one_line(" a\n b\x07 ") == "a b"
    assert vote_line("42", 3, "green", 3, 40).cell_len <= 40
