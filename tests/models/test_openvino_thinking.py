"""Thinking models in the embedded engine, over a pipeline of ours that says what it is told to, a character (or a tag) a token."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pondera.errors import Unsupported
from pondera.models import openvino, weights
from pondera.models.openvino import OpenVINO
from pondera.models.openvino_engine import Engine
from pondera.models.thinking import Splitter, divide
from pondera.ops import Expand
from pondera.ports import Piece, Sample
from pondera.thought import CLOSE, OPEN, Question, Thought, dialogue, musing, root_of, spoken
from tests.models import test_openvino_engine as engine_test

ROOT = root_of(Question.of("What is 6 times 7?"))
END = 2
REPLY = "<think>\nSix sevens.\n\nThat is 42.\n</think>\n\nIt is\n\n42."


class Tokenizer:
    """A token is a character; where `tags` is set, a tag is one too."""

    def __init__(self, tags: bool, template: str, opens: str) -> None:
        self.pattern = re.compile("</?think>|." if tags else ".", re.DOTALL)
        self.names: dict[str, int] = {}
        self.chat_template, self.opens = template, opens

    def get_eos_token_id(self) -> int:
        return END

    def encode(self, text: str, add_special_tokens: bool) -> Any:
        ids = [self.names.setdefault(token, len(self.names) + 10) for token in self.pattern.findall(text)]
        return engine_test.encoded(ids)

    def decode(self, ids: list[int]) -> str:
        tokens = {number: token for token, number in self.names.items()}
        return "".join(tokens[one] for one in ids if one != END)

    def apply_chat_template(self, turns: list[dict[str, Any]], add_generation_prompt: bool) -> str:
        return "".join(f"[{turn['role']}]{turn['content']}" for turn in turns) + "[assistant]" + self.opens


class Request(engine_test.Request):
    def __init__(self, prompt: list[int], length: int, reply: list[int]) -> None:
        super().__init__(prompt, length)
        self.reply = reply

    def stop(self) -> None:
        self.state = "finished"

    def grow(self) -> None:
        self.unread.append(SimpleNamespace(generated_ids=[self.reply[self.said]], generated_log_probs=[-0.1]))
        self.said += 1
        self.state = "finished" if self.said >= min(self.length, len(self.reply)) else "running"


class Pipeline(engine_test.Pipeline):
    """`script(prompt)` is what is said after a prompt."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.script: Callable[[str], str] = lambda prompt: REPLY

    def add_request(self, number: int, tensor: Any, config: Any) -> Request:
        prompt = tensor.data[0].tolist()
        reply = self.tokenizer.encode(self.script(self.tokenizer.decode(prompt)), False).input_ids.data[0].tolist()
        self.requests.append(Request(prompt, config.max_new_tokens, [*reply, END]))
        return self.requests[-1]


class Bench:
    """A model, and what it was asked in words."""

    def __init__(self, tags: bool, thinks: bool, opens: str) -> None:
        self.tokenizer = Tokenizer(tags, f"... {CLOSE} ..." if thinks else "...", opens)
        self.pipeline = Pipeline(self.tokenizer)
        self.model = OpenVINO("m")

    async def ask(self, op: Expand, script: str = REPLY) -> tuple[Sample, list[Piece], Thought]:
        """The one child, checked for all that must add up whatever is asked."""
        if script:
            self.pipeline.script = lambda prompt: script
        self.pipeline.requests.clear()
        *pieces, sample = [event async for event in self.model.sample(op, [1])]
        assert isinstance(sample, Sample)
        assert "".join(piece.text for piece in pieces if piece.thinking) == sample.thinking
        assert "".join(piece.text for piece in pieces if not piece.thinking) == sample.text
        tokens = sum(piece.tokens for piece in pieces)
        assert tokens == len(sample.ids) == len(sample.logprobs) == sample.spend.tokens <= op.max_tokens
        assert sample.spend.prompt == self.model.prompt_bound(op)
        thinking, text = spoken("" if op.say else dialogue(op.node)[1], op.force) if op.force else ("", "")
        node = Thought(
            f"{op.node.id}.0/0",
            op.node,
            text=text + sample.text,
            forced=op.force,
            thinking=thinking + sample.thinking,
            finish=sample.finish,
            tokens=tokens,
            model="m",
            ids=sample.ids,
        )
        return sample, pieces, node

    @property
    def prompts(self) -> list[str]:
        return [self.tokenizer.decode(request.prompt) for request in self.pipeline.requests]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    pytest.importorskip("openvino")
    made: list[Bench] = []
    engines: list[Engine] = []

    def make(tags: bool = True, thinks: bool = True, opens: str = "") -> Bench:
        def load(*given: Any) -> Engine:
            tokenizer = Tokenizer(tags, f"... {CLOSE} ..." if thinks else "...", opens)
            engines.append(Engine(engine_test.GENAI, Pipeline(tokenizer), tokenizer, 4000, 1000))
            return engines[-1]

        monkeypatch.setattr(weights, "ready", lambda spec, progress: SimpleNamespace(name="m", folder=tmp_path / str(len(made)), gguf=None))
        monkeypatch.setattr(openvino, "load", load)
        one = Bench(tags, thinks, opens)
        one.tokenizer, one.pipeline = engines[-1].words.tokenizer, engines[-1].pipeline
        made.append(one)
        return one

    yield make
    for one in made:
        one.model._leave()


