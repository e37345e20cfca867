"""The final answer of a mathematical reply, and its canonical form.

Two steps, both pure and linear in the text: :func:`literal` finds the words that hold the answer, :func:`canonical` gives them one form.
A canonical form is one of three: a **number** (an exact fraction, written as a decimal where that ends: "1234.5", else as "1/3"), a
**text** (``\\text{monday}``), or an **expression** (LaTeX or plain, spaces and dressing removed), whose equalities only a computer
algebra system knows (:mod:`pondera.verifiers.symbolic`). Each form is its own canonical form.
"""

from __future__ import annotations

import re
from fractions import Fraction

TAIL = 20_000  # characters of the end of a reply in which the answer is looked for
LONGEST = 1_000  # characters of an answer; what is longer is prose

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)"
_PLAIN = rf"(?:{_DIGITS}(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d{{1,2}}(?!\w))?"
_FRACTION = rf"\\frac\{{[+-]?{_PLAIN}\}}\{{[+-]?{_PLAIN}\}}|\\frac\d\d"
_UNSIGNED = rf"(?:{_FRACTION}|{_DIGITS} +\d+/\d+|{_DIGITS}/{_DIGITS}|{_PLAIN})"
_NUMBER = re.compile(rf"([+-]?) *[$€£¥]? *([+-]?)({_UNSIGNED})")
# A number and its unit: "72 apples", "5\\text{ cm}^2", "18 square metres".
_MEASURE = re.compile(
    rf"(?P<number>{_NUMBER.pattern})\s*(?P<unit>"
    r"\\(?:text|mbox|mathrm)\s*\{[^{}0-9]*\}(?:\^\{?[23]\}?)?"
    r"|(?:per |/ ?)?[^\W\d_]{2,}(?: [^\W\d_]+)*(?:\^?\{?[23²³]\}?)?)\s*[.]?"
)
_WRITTEN = re.compile(r"\d+(?:\s*[:/]\s*\d+){2,}|\d+\s*:\s*\d+")  # times, dates and ratios are not to be calculated
# In running text: not inside a word, a time (10:30), a date (1/2/2020) or an ordinal (3rd). The second branch finds the number itself.
_RUNNING = re.compile(
    r"(?<!\d)\d+(?:[:/]\d+){2,}|(?<!\d)\d+:\d+|(?<![\w.])\d+(?:st|nd|rd|th)\b"
    rf"|((?<![\w)\]}}.,])[+-] ?[$€£¥]?|[$€£¥][+-]?|(?<![\w.,\\])|(?<=\d-)|(?<=\d–))({_UNSIGNED})(?!\d)"
)
_QUOTES = "\"'“”‘’"
_MARKED = re.compile(r"####[ \t]*([^\n]+)")
_PHRASE = re.compile(r"\banswer\b(?:\*\*|__)?[^.\n:=]{0,60}?(?:\b(?:is|are|was)\b(?:[ \t]*:)?|:|=)", re.IGNORECASE)
_SEGMENT = re.compile(r"\$\$(.{1,999}?)\$\$|\$([^$\n]{1,999})\$|\\\((.{1,999}?)\\\)|\\\[(.{1,999}?)\\\]", re.DOTALL)
_SENTENCE = re.compile(r"[.;!?](?=\s|$)")
_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_FUNCTIONS = {"sin", "cos", "tan", "log", "ln", "exp", "sqrt", "pi", "sec", "csc", "cot", "arcsin", "arccos", "arctan", "infinity", "oo"}
_NAMES = re.compile(rf"(?<![^\W\d_])(?:{'|'.join(sorted(_FUNCTIONS))})(?![^\W\d_])")
_DRESSING = (
    (re.compile(r"\\left(?![a-zA-Z])|\\right(?![a-zA-Z])|\\displaystyle|\\[!]"), ""),
    (re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    (re.compile(r"\{,\}|,?\\[,](?=\d{3}(?!\d))"), ","),
    (re.compile(r"\\[,;: ]|\\q?quad|~|\u00a0|\u202f"), " "),
    (re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)|°|\\degrees?"), ""),
    (re.compile(r"\\%|%"), ""),
    (re.compile(r"\\\$"), "$"),
    (re.compile(r"(?:(?<=[\d)])|(?<=\b[a-z]))\*\*(?=[\d(a-z-])"), "^"),  # a power in Python
    (re.compile(r"\*\*|__|`"), ""),
    (re.compile(r"(?<=\d) x (?=\d)|\s*×\s*"), r"\\times "),
    (re.compile("[\u2212\u2010\u2011]"), "-"),
)


def number(text: str) -> Fraction | None:
    """The exact value of a plain number in any common dress: 1,234.50, $5, -3, .5, 1/2, 2 1/2, 1e3, \\frac{1}{2}."""
    if len(text) > 200 or not (found := _NUMBER.fullmatch(text.strip().removesuffix("."))):
        return None
    outer, inner, body = found.groups()
    if outer and inner:
        return None
    body = body.replace(",", "")
    try:
        if body.startswith("\\frac"):
            parts = re.findall(r"\{([^{}]*)\}", body) or list(body[-2:])
            value = Fraction(parts[0]) / Fraction(parts[1])
        elif " " in body:
            whole, part = body.split()
            value = Fraction(whole) + Fraction(part)
        else:
            value = Fraction(body)
    except (ValueError, ZeroDivisionError):
        return None
    return -value if "-" in (outer, inner) else value


def spell(value: Fraction) -> str:
    """A decimal where that ends, else numerator/denominator."""
    twos = fives = 0
    rest = value.denominator
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    places = max(twos, fives)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else sign + digits


def is_text(form: str) -> bool:
    """Whether a canonical form is words, which are equal only when they are the same."""
    return form.startswith("\\text{")


def is_expression(text: str) -> bool:
    """Whether this reads as mathematics: something to calculate with and no words outside of commands."""
    bare = _NAMES.sub("1", re.sub(r"\\[a-zA-Z]+", " ", re.sub(r"\\(?:pi|infty|emptyset|theta|alpha)\b", "1", _TEXT.sub(" 1 ", text))))
    if not any(c.isalnum() for c in bare) or re.search(r"[^\W\d_]{4}", bare) or re.search(r"\\(?:boxed|fbox)\b", text):
        return False
    # Two or three letters together are a product (2xy), unless they stand alone or beside other words or numbers ("is 5").
    return not re.search(r"(?<!\w)[^\W\d_]{2,3}\s+\w|\w\s+[^\W\d_]{2,3}(?!\w)|^\W*[^\W\d_]{2,3}\W*$", bare)


def _undress(text: str) -> str:
    for pattern, by in _DRESSING:
        text = pattern.sub(by, text)
    text = text.strip()
    for opening, closing in (("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"), ("$", "$")):
        if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening) + len(closing):
            text = text[len(opening) : -len(closing)].strip()
    return re.sub(r"\s+", " ", text).strip(" ,;:#\t").removesuffix(".").strip()


