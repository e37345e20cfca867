"""Logit bias in a server's own tokens: which of them the given words begin with, asked of its tokenizer.

vLLM, SGLang and llama.cpp have one at /tokenize, beside /v1. It is asked once for each word, as it stands within a line and at its
beginning, as given and with a capital letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pondera.errors import ModelError, Unsupported
from pondera.models.openai_probe import Server
from pondera.models.openai_wire import Refused, Wire

MOST = 100.0  # what the protocol allows, either way
MEND = "use a strategy without it, or another server (vLLM, SGLang, llama.cpp)."


async def offsets(wire: Wire, server: Server, model: str, bias: Sequence[tuple[str, float]]) -> dict[str, float]:
    """The `logit_bias` of a request. Raises Unsupported where the server tells no tokens or takes no bias, Broken where it is gone."""
    if not bias:
        return {}
    if not server.biases:
        raise Unsupported(f"The server at {wire.host} takes no logit bias: {MEND}")
    blank = await _tokens(wire, server, model, " ")
    found: dict[str, float] = {}
    for word, offset in bias:
        for form in dict.fromkeys((word, word[:1].upper() + word[1:])):
            for text in (form, f" {form}"):
                for token in [token for token in await _tokens(wire, server, model, text) if token not in blank][:1]:
                    found.setdefault(str(token), min(MOST, max(-MOST, offset)))
    return found


async def _tokens(wire: Wire, server: Server, model: str, text: str) -> tuple[int, ...]:
    if text not in server.tokens:
        asked = {"model": model, "prompt": text, "add_special_tokens": False}
        told = await _told(wire, asked) or await _told(wire, {"content": text})  # vLLM and SGLang, llama.cpp
        if not told:
            server.biases = False
            server.findings["logit_bias"] = "the server tells no tokens of words (/tokenize), so that no logit bias can be given"
            raise Unsupported(f"The server at {wire.host} does not tell the tokens of words, which a logit bias needs: {MEND}")
        server.tokens[text] = told
    return server.tokens[text]


async def _told(wire: Wire, body: dict[str, Any]) -> tuple[int, ...]:
    """Token ids, none where the server does not know the question."""
    try:
        told = (await wire.ask("POST", f"{wire.base.removesuffix('/v1')}/tokenize", body)).get("tokens")
    except Refused as refusal:
        if refusal.transient:
            raise
        return ()
    except ModelError:  # a page for people
        return ()
    return tuple(told) if isinstance(told, list) and all(isinstance(token, int) for token in told) else ()


def refuses_bias(refusal: Refused, server: Server) -> bool:
    """Whether it is the bias that is refused; remembered."""
    words = f"{refusal.param} {refusal.message}".lower()
    if refusal.status not in (400, 422) or not ("logit_bias" in words or "logit bias" in words):
        return False
    server.biases = False
    server.findings["logit_bias"] = "logit_bias is refused by the server"
    return True