Make = Callable[..., Bench]
both_sorts = pytest.mark.parametrize("tags", [True, False])


@both_sorts
async def test_a_thought_is_told_apart_and_counted_exactly(bench: Make, tags: bool) -> None:
    sample, _, node = await bench(tags).ask(Expand(ROOT))
    assert (sample.thinking, sample.text, sample.finish) == ("\nSix sevens.\n\nThat is 42.\n", "It is\n\n42.", "done")
    assert sample.spend.thinking == (len(sample.thinking) + 2 if tags else REPLY.index(CLOSE) + len(CLOSE))
    assert node.ids[-1] == END


@both_sorts
async def test_a_template_may_have_opened_the_thought(bench: Make, tags: bool) -> None:
    one = bench(tags, opens="<think>\n")
    sample, _, node = await one.ask(Expand(ROOT), REPLY.removeprefix("<think>\n"))
    assert (sample.thinking, sample.text) == ("Six sevens.\n\nThat is 42.\n", "It is\n\n42.")
    await one.ask(Expand(node, force=" So"), ".")
    assert one.prompts[0].endswith(f"[assistant]{REPLY} So")


async def test_an_answer_without_a_thought_is_all_answer(bench: Make) -> None:
    for thinks in (True, False):
        sample, _, _ = await bench(thinks=thinks).ask(Expand(ROOT), "It is <think> 42 </think>.")
        assert (sample.thinking, sample.text, sample.spend.thinking) == ("", "It is <think> 42 </think>.", 0)


@both_sorts
@pytest.mark.parametrize("opens", ["", "<think>\n"])
async def test_a_capped_thought_is_closed_and_the_answer_follows_as_one_child(bench: Make, tags: bool, opens: str) -> None:
    one = bench(tags, opens=opens)
    thought = REPLY.removeprefix("<think>\n") if opens else REPLY
    cap = 11

    def script(prompt: str) -> str:
        return "It is 42." if CLOSE in prompt else thought

    one.pipeline.script = script
    head = len("[user]What is 6 times 7?[assistant]" + opens)
    events = [event async for event in one.model.sample(Expand(ROOT, thinking=cap, max_tokens=60), [1])]
    sample = events[-1]
    assert isinstance(sample, Sample)
    assert (sample.text, sample.finish) == ("It is 42.", "done")
    assert thought.startswith(f"{'' if opens else OPEN}{sample.thinking.rstrip()}"), "the beginning of the thought"
    closing = 4 if tags else 3 + len(CLOSE)
    assert sum(event.tokens for event in events if isinstance(event, Piece)) == len(sample.ids) == len(sample.logprobs)
    assert sample.spend.thinking == cap + closing - 2, "up to and with the closing tag"
    assert sample.spend.tokens == cap + closing + len("It is 42.") + 1
    assert sample.logprobs[cap : cap + closing] == (0.0,) * closing
    assert one.prompts[1] == one.prompts[0] + one.tokenizer.decode(list(sample.ids[:cap])) + f"\n{CLOSE}\n\n"
    node = Thought("0/0", ROOT, text=sample.text, thinking=sample.thinking, finish="done", model="m", ids=sample.ids)
    await one.ask(Expand(node, force=" So"), ".")
    assert one.prompts[0][head:] == one.tokenizer.decode(list(sample.ids)) + " So", "the very tokens, the closing ones with them"


async def test_a_cap_without_room_for_an_answer_is_a_cut(bench: Make) -> None:
    sample, _, _ = await bench().ask(Expand(ROOT, thinking=12, max_tokens=15))
    assert (sample.thinking, sample.text, sample.finish, len(sample.ids)) == ("\nSix sevens"[:11], "", "length", 12)
    sample, _, _ = await bench().ask(Expand(ROOT, until=12, thinking=12))
    assert (sample.text, sample.finish) == ("", "tokens")


