"""What small models write and the sandbox's interpreter lacks: modules, star imports, `exit`, `del`, a last value that is not printed.

The interpreter (Monty) runs a subset of Python. Here a program is only read, never run: parsed with `ast`, and edited in place where it
says something that the subset has no word for, so that its line numbers stay. The missing modules are given as source that runs
inside the sandbox, as a class for each; nothing of the host is lent.
"""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass

STAR = {
    "math": "sqrt pi e tau inf nan ceil floor factorial gcd lcm comb perm prod isqrt pow exp log log2 log10 sin cos tan asin acos atan "
    "atan2 sinh cosh tanh hypot degrees radians fabs trunc fsum fmod modf dist isclose isfinite isinf isnan copysign cbrt",
    "itertools": "permutations combinations combinations_with_replacement product accumulate chain count cycle repeat",
    "collections": "Counter defaultdict deque namedtuple",
    "decimal": "Decimal getcontext ROUND_HALF_UP ROUND_DOWN ROUND_UP",
    "datetime": "date datetime timedelta time",
    "functools": "reduce lru_cache",
    "random": "random randint choice shuffle seed",
    "typing": "List Dict Tuple Set Optional Union Any",
    "fractions": "Fraction",
    "statistics": "mean fmean median mode stdev pstdev variance pvariance",
    "operator": "add sub mul truediv floordiv mod neg itemgetter",
    "heapq": "heapify heappush heappop nlargest nsmallest",
    "string": "ascii_lowercase ascii_uppercase ascii_letters digits punctuation",
}

SHIMS = {
    "exit": "def exit(code=None):\n    raise SystemExit\nquit = exit\n",
    "statistics": """
class _shim_statistics:
    def mean(data):
        data = list(data)
        total = sum(data)
        whole = all([isinstance(x, int) for x in data])
        return total // len(data) if whole and total % len(data) == 0 else total / len(data)
    def fmean(data):
        data = list(data)
        return sum(data) / len(data)
    def median(data):
        data = sorted(data)
        half = len(data) // 2
        return data[half] if len(data) % 2 else (data[half - 1] + data[half]) / 2
    def mode(data):
        data = list(data)
        return max(data, key=lambda x: data.count(x))
    def pvariance(data):
        data = list(data)
        middle = sum(data) / len(data)
        return sum([(x - middle) ** 2 for x in data]) / len(data)
    def variance(data):
        data = list(data)
        middle = sum(data) / len(data)
        return sum([(x - middle) ** 2 for x in data]) / (len(data) - 1)
    def pstdev(data):
        return _shim_statistics.pvariance(data) ** 0.5
    def stdev(data):
        return _shim_statistics.variance(data) ** 0.5
""",
    "fractions": """
from math import gcd as _shim_gcd
class Fraction:
    def __init__(self, numerator=0, denominator=1):
        if isinstance(numerator, str):
            top, _, bottom = numerator.partition("/")
            whole, _, part = top.strip().partition(".")
            numerator = Fraction(int(whole + part), 10 ** len(part) * int(bottom or "1"))
        elif isinstance(numerator, float):
            top, bottom = numerator.as_integer_ratio() if hasattr(numerator, "as_integer_ratio") else (None, None)
            if top is None:
                bottom = 1
                while numerator != int(numerator):
                    numerator, bottom = numerator * 2, bottom * 2
                top = int(numerator)
            numerator = Fraction(top, bottom)
        if isinstance(denominator, Fraction):
            numerator = numerator * Fraction(denominator.denominator, denominator.numerator)
            denominator = 1
        if isinstance(numerator, Fraction):
            numerator, denominator = numerator.numerator, numerator.denominator * denominator
        if denominator == 0:
            raise ZeroDivisionError("Fraction with denominator 0")
        by = _shim_gcd(numerator, denominator) * (-1 if denominator < 0 else 1)
        self.numerator = numerator // by
        self.denominator = denominator // by
    def _with(self, other, work):
        if isinstance(other, float):
            return None
        other = other if isinstance(other, Fraction) else Fraction(other)
        return work(self.numerator, self.denominator, other.numerator, other.denominator)
    def __add__(self, other):
        if isinstance(other, float):
            return float(self) + other
        return self._with(other, lambda a, b, c, d: Fraction(a * d + c * b, b * d))
    def __radd__(self, other):
        return self + other
    def __sub__(self, other):
        return self + -other
    def __rsub__(self, other):
        return -self + other
    def __mul__(self, other):
        if isinstance(other, float):
            return float(self) * other
        return self._with(other, lambda a, b, c, d: Fraction(a * c, b * d))
    def __rmul__(self, other):
        return self * other
    def __truediv__(self, other):
        if isinstance(other, float):
            return float(self) / other
        return self._with(other, lambda a, b, c, d: Fraction(a * d, b * c))
    def __rtruediv__(self, other):
        return other / float(self) if isinstance(other, float) else Fraction(other) / self
    def __pow__(self, power):
        return Fraction(self.numerator**power, self.denominator**power) if power >= 0 else Fraction(1) / self**-power
    def __neg__(self):
        return Fraction(-self.numerator, self.denominator)
    def __eq__(self, other):
        if isinstance(other, float):
            return float(self) == other
        return self._with(other, lambda a, b, c, d: a == c and b == d)
    def __float__(self):
        return self.numerator / self.denominator
    def __int__(self):
        return int(self.numerator / self.denominator)
    def __str__(self):
        return str(self.numerator) if self.denominator == 1 else str(self.numerator) + "/" + str(self.denominator)
class _shim_fractions:
    Fraction = Fraction
""",
    "operator": """
class _shim_operator:
    def add(a, b): return a + b
    def sub(a, b): return a - b
    def mul(a, b): return a * b
    def truediv(a, b): return a / b
    def floordiv(a, b): return a // b
    def mod(a, b): return a % b
    def neg(a): return -a
    def itemgetter(key): return lambda row: row[key]
""",
    "heapq": """
class _shim_heapq:
    def heapify(heap): heap.sort()
    def heappush(heap, item):
        heap.append(item)
        heap.sort()
    def heappop(heap):
        heap.sort()
        return heap.pop(0)
    def nlargest(n, items): return sorted(items, reverse=True)[:n]
    def nsmallest(n, items): return sorted(items)[:n]
""",
    "string": """
class _shim_string:
    ascii_lowercase = "abcdefghijklmnopqrstuvwxyz"
    ascii_uppercase = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    ascii_letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    digits = "0123456789"
    punctuation = "!\\"#$%&'()*+,-./:;<=>?@[\\\\]^_`{|}~"
""",
}