def _right_side(text: str) -> str:
    """What an equation says its unknown or its calculation is: "x = 5" and "2 + 3 = 5" are 5; "x^2 + y^2 = 1" stays."""
    *left, right = text.split("=")
    right = right.strip()
    if not left or not right or any(right.count(a) != right.count(b) for a, b in ("()", "[]", "{}")):
        return text
    if re.search(r"[<>!:=]=|[<>]|\\(?:ne|neq|leq?|geq?)\b|,(?!\d{3}(?!\d))", text):  # a comparison, or several equations
        return text
    unknown = re.fullmatch(r"\s*\\?[a-zA-Z]+(?:\([a-zA-Z]\))?\s*", left[0]) and len(left[0].strip(" \\")) < 6
    computed = not re.search("[a-zA-Z]", re.sub(r"\\[a-zA-Z]+", "", left[0]))
    return right if unknown or computed or len(left) > 1 else text


def _once(text: str) -> str | None:
    text = _right_side(_undress(text).strip(_QUOTES))
    while len(text) > 2 and text[0] + text[-1] in ("()", "[]", "{}") and number(text[1:-1]) is not None:
        text = text[1:-1]
    if not any(c.isalnum() for c in text):
        return None
    if (value := number(text)) is not None:
        return spell(value)
    if (found := _MEASURE.fullmatch(text)) and found["unit"].strip(" .").lower() not in _FUNCTIONS:
        value = number(found["number"])
        if value is not None:
            return spell(value)
    if (whole := _TEXT.fullmatch(text)) or _WRITTEN.fullmatch(text) or not is_expression(text):
        return _words(whole[1] if whole else text, bool(whole))
    text = re.sub(r"\s*([-+*/=,^_(){}\[\]<>|])\s*", r"\1", text)
    return re.sub(r"^\(([A-Za-z])\)$", r"\1", text) or None


