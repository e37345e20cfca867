"""The pictures of a report, drawn with matplotlib: as SVG whose colours are the page's own (so that they are right by day and by night),
and as PNG."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from pondera.allocate.curve import Curve, Floats, band, bootstrap
from pondera.allocate.returns import Returns
from pondera.errors import BadInput

WIDTH, HEIGHT = 5.6, 3.9  # inches, at 72 points
NAMES = {"tokens": "tokens generated a problem", "seconds": "seconds a problem", "usd": "US dollars a problem", "x": "samples a problem"}
LIGHT = ("#1b62b5", "#c4510c", "#18794e", "#8a3fa0", "#9a6700", "#b3261e", "#0b7a86", "#5b6470")
DARK = ("#6cb0ff", "#ff9d5c", "#57c99a", "#d39bea", "#e3b341", "#ff8a80", "#54c7d4", "#aab4c0")
INK, FAINT, PAPER = "#24292f", "#d7dce2", "#ffffff"
_MARKS = "osD^vPX*"
TERA = 1e12

Artist = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Picture:
    """One chart: `name` is its file's, `draw` paints it on axes."""

    name: str
    title: str
    caption: str
    draw: Artist

    def svg(self) -> str:
        """For a page: its text is text, and its colours are the page's `--ink`, `--faint`, `--c0` ... `--c7`."""
        text = re.sub(r"^.*?(?=<svg)", "", self._save("svg").decode(), flags=re.DOTALL)
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        label = escape(self.title)
        text = re.sub(
            r'<svg[^>]*viewBox="([^"]*)"[^>]*>', lambda m: f'<svg viewBox="{m[1]}" role="img" aria-label="{label}">', text, count=1
        )
        text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{self.name}-", text)  # ids of one picture must not be another's
        for i, colour in enumerate(LIGHT):
            text = text.replace(colour, f"var(--c{i})")
        return text.replace(INK, "var(--ink)").replace(FAINT, "var(--faint)")

    def png(self) -> bytes:
        return self._save("png", dpi=160, facecolor=PAPER)

    def _save(self, form: str, **more: Any) -> bytes:
        try:
            import matplotlib as mpl
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError:
            raise BadInput("matplotlib is not here: install it with pip install 'pondera[bench]'.")
        grey = {"axes.edgecolor": FAINT, "grid.color": FAINT}
        ink = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
        style: Any = {
            "svg.fonttype": "none",
            "text.parse_math": False,
            "svg.hashsalt": self.name,
            "font.size": 10,
            "legend.fontsize": 9,
            "legend.frameon": False,
        }
        style |= {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True, "grid.linewidth": 0.6}
        with mpl.rc_context(style | grey | ink):
            figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
            FigureCanvasAgg(figure)
            axes = figure.add_subplot()
            self.draw(axes)
            if handles := axes.get_legend_handles_labels()[0]:
                figure.legend(loc="outside lower center", ncols=2 if len(handles) > 1 else 1)
            out = io.BytesIO()
            figure.savefig(out, format=form, transparent=form == "svg", **({"metadata": {"Date": None}} if form == "svg" else {}), **more)
        return out.getvalue()


def _line(i: int) -> dict[str, Any]:
    """How the i-th line of a chart looks."""
    return {"color": LIGHT[i % len(LIGHT)], "marker": _MARKS[i % len(_MARKS)], "markersize": 3.5, "linewidth": 1.6}


def _percent(axes: Any) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_ylabel("right")


