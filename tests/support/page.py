"""What the pages of reports have in common: their style, and figures, legends and lists as HTML."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

_MOST_LISTED = 200
_SIGNS = {
    "rect": '<rect class="{0}" width="12" height="12"/>',
    "line": '<path class="line {0}" d="M0 6 L12 6"/>',
}


def style() -> str:
    """The style sheet; it goes into the page, which needs nothing else then."""
    return (Path(__file__).parent / "page.css").read_text()


def figures(values: Mapping[str, str]) -> str:
    """Figures with their names, as cards."""
    cards = (f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in values.items())
    return f"<dl>{''.join(cards)}</dl>"


def legend(shape: str, names: Mapping[str, str]) -> str:
    """What the colours of a plot mean, CSS class -> name. `shape` is "rect" or "line"."""
    keys = [
        f'<span class="key"><svg viewBox="0 0 12 12">{_SIGNS[shape].format(css)}</svg>{escape(name)}</span>'
        for css, name in names.items()
    ]
    return f"<p>{''.join(keys)}</p>"


def listing(title: str, sentences: Sequence[str]) -> str:
    """Sentences under a heading; nothing where there are none."""
    if not sentences:
        return ""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences[:_MOST_LISTED])
    more = f"<p>and {len(sentences) - _MOST_LISTED:,} more</p>" if len(sentences) > _MOST_LISTED else ""
    return f"<h2>{escape(title)}</h2><ul>{items}</ul>{more}"