def _words(text: str, marked: bool) -> str | None:
    """Words as a form; a single letter is the name of a choice (B), or of a variable where it was not marked as text."""
    words = re.sub(r"[\\{}$#]", " ", _TEXT.sub(r" \1 ", text))
    words = re.sub(r"\s+", " ", words).strip(" .,;:!?\"'()").casefold().strip()
    if not any(c.isalnum() for c in words):
        return None
    if len(words) == 1 and words.isascii():
        return words.upper() if marked else words
    return f"\\text{{{words}}}"


def canonical(text: str) -> str | None:
    """The one form of an answer; None where there is nothing in it.

    A form is a fixed point, canonical(form) == form, and is read as itself, literal(form) == form: the key of a key is that key.
    """
    form: str | None = text[:LONGEST]
    for _ in range(8):
        if form is None:
            return None
        if (again := _once(form)) == form:
            if literal(form) == form:
                return form
            again = _words(form, False)
        form = again
    return None


def boxed(text: str) -> str | None:
    """The content of the last \\boxed{...} whose braces close."""
    for start in reversed([m.end() for m in re.finditer(r"\\(?:boxed|fbox)\s*(?=\{)", text)][-50:]):
        depth = 0
        for at in range(start, min(len(text), start + LONGEST)):
            depth += (text[at] == "{") - (text[at] == "}")
            if depth == 0:
                if (inside := text[start + 1 : at]).strip():
                    return inside
                break
    bare = re.findall(r"\\boxed +([^\s{}$]+)", text)
    return bare[-1] if bare else None


def _running(text: str) -> list[str]:
    return [(sign + body).replace(" ", "", 1) if sign else body for sign, body in _RUNNING.findall(text) if body]


def _inside(segment: re.Match[str]) -> str:
    return str(next(group for group in segment.groups() if group))


def _said(rest: str) -> str | None:
    """The answer in what follows "the answer is": a formula, else a short expression, else the (last side's first) number."""
    line = next((line for line in rest.lstrip(" \t*_:").splitlines() if line.strip(" *_:`")), "")[:LONGEST].strip()
    if (segment := _SEGMENT.match(line.lstrip("*_ "))) and is_expression(inside := _inside(segment)):
        return inside
    sentence = _SENTENCE.split(line, maxsplit=1)[0] or line
    if is_expression(sentence):
        return sentence
    for segment in _SEGMENT.finditer(sentence):
        if is_expression(inside := _inside(segment)):
            return inside
    for part in reversed(_plain(sentence).split("=")):
        if found := _running(part):
            return found[0]
    # One word that ends the reply is an answer too ("yes"); in mid-reply it is more often about one ("the answer is wrong").
    word = re.fullmatch(r"[\W_]*([^\W\d_]{2,})[\W_]*", rest)
    return f"\\text{{{word[1]}}}" if word else None


def _plain(text: str) -> str:
    for pattern, by in _DRESSING:
        text = pattern.sub(by, text)
    return text


def literal(reply: str) -> str | None:
    """The words of a reply that hold its final answer, or None.

    In this order: the last \\boxed{...}; "#### x"; the last "answer is x" or "answer: x"; a reply that is nothing but an expression;
    a formula that ends the reply; the last number.
    """
    text = reply[-TAIL:]
    if _TEXT.fullmatch(reply.strip()):  # a canonical form, whatever its words are
        return reply.strip()
    if (inside := boxed(text)) is not None:
        return inside
    if marked := [m for m in _MARKED.findall(text) if any(c.isalnum() for c in m)]:
        return str(marked[-1])[:LONGEST]
    for phrase in reversed(list(_PHRASE.finditer(text))[-20:]):
        if said := _said(text[phrase.end() : phrase.end() + 2 * LONGEST]):
            return said
    lone = text.strip()
    if "\n" not in lone and len(lone) <= LONGEST and len(reply) <= TAIL and _alone(lone):
        return lone
    end = text.rstrip(" \t\r\n.*_`")[-LONGEST:]
    formulas = [m for m in _SEGMENT.finditer(end) if m.end() == len(end)]
    if formulas and is_expression(inside := _inside(formulas[-1])):
        return inside
    numbers = _running(_plain(text))
    return numbers[-1] if numbers else None


def _alone(line: str) -> bool:
    return bool(_TEXT.fullmatch(line)) or is_expression(line)