async def test_a_cap_that_is_not_reached_changes_nothing(bench: Make) -> None:
    one = bench()
    sample, _, _ = await one.ask(Expand(ROOT, thinking=40))
    assert (sample.text, len(one.prompts)) == ("It is\n\n42.", 1)
    sample, _, _ = await one.ask(Expand(ROOT, thinking=2), "No thought, but an answer.")
    assert (sample.text, sample.thinking, len(one.prompts)) == ("No thought, but an answer.", "", 1)


@pytest.mark.parametrize(
    ("opens", "thinks", "shown"), [("", True, "<think>\n\n</think>\n\n"), ("<think>\n", True, "<think>\n\n</think>\n\n"), ("", False, "")]
)
async def test_no_thinking_is_an_empty_thought(bench: Make, opens: str, thinks: bool, shown: str) -> None:
    one = bench(thinks=thinks, opens=opens)
    sample, _, node = await one.ask(Expand(ROOT, until=5, thinking=0), "It is 42.")
    assert (sample.thinking, sample.text, sample.spend.thinking) == ("", "It is", 0)
    assert one.prompts[0].endswith(f"[assistant]{shown}")
    await one.ask(Expand(node), " 42.")
    assert one.prompts[0].endswith(f"[assistant]{shown}It is"), "what is continued is what was there"
    await one.ask(Expand(ROOT, force="```python"), "\n```")
    assert one.prompts[0].endswith(f"[assistant]{shown}```python")


@both_sorts
@pytest.mark.parametrize("opens", ["", "<think>\n"])
async def test_a_thought_goes_on_step_by_step_to_its_answer(bench: Make, tags: bool, opens: str) -> None:
    one = bench(tags, opens=opens)
    whole = REPLY.removeprefix("<think>\n") if opens else REPLY
    node, rest, seen = ROOT, whole, []
    while not node.done:
        sample, _, node = await one.ask(Expand(node, until="step"), rest)
        assert one.prompts[0].endswith("[assistant]" + opens + whole.removesuffix(rest))
        said = one.tokenizer.decode(list(sample.ids))
        assert rest.startswith(said)
        rest = rest.removeprefix(said)
        seen.append((sample.thinking.strip(), sample.text.strip(), sample.finish))
    assert seen == [("Six sevens.", "", "step"), ("That is 42.", "It is", "step"), ("", "42.", "done")]


@pytest.mark.parametrize(("every", "opens"), [(1, "<think>\n"), (2, ""), (3, "<think>\n"), (7, ""), (7, "<think>\n")])
async def test_a_thought_goes_on_by_tokens_to_its_answer(bench: Make, every: int, opens: str) -> None:
    one = bench(opens=opens)
    whole = REPLY.removeprefix("<think>\n") if opens else REPLY
    head = len("[user]What is 6 times 7?[assistant]" + opens)
    one.pipeline.script = lambda prompt: whole.removeprefix(prompt[head:])
    node = ROOT
    for sent in range(0, 80, every):
        _, _, node = await one.ask(Expand(node, until=every), "")
        assert len(one.pipeline.requests[0].prompt) == head - (6 if opens else 0) + sent, "nothing is said twice"
        if node.done:
            break
    assert (node.done, node.reply.strip()) == (True, "It is\n\n42.")
    assert "".join(step.thinking for step in node.turn).strip() == "Six sevens.\n\nThat is 42."


async def test_a_thought_that_stops_at_its_end_is_open_still(bench: Make) -> None:
    for tags in (True, False):
        one = bench(tags)
        sample, _, node = await one.ask(Expand(ROOT, stop=(CLOSE,)))
        assert (sample.thinking, sample.text, sample.finish) == ("\nSix sevens.\n\nThat is 42.\n", "", "done")
        assert musing(dialogue(node)[1])
        sample, _, node = await one.ask(Expand(node, force="\n\nWait", stop=(CLOSE,)), f", it is.{CLOSE}")
        assert one.prompts[0].endswith("That is 42.\n\n\nWait")
        assert (sample.thinking, sample.text) == (", it is.", "")
        sample, _, node = await one.ask(Expand(node, force=f"\n{CLOSE}\n\nIt is "), "42.")
        assert one.prompts[0].endswith(f"Wait, it is.\n{CLOSE}\n\nIt is ")
        assert (sample.thinking, sample.text, node.reply) == ("", "42.", "It is 42.")
        await one.ask(Expand(node, force=" So"), ".")
        assert one.prompts[0].endswith(f"Wait, it is.\n{CLOSE}\n\nIt is 42. So")


