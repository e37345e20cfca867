"""Repetition found: whether the end of what is being generated is one piece said over and over.

Small models fall into loops, greedy ones above all (Holtzman et al. 2019, arXiv 1904.09751), and a loop runs to the cap for nothing. A
piece of length p that repeats makes the text periodic: s[i] == s[i - p]. The last characters of such a text are found again p before the
end, so a search backwards for them gives the few lengths that p can have, and one comparison of slices tells.

One function serves texts and token ids: `"".join(map(chr, ids))` is a text whose characters are tokens.
"""

from __future__ import annotations

from collections.abc import Iterable

REPEATS = 4
TEXT, TOKENS = 320, 96  # how long a loop must be, in characters and in tokens
EVERY = 16  # tokens between two looks
SHORT = 4  # a piece of fewer characters than this must make twice the length: rows of dashes, of zeros
GUESSES = 16  # lengths that are tried
FURTHEST = 1 << 14  # characters that are looked at


def loop(text: str, least: int = TEXT) -> int:
    """The length of the piece that `text` ends in at least 4 repeats of, which fill at least `least` characters; 0 where there is none."""
    text = text[-FURTHEST:]
    size, known = len(text), max(2, least // 8)
    if size < least:
        return 0
    ending, at = text[-known:], size - known
    for guess in range(GUESSES):
        at = text.rfind(ending, 0, at + known - 1)
        piece = size - known - at
        least *= 2 if not guess and piece < SHORT else 1  # the first guess is the shortest: a longer one may be several of it
        span = max(REPEATS * piece, least)
        if at < 0 or span > size:
            return 0
        if text.startswith(text[size - span + piece :], size - span):
            return piece
    return 0


def loops(ids: Iterable[int]) -> bool:
    """Whether token ids end in a loop."""
    return loop("".join(map(chr, ids)), TOKENS) > 0