def _plain(axes: Any, axis: str) -> None:
    """A logarithmic axis with numbers as people write them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12f}".rstrip("0").rstrip(".")))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(NAMES.get(axis, axis))


# ---------------------------------------------------------------- charts


@dataclass(frozen=True, slots=True)
class Spot:
    """One way to think at one price: where it stands on the front."""

    label: str
    cost: float
    right: float
    low: float
    high: float


def front(spots: Sequence[Spot]) -> list[Spot]:
    """Those that no other beats: none is right more often for the same or less. The cheapest first."""
    kept: list[Spot] = []
    for spot in sorted(spots, key=lambda one: (one.cost, -one.right)):
        if not kept or spot.right > kept[-1].right:
            kept.append(spot)
    return kept


def pareto(name: str, title: str, spots: Sequence[Spot], axis: str, counts: Sequence[int]) -> Picture:
    """All ways to think, and the line of those that none beats, with their names; `counts` are the problems that each was asked."""
    best = front(spots)

    def draw(axes: Any) -> None:
        others = [spot for spot in spots if spot not in best]
        axes.plot([s.cost for s in others], [s.right for s in others], ".", color=LIGHT[7], alpha=0.55, label="beaten by another")
        for spot in best:
            axes.plot([spot.cost, spot.cost], [spot.low, spot.high], "-", color=LIGHT[0], alpha=0.3, linewidth=1)
        axes.plot(
            [s.cost for s in best], [s.right for s in best], "o-", color=LIGHT[0], drawstyle="steps-post", markersize=4, label="the front"
        )
        for i, spot in enumerate(best, 1):
            axes.annotate(str(i), (spot.cost, spot.right), (0, 5), textcoords="offset points", ha="center", fontsize=8)
        _plain(axes, axis)
        _percent(axes)

    ranks = "; ".join(f"{i}: {spot.label}" for i, spot in enumerate(best, 1))
    uneven = "" if min(counts) == max(counts) else f" Not all were asked the same problems: {min(counts):,} to {max(counts):,} of them."
    return Picture(name, title, f"The front, cheapest first. {ranks}.{uneven}", draw)


def curves(name: str, title: str, found: Sequence[Returns], axis: str = "tokens") -> Picture:
    """Accuracy against cost, each with its band, its fit, and its bend where there is one."""

    def draw(axes: Any) -> None:
        for i, one in enumerate(found):
            colour, x = LIGHT[i % len(LIGHT)], one.curve.mean(axis)
            low, high = ([getattr(point, end) for point in one.band] for end in ("low", "high"))
            axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
            axes.plot(x, one.curve.mean(), label=one.curve.name, **_line(i))
            if one.bend and one.bend.measured and one.bend.reached:
                at, right = (float(np.interp(one.bend.x.value, one.curve.x, each)) for each in (x, one.curve.mean()))
                axes.plot([at], [right], marker="o", markersize=11, fillstyle="none", color=colour, markeredgewidth=1.8)
        _plain(axes, axis)
        _percent(axes)

    bends = any(one.bend and one.bend.measured and one.bend.reached for one in found)
    return Picture(name, title, "Bands are 95 % of a bootstrap over problems." + (" Rings mark the bends." if bends else ""), draw)


def fifths(name: str, title: str, parts: Sequence[Curve]) -> Picture:
    def draw(axes: Any) -> None:
        for i, part in enumerate(parts):
            sure = band(part, bootstrap(part, 400))
            axes.fill_between(part.x, [s.low for s in sure], [s.high for s in sure], color=LIGHT[i], alpha=0.12, linewidth=0)
            axes.plot(part.x, part.mean(), label=part.name, **_line(i))
        _plain(axes, "x")
        axes.set_ylim(-0.03, 1.03)
        _percent(axes)

    caption = "majority@k. One half of a problem's samples says how hard it is, the other half is counted, then the other way round."
    return Picture(name, title, caption, draw)


def latencies(name: str, title: str, seconds: Mapping[str, Floats], at_once: int) -> Picture:
    """The share of problems that were answered within so many seconds."""

    def draw(axes: Any) -> None:
        for i, (label, each) in enumerate(seconds.items()):
            ordered = np.sort(np.maximum(each, 1e-3))
            shares = np.arange(1, len(ordered) + 1) / len(ordered)
            axes.plot(ordered, shares, color=LIGHT[i % len(LIGHT)], drawstyle="steps-post", linewidth=1.6, label=label)
        _plain(axes, "seconds")
        _percent(axes)
        axes.set_ylabel("answered")

    return Picture(name, title, f"{at_once} problems shared the machine.", draw)


@dataclass(frozen=True, slots=True)
class Single:
    """A larger model's single answer: its name, operations and accuracy."""

    model: str
    flops: float
    right: float


def exchanged(name: str, title: str, small: str, lines: Mapping[str, tuple[Floats, Floats]], large: Single) -> Picture:
    """A small model's accuracy against operations, for each way of thinking, and the larger one's single answer."""

    def draw(axes: Any) -> None:
        for i, (way, (flops, right)) in enumerate(lines.items()):
            axes.plot(np.asarray(flops) / TERA, right, label=way, **_line(i))
        axes.axhline(large.right, color=LIGHT[7], linewidth=1, linestyle="--")
        axes.plot([large.flops / TERA], [large.right], "*", color=INK, markersize=12, label=f"{large.model}: one answer")
        _plain(axes, "tera-operations (floating point) a problem")
        _percent(axes)

    caption = f"Lines are {small}. Operations are 2 x parameters x tokens computed; a prompt in the cache is not computed again."
    return Picture(name, title, caption, draw)
