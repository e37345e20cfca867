"""Our strategies beside those of optillm and its_hub: the same weights, problems, prompt and allowance of tokens, the peers unchanged.

    python -m venv PEERS && PEERS/bin/pip install optillm 'its_hub[lm]'
    python benchmarks/peers.py DATA.jsonl --peers-python PEERS/bin/python --problems 50 --out peers.jsonl \
        --ours "vote(n=5, over='chains')" --ours "best_of(n=5, over='chains', by='judge')"

optillm runs as its proxy process, its_hub by its Python interface in a process of its own (peers_its_hub.py), both pointed at the server
of peers_server.py; ours runs through that same server, and embedded. Each row gets a server of its own, so that it begins with an empty
cache, and answers one problem after another, with as many calls in flight within a problem as it makes by itself. What was billed is the
server's own count. Every final text is graded by the same function. A line is written for each problem when it is done, and a run that
was ended goes on where it was. Intervals are Wilson's, 95 %.

All see one prompt: the question and the words of `cot`, under the system prompt that the model's template has by default. Two exceptions,
in the peers' favour: optillm's majority voting, which reads an answer after "Answer:" and knows no \\boxed, is asked for such a line; and
its_hub's step searches, whose reward models need a GPU, get Pondera's judge prompt as their value. optillm has no beam search, no particle
filtering.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
from peers_meter import Metered, Tally
from peers_rows import PEERS, Allowance, Ask, Failed, Place, Problem, ours, served

from pondera import parse
from pondera.errors import BadInput
from pondera.intervals import wilson
from pondera.ops import Expand
from pondera.plan import Plan, open_model
from pondera.ports import Model
from pondera.thought import Budget, Question, root_of
from pondera.verifiers.keys import grade

SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
Bill = Callable[[], Awaitable[Tally]]


@asynccontextmanager
async def row(given: argparse.Namespace, name: str, allowed: Allowance) -> AsyncIterator[tuple[Ask, Bill]]:
    """What answers a row's problems, ready and warm, and what was billed for it so far; `allowed` is for ours."""
    text, _, where = name.removesuffix("]").rpartition(" [")
    log = given.out.with_suffix(".log").resolve()
    if where == "embedded":
        metered = Metered(await asyncio.to_thread(open_model, given.model))
        await warm(metered)

        async def bill() -> Tally:
            return metered.tally.copy()

        yield ours(metered, text, allowed, given.seed), bill
        await metered.close()
        return
    async with served(given.model, given.seed, log) as url, httpx.AsyncClient(trust_env=False) as http:

        async def billed() -> Tally:
            while (tally := Tally(**(await http.get(f"{url.removesuffix('/v1')}/tally")).json())).open:
                await asyncio.sleep(0.05)  # what was cancelled ends with the engine's next step
            return tally

        model = (await http.get(f"{url}/models")).json()["data"][0]["id"]
        client = open_model(f"{model}@{url}")
        await warm(client)
        if where == "server":
            yield ours(client, text, allowed, given.seed), billed
        else:
            place = Place(url, model, given.peers_python, given.system, given.max_tokens, log)
            async with parse.call(text, PEERS, "peer")(place) as ask:
                yield ask, billed
        await client.close()


async def warm(model: Model) -> None:
    """The engine's first call compiles."""
    async for _ in model.sample(Expand(root_of(Question.of("Say hello.")), max_tokens=8), [0]):
        pass


# ---------------------------------------------------------------- figures


async def one(name: str, ask: Ask, bill: Bill, problem: Problem) -> dict[str, Any]:
    """One problem answered, as a line of the file."""
    before, began, error = await bill(), time.monotonic(), ""
    try:
        text = await ask(problem)
    except Failed as failed:
        text, error = "", str(failed)
    seconds = time.monotonic() - began
    spent = asdict(await bill() - before)
    [right] = await grade(Question.of(problem["question"]), [text], str(problem["answer"]))
    return {"row": name, "id": problem["id"], "right": right, "seconds": round(seconds, 2), "error": error} | spent | {"text": text}


def table(names: list[str], lines: list[dict[str, Any]]) -> str:
    """A row's figures are means over its problems."""
    out = [
        "| strategy | right | 95 % | seconds | requests | prompt tokens | of them computed | generated | failed |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name in names:
        if not (mine := [line for line in lines if line["row"] == name]):
            continue
        right, n = sum(line["right"] for line in mine), len(mine)
        sure = wilson(right, n)
        seconds, *tokens = (sum(line[k] for line in mine) / n for k in ("seconds", "requests", "prompt", "computed", "completion"))
        figures = " | ".join(f"{value:,.0f}" for value in tokens)
        failed = sum(bool(line["error"]) for line in mine)
        out.append(f"| {name} | {right} of {n} | {sure.low:.1%} to {sure.high:.1%} | {seconds:.1f} | {figures} | {failed} |")
    return "\n".join(out)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--problems", type=int, default=50)
    parser.add_argument("--model", default="qwen2.5-coder-0.5b")
    parser.add_argument("--peers-python", type=lambda text: Path(text).absolute(), required=True, help="the Python of the peers' venv")
    parser.add_argument(
        "--peer", action="append", help=f"a peer to run, such as 'optillm_bon(n=5)'; all by default, '' for none: {', '.join(PEERS)}"
    )
    parser.add_argument("--ours", action="append", default=[], help="a strategy of ours to run, by the server and embedded")
    parser.add_argument("--where", default="server,embedded", help="where ours run")
    parser.add_argument("--tokens", type=int, default=1500, help="what ours may generate for a problem; 0: no cap")
    parser.add_argument("--as-billed", metavar="PEER", help="ours may generate for a problem what was billed for it in this row of a peer")
    parser.add_argument("--max-tokens", type=int, default=512, help="of one sample of a peer's")
    parser.add_argument("--system", default=SYSTEM, help="the system prompt that the model's template has by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    for text in given.ours:
        Plan(strategy=text).strategy_of()
    for text in filter(None, (*(given.peer or ()), given.as_billed)):
        parse.call(text, PEERS, "peer")
    problems = [json.loads(line) for line in given.data.read_bytes().splitlines()][: given.problems]
    lines = [json.loads(line) for line in given.out.read_bytes().splitlines()] if given.out.exists() else []
    names = [f"{text} [peer]" for text in (PEERS if given.peer is None else given.peer) if text]
    names += [f"{text} [{where}]" for text in given.ours for where in given.where.split(",")]

    def allowed(problem: Problem) -> Budget:
        if not given.as_billed:
            return Budget(tokens=given.tokens) if given.tokens else Budget()
        billed = [line for line in lines if line["row"] == f"{given.as_billed} [peer]" and line["id"] == problem["id"]]
        if not billed:
            raise BadInput(f"There is no row of {given.as_billed} for {problem['id']} yet: name it with --peer too.")
        return Budget(tokens=billed[0]["completion"])

    for name in names:
        done = {line["id"] for line in lines if line["row"] == name}
        missing = [problem for problem in problems if problem["id"] not in done]
        if not missing:
            continue
        async with row(given, name, allowed) as (ask, bill):
            for i, problem in enumerate(missing, 1):
                lines.append(await one(name, ask, bill, problem))
                with given.out.open("a") as file:
                    file.write(json.dumps(lines[-1]) + "\n")
                print(f"{name}: {i} of {len(missing)}, {lines[-1]['seconds']} s, {lines[-1]['completion']} tokens", flush=True)
    print(table(names, [line for line in lines if line["id"] in {problem["id"] for problem in problems}]))


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except BadInput as error:
        raise SystemExit(str(error))