@dataclass(frozen=True, slots=True)
class Program:
    """What is fed to the sandbox: `prelude` first, then `code`; `lone` is a function that may be called if nothing was printed."""

    prelude: str
    code: str
    lone: str | None


def read(code: str) -> Program:
    """A program in words that the interpreter has. Raises SyntaxError, ValueError or RecursionError for what is no Python."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of invalid escapes, which are the model's affair
        tree = ast.parse(code)
    source = code.encode()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def span(node: ast.stmt | ast.expr) -> tuple[int, int]:
        return starts[node.lineno - 1] + node.col_offset, starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)

    needed: set[str] = set()
    edits: list[tuple[int, int, bytes]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt | ast.expr) and (words := _words(node, needed)) is not None:
            edits.append((*span(node), words.encode()))
    if tree.body and isinstance(last := tree.body[-1], ast.Expr):
        start, end = span(last)
        edits += [(start, start, b"__value__ = ("), (end, end, b")")]
    for start, end, new in sorted(edits, key=lambda edit: edit[:2], reverse=True):
        source = source[:start] + new + source[end:]
    return Program("__value__ = None\n" + "".join(SHIMS[name] for name in sorted(needed)), source.decode(), _lone(tree))


def _words(node: ast.stmt | ast.expr, needed: set[str]) -> str | None:
    """Other words for a statement or expression, or None to leave it; adds the shims they need."""
    if isinstance(node, ast.Import) and any(alias.name in SHIMS for alias in node.names):
        return "; ".join(_import(alias, needed) for alias in node.names)
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        names = node.names
        if names[0].name == "*" and node.module in STAR:
            names = [ast.alias(name) for name in STAR[node.module].split()]
        elif node.module not in SHIMS:
            return None
        if node.module not in SHIMS:
            return f"from {node.module} import {', '.join(alias.name for alias in names)}"
        needed.add(node.module)
        return "; ".join(f"{alias.asname or alias.name} = _shim_{node.module}.{alias.name}" for alias in names)
    if isinstance(node, ast.Delete) and all(isinstance(target, ast.Name) for target in node.targets):
        return "; ".join(f"{target.id} = None" for target in node.targets if isinstance(target, ast.Name))
    if isinstance(node, ast.Attribute) and node.attr == "exit" and isinstance(node.value, ast.Name) and node.value.id == "sys":
        needed.add("exit")
        return "exit"
    if isinstance(node, ast.Name) and node.id in ("exit", "quit"):
        needed.add("exit")
    return None


def _import(alias: ast.alias, needed: set[str]) -> str:
    if alias.name not in SHIMS:
        return f"import {alias.name}" + (f" as {alias.asname}" if alias.asname else "")
    needed.add(alias.name)
    return f"{alias.asname or alias.name} = _shim_{alias.name}"


def _lone(tree: ast.Module) -> str | None:
    """The function that a program is about: the only one that needs no argument, or one with a telling name."""
    ready = [f.name for f in tree.body if isinstance(f, ast.FunctionDef) and not _required(f.args)]
    named = [name for name in ("solution", "solve", "main", "answer") if name in ready]
    return ready[0] if len(ready) == 1 else (named[0] if named else None)


def _required(args: ast.arguments) -> int:
    return len(args.posonlyargs) + len(args.args) - len(args.defaults) + sum(default is None for default in args.kw_defaults)
