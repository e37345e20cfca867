"""One line of thought, as a chain and as a program."""

from __future__ import annotations

from typing import Any

from pondera.errors import Unsupported
from pondera.ledger import Ledger
from pondera.models.fake import Fake
from pondera.ops import Expand
from pondera.strategies import strategy
from pondera.strategies.think import CHAIN, FENCE, PROGRAM
from tests.test_laws import QUESTION, run_of


async def test_a_chain_is_asked_greedily_after_the_question() -> None:
    model = Fake(["\\boxed{41}"])
    answer = await run_of(model).solve(QUESTION, strategy("cot"))
    assert (answer.key, answer.confidence, answer.stopped) == ("41", None, "done")
    [op] = model.asked
    assert (op.say, op.temperature, op.n) == (CHAIN, 0.0, 1)


async def test_a_program_is_begun_for_the_model_and_its_output_is_the_answer() -> None:
    model = Fake([" add\nprint(41)\n```\nIt prints 41."])
    answer = await run_of(model).solve(QUESTION, strategy("program"))
    assert (answer.text, answer.key, answer.thought.tool) == ("41", "41", "python")
    [op] = model.asked
    assert (op.say, op.force) == (PROGRAM, FENCE)
    code = answer.thought.parent
    assert code is not None
    assert code.text == "```python\n# Step 1: add\nprint(41)\n```"


async def test_a_program_that_was_cut_off_is_not_run_and_abstains() -> None:
    answer = await run_of(Fake(["\nprint(41)\n" * 50])).solve(QUESTION, strategy("program(max_tokens=10)"))
    assert (answer.key, answer.abstentions, answer.thought.tool) == (None, 1, "")


async def test_where_a_server_cannot_begin_an_answer_the_model_writes_all_of_it() -> None:
    def script(op: Expand, index: int, seed: int) -> Any:
        return Unsupported("The server cannot continue a partial answer.") if op.force else "Here it is:\n```python\nprint(41)\n```"

    ledger = Ledger()
    answer = await run_of(Fake(script)).solve(QUESTION, strategy("vote(n=3, over='programs')"), ledger=ledger)
    assert dict(answer.votes) == {"41": 3}
    again = await run_of(None).solve(QUESTION, strategy("vote(n=3, over='programs')"), ledger=Ledger(list(ledger.rows)))
    assert again.text == answer.text