async def test_a_forced_beginning_of_a_thought(bench: Make) -> None:
    for opens in ("", "<think>\n"):
        one = bench(opens=opens)
        sample, _, node = await one.ask(Expand(ROOT, force="<think>\nWell,"), f" 42.\n{CLOSE}\n\nIt is 42.")
        assert (sample.thinking, sample.text) == (" 42.\n", "It is 42.")
        assert one.prompts[0].endswith("[assistant]<think>\nWell,")
        await one.ask(Expand(node, force=" So"), ".")
        assert one.prompts[0].endswith(f"[assistant]<think>\nWell, 42.\n{CLOSE}\n\nIt is 42. So")


async def test_an_open_thought_is_closed_where_none_is_allowed(bench: Make) -> None:
    one = bench()
    _, _, node = await one.ask(Expand(ROOT, until="step"))
    sample, _, after = await one.ask(Expand(node, thinking=0), "It is 42.")
    assert (sample.thinking, sample.text, sample.spend.thinking) == ("", "It is 42.", 1)
    assert one.prompts[0].endswith(f"Six sevens.\n\n{CLOSE}\n\n")
    await one.ask(Expand(after, force=" So"), ".")
    assert one.prompts[0].endswith(f"Six sevens.\n\n{CLOSE}\n\nIt is 42. So")


async def test_a_thought_that_ends_at_once_is_not_ended_twice(bench: Make) -> None:
    one = bench(opens="<think>\n")
    sample, _, node = await one.ask(Expand(ROOT), f"{CLOSE}\n\nIt is 42.")
    assert (sample.thinking, sample.text, sample.spend.thinking) == ("", "It is 42.", 1)
    await one.ask(Expand(node, force=" So"), ".")
    assert one.prompts[0].endswith(f"[assistant]<think>\n{CLOSE}\n\nIt is 42. So")


async def test_thoughts_of_another_model_are_written_down(bench: Make) -> None:
    one = bench()
    first = Thought("a", ROOT, thinking="Six", finish="tokens", model="other")
    last = Thought("b", Thought("c", first, thinking=" sevens.", finish="tokens", model="other"), text="It", finish="tokens", model="other")
    await one.ask(Expand(first), f" sevens.{CLOSE}It is 42.")
    assert one.prompts[0].endswith("[assistant]<think>Six")
    await one.ask(Expand(last), " is 42.")
    assert one.prompts[0].endswith(f"[assistant]<think>Six sevens.\n{CLOSE}\n\nIt")


async def test_a_loop_is_cut_and_its_slot_is_free(bench: Make) -> None:
    one = bench()
    for said in ("Let me see. " * 100, "<think>\n" + "Let me see. " * 100):
        sample, _, node = await one.ask(Expand(ROOT), said)
        assert sample.finish == "loop"
        assert node.cut
        assert len(sample.ids) < 160
        assert bool(sample.thinking) == said.startswith(OPEN)
    assert not one.pipeline.has_non_finished_requests()


async def test_logit_bias_is_not_to_be_had(bench: Make) -> None:
    with pytest.raises(Unsupported, match="no logit bias"):
        await bench().ask(Expand(ROOT, bias=(("Wait", -3.0),)))


@given(st.text("<think>/ a\n", max_size=60), st.lists(st.integers(0, 60)), st.booleans())
def test_a_thought_is_told_apart_wherever_the_stream_is_cut(text: str, cuts: list[int], inside: bool) -> None:
    places = [0, *sorted(cuts), len(text)]
    splitter = Splitter(inside)
    parts = [splitter.feed(text[a:b]) for a, b in pairwise(places)]
    parts.append(splitter.rest())
    thinking, answer, _ = divide(text, inside)
    assert ("".join(t for t, _ in parts), "".join(a for _, a in parts)) == (thinking, answer)


async def test_what_the_engine_says_while_it_is_read_is_not_lost(bench: Make) -> None:
    """A reader that looks away while the last tokens come still hears of them."""
    one = bench()
    engine = one.model._engine
    decode = engine.words.decode

    def slow(ids: Any) -> str:
        told = decode(ids)
        if threading.current_thread() is threading.main_thread():
            time.sleep(0.02)  # the engine's thread goes on meanwhile
        return told

    engine.words.decode = slow  # type: ignore[method-assign]
    for script in ("It is 42.", REPLY):
        await one.ask(Expand(ROOT, max_tokens=200), script)
