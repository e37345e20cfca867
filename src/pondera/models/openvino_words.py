"""The embedded engine's tokenizer: text to tokens and back, and a conversation as its template writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pondera.errors import Unsupported

PART = 4096  # characters that are tokenized at once
MOST = 8192  # tokens that the tokenizer gives at most
PROBE = "It's  (a = 3.5), isn't it: \"x_1\"!\n\n```python\n# Step 1:\n    print(f'{a}')\n```\nThe \\(n\\) is \\boxed{7}. Déjà vu ."
WINDOW = 5  # tokens of it that are decoded at a time


class Words:
    """A tokenizer, from any thread. `apart` says that each token says the same wherever it stands."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.pieces: dict[int, str] = {}  # what single tokens say
        self.apart = self._apart()

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids. The tokenizer cuts what is longer than 8,192 tokens without a word, so it gets long texts in parts."""
        parts: list[int] = []
        while len(text) > PART:
            cut = next((i for i in range(PART, PART // 2, -1) if text[i] == " " and text[i - 1].isalnum()), PART)
            parts += self._encode(text[:cut])
            text = text[cut:]
        return (*parts, *self._encode(text))

    def _encode(self, text: str) -> tuple[int, ...]:
        ids = tuple(self.tokenizer.encode(text, add_special_tokens=False).input_ids.data[0].tolist()) if text else ()
        return ids if len(ids) < MOST else self._encode(text[: len(text) // 2]) + self._encode(text[len(text) // 2 :])

    def decode(self, ids: Sequence[int]) -> str:
        """Text, put together of single tokens' where that gives the same: the tokenizer takes its time, and is asked at every token."""
        if self.apart and all(parts := [self.piece(one) for one in ids]):
            return "".join(parts)
        return str(self.tokenizer.decode(list(ids))) if ids else ""

    def piece(self, one: int) -> str:
        """What a token says alone, "" where it holds a part of a character (which is left out of its text), or is no text."""
        if (text := self.pieces.get(one)) is None:
            text = str(self.tokenizer.decode([one]))
            text = self.pieces[one] = text if self._encode(text) == (one,) else ""
        return text

    def _apart(self) -> bool:
        """Whether each token says the same wherever it stands: not where white space depends on what comes before, say."""
        ids = self._encode(PROBE)
        windows = [ids, *(ids[i : i + WINDOW] for i in range(len(ids)))]
        parts = [[self.piece(one) for one in window] for window in windows]
        return all("".join(some) == self.tokenizer.decode(list(window)) for some, window in zip(parts, windows, strict=True) if all(some))

    def template(self, turns: list[dict[str, Any]]) -> str:
        try:
            return str(self.tokenizer.apply_chat_template(turns, add_generation_prompt=True))
        except RuntimeError as error:
            raise Unsupported(f"The model's chat template refuses this conversation ({first_line(error)}): change its turns.")


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
