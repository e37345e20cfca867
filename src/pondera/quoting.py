"""Untrusted text for a model to read: between tags that it cannot close or open, and without what chat templates end a turn with."""

from __future__ import annotations

import re

LONGEST = 8_000  # characters of somebody's text that are shown: its end, where the answer is
_TURNS = r"[|｜]|/?s>|(?:start|end)_of_turn>|/?think>"


def quoted(tag: str, text: str, longest: int = LONGEST) -> str:
    """A text between its tags; of a very long one the end."""
    return f"<{tag}>\n{excerpt(tag, text, longest)}\n</{tag}>"


def excerpt(tag: str, text: str, longest: int = LONGEST) -> str:
    """What is quoted of a text."""
    text = text.strip()
    return tagless(tag, f"[...] {text[-longest:]}" if len(text) > longest else text)


def tagless(tag: str, text: str) -> str:
    """A text in which no such tag, and no end of a turn, stands as one."""
    return re.sub(rf"<(?=[\s/]*{tag}\b|{_TURNS})", "< ", text, flags=re.IGNORECASE)
