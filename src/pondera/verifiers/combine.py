r"""Several verifiers as one. With :math:`s_k` the scores that the parts give a thought, over those parts that have one,

    mean      sum of s_k / K
    product   ( product of max(0, s_k) ) ^ (1/K)          the geometric mean: the order of the product, whatever K is
    weighted  sum of w_k s_k / sum of w_k
    logistic  1 / ( 1 + exp( -( bias + sum of w_k s_k ) ) )     weights learned from labelled samples

A part that fails, or has no opinion of a thought, is left out of it: that is not a low score. In `logistic`, whose weights presume all
parts, it counts as the mean of what it thinks of the other thoughts. The parts work side by side.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Sequence
from numbers import Real

from pondera import parse
from pondera.errors import BadInput, PonderaError, VerifierError
from pondera.ops import Verdict, Verifier, both
from pondera.thought import Thought
from pondera.verifiers.learned import sigmoid

Column = list[float | None]
Fold = Callable[[list[tuple[int, float]]], float]  # of the parts' numbers and scores to one score

OF = "confidence, judge"


def mean(of: str = OF) -> Verifier:
    """Mean of several verifiers' scores.

    `of` names them, as in "confidence, judge(think=200)". None where none has an opinion. Raises BadInput for a name that is not known.

    Paper: ensembles of reward models, Coste et al. 2023 (arXiv 2310.02743).
    """
    return _combined(of, lambda known: sum(score for _, score in known) / len(known))


def product(of: str = OF) -> Verifier:
    """Product of several verifiers' scores, as their geometric mean: a low one spoils all.

    `of` names them, as in "confidence, judge". Scores below 0 count as 0. None where none has an opinion.

    Paper: ensembles of reward models, Coste et al. 2023 (arXiv 2310.02743).
    """
    return _combined(of, lambda known: math.prod(max(0.0, score) for _, score in known) ** (1 / len(known)))


def weighted(of: str = OF, weights: str = "0.5, 0.5") -> Verifier:
    """Mean of several verifiers' scores, each with a weight.

    `of` names them and `weights` are numbers of 0 or more, one for each, as in weights="0.7, 0.3". None where none that weighs has an
    opinion.

    Paper: ensembles of reward models, Coste et al. 2023 (arXiv 2310.02743).
    """
    each = _numbers(weights, of)
    if min(each) < 0 or sum(each) <= 0:
        raise BadInput(f"weights={weights!r}: the weights of a mean are 0 or more, and one is above 0.")

    def fold(known: list[tuple[int, float]]) -> float:
        total = sum(each[k] for k, _ in known)
        return sum(each[k] * score for k, score in known) / total if total else math.nan

    return _combined(of, fold)


def logistic(of: str = OF, weights: str = "1, 1", bias: float = -1.0) -> Verifier:
    """Probability from several verifiers' scores, by a logistic regression whose weights were learned.

    `of` names them; `weights` are numbers, one for each, and `bias` is added. None where a part has no opinion of any thought.

    Paper: Platt 1999, "Probabilistic outputs for support vector machines", of several scores.
    """
    each = _numbers(weights, of)

    def fold(known: list[tuple[int, float]]) -> float:
        if len(known) < len(each):
            return math.nan
        return sigmoid(bias + sum(each[k] * score for k, score in known))

    return _combined(of, fold, filled=True)


def _combined(of: str, fold: Fold, filled: bool = False) -> Verifier:
    texts = _parts(of)
    parts = [_verifier(text) for text in texts]

    async def one(k: int, nodes: tuple[Thought, ...]) -> tuple[int, Column]:
        """A part's scores; what goes wrong in one, which may be anybody's, is its own failure."""
        try:
            scores = await parts[k](nodes)
        except PonderaError:
            raise
        except Exception as error:
            raise VerifierError(f"The verifier {texts[k]!r} failed: {type(error).__name__}: {error}") from error
        if not isinstance(scores, list) or len(scores) != len(nodes):
            raise VerifierError(f"The verifier {texts[k]!r} gave no list of {len(nodes)} scores.")
        return k, [score if isinstance(score, Real) and math.isfinite(score) else None for score in scores]

    async def verifier(nodes: tuple[Thought, ...]) -> list[float | None]:
        if not nodes:
            return []
        columns = dict(await both(*(one(k, nodes) for k in range(len(parts)))))
        whole = {k: _filled(column) if filled else column for k, column in columns.items()}
        return [_folded(i, whole, columns, fold) for i in range(len(nodes))]

    return verifier


def _folded(i: int, whole: dict[int, Column], columns: dict[int, Column], fold: Fold) -> float | None:
    known = [(k, score) for k, column in sorted(whole.items()) if (score := column[i]) is not None]
    score = fold(known) if known else math.nan
    whys = [getattr(column[i], "why", "") for _, column in sorted(columns.items())]
    return Verdict(score, "\n".join(why for why in whys if why)) if math.isfinite(score) else None


def _filled(column: Sequence[float | None]) -> Column:
    known = [score for score in column if score is not None]
    return [sum(known) / len(known) if score is None else score for score in column] if known else list(column)


def _parts(of: str) -> list[str]:
    """The calls in a list of verifiers. Raises BadInput."""
    try:
        tree = ast.parse(f"[{of.strip()}]", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = None
    if not isinstance(tree, ast.List) or not tree.elts:
        raise BadInput(f'of={of!r} is no list of verifiers: write their names with commas, as in of="confidence, judge(think=200)".')
    return [ast.unparse(part) for part in tree.elts]


def _verifier(text: str) -> Verifier:
    from pondera.verifiers import VERIFIERS  # which lists this module's own functions

    made: Verifier = parse.call(text, VERIFIERS, "verifier")()
    return made


def _numbers(weights: str, of: str) -> list[float]:
    """Raises BadInput where there is not one number for each part."""
    try:
        each = [float(number) for number in weights.split(",")]
    except ValueError:
        each = []
    if len(each) != len(_parts(of)) or not all(math.isfinite(number) for number in each):
        raise BadInput(f'weights={weights!r}: give a number for each of the verifiers {of!r}, as in weights="0.7, 0.3".')
    return each
