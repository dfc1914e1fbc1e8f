"""Plots as SVG, drawn by hand: a frame with its axes, and what is drawn into it. Colours are CSS classes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _LEFT, _RIGHT, _BOTTOM, _TOP = 1080, 56, 12, 26, 8
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 3000, 6000)
_MOST_TICKS = 14
_MOST_LINES = 5


@dataclass(frozen=True, slots=True)
class Span:
    """Something that lasts on a time axis; `title` shows under the pointer."""

    begin_s: float
    end_s: float
    css: str
    title: str


@dataclass(frozen=True, slots=True)
class Frame:
    """A plot of `height` pixels over so many seconds, values from 0 to `most`.

    Where it is not time that goes to the right, `ticks` says what is: place -> text.
    """

    seconds: float
    height: int
    most: float = 1.0
    ticks: Mapping[float, str] | None = None

    def x(self, at_s: float) -> float:
        """Where a time is."""
        return _LEFT + at_s / self.seconds * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """Where a value is; what is higher than the frame ends at its top."""
        return _TOP + (1 - min(value / self.most, 1)) * self.height

    def svg(self, label: str, *shapes: str) -> str:
        """The whole plot with the shapes in it."""
        size = f'viewBox="0 0 {_WIDTH} {self.height + _TOP + _BOTTOM}"'
        return f'<svg {size} role="img" aria-label="{escape(label)}">{"".join(shapes)}{self._axis()}</svg>'

    def grid(self, unit: str = "") -> str:
        """Lines for the values, with their numbers."""
        lines = []
        for value in round_values(self.most):
            y = self.y(value)
            lines.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            lines.append(f'<text class="end" x="{_LEFT - 6}" y="{y + 4:.1f}">{value:g}{unit}</text>')
        return "".join(lines)

    def shades(self, spans: Iterable[Span]) -> str:
        """Spans as backgrounds from top to bottom."""
        return "".join(self._bar(span, _TOP, self.height) for span in spans)

    def lane(self, number: int, of: int, name: str, spans: Iterable[Span]) -> str:
        """One of several rows of bars, with its name."""
        height = self.height / of
        top = _TOP + number * height
        text = f'<text class="end" x="{_LEFT - 6}" y="{top + height / 2 + 4:.1f}">{escape(name)}</text>'
        return text + "".join(self._bar(span, top + 2, height - 4) for span in spans)

    def stack(self, step_s: float, layers: Mapping[str, Sequence[float]]) -> str:
        """Bars upon each other; `layers` is CSS class -> a value for each step."""
        base = [0.0] * len(next(iter(layers.values()), ()))
        bars = []
        for css, values in layers.items():
            for number, value in enumerate(values):
                if value:
                    left, right = self.x(number * step_s), self.x((number + 1) * step_s)
                    top, bottom = self.y(base[number] + value), self.y(base[number])
                    place = f'x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"'
                    bars.append(f'<rect class="{css}" {place}/>')
                    base[number] += value
        return "".join(bars)

    def line(self, css: str, points: Iterable[tuple[float, float | None]]) -> str:
        """A line through the points, broken where there is no value."""
        path, pen = [], "M"
        for at_s, value in points:
            if value is None:
                pen = "M"
                continue
            path.append(f"{pen}{self.x(at_s):.1f} {self.y(value):.1f}")
            pen = "L"
        return f'<path class="line {css}" d="{" ".join(path)}"/>'

    def dot(self, css: str, at: float, lane: int, of: int, title: str) -> str:
        """A dot in one of several rows."""
        y = _TOP + (lane + 0.5) * self.height / of
        return f'<circle class="{css}" cx="{self.x(at):.1f}" cy="{y:.1f}" r="5"><title>{escape(title)}</title></circle>'

    def _bar(self, span: Span, top: float, height: float) -> str:
        left, width = self.x(span.begin_s), max(2.0, self.x(span.end_s) - self.x(span.begin_s))
        place = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"'
        return f'<rect class="{span.css}" {place}><title>{escape(span.title)}</title></rect>'

    def _axis(self) -> str:
        y = _TOP + self.height
        ticks = self._seconds() if self.ticks is None else self.ticks
        shapes = [f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>']
        shapes += [
            f'<text class="middle" x="{self.x(at):.1f}" y="{y + 18}">{escape(text)}</text>'
            for at, text in ticks.items()
        ]
        return "".join(shapes)

    def _seconds(self) -> dict[float, str]:
        step = next((step for step in _STEPS if self.seconds / step <= _MOST_TICKS), _STEPS[-1])
        return {at_s: f"{at_s} s" for at_s in range(0, int(self.seconds) + 1, step)}


def round_values(most: float) -> list[float]:
    """A few round numbers up to `most`."""
    steps = (factor * 10.0**power for power in range(-3, 7) for factor in (1, 2, 5))
    step = next(step for step in steps if most / step <= _MOST_LINES)
    return [step * number for number in range(1, int(most / step) + 1)]
