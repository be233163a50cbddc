"""A section of the page: its HTML and the figures that it shows; each heading says what its section shows."""

from collections.abc import Sequence
from html import escape

from rnafold.report.curves import Figure

Section = tuple[str, list[Figure]]


def write_grid(figures: Sequence[Figure], kind: str) -> str:
    """Figures beside each other; `kind` is wide (two in a row), small (four) or full (one)."""
    return (
        f'<div class="grid {kind}">'
        + "".join(
            f"<figure><figcaption><b>{escape(figure.title)}</b><span>{escape(figure.note)}</span></figcaption>"
            f'<div class="plot" id="plot-{escape(figure.name)}" role="img" aria-label="{escape(figure.title)}: '
            f'{escape(figure.note)}" style="height:{figure.height}px"></div></figure>'
            for figure in figures
        )
        + "</div>"
    )


def write_section(name: str, heading: str, body: str) -> str:
    """A section of the page; `name` is its id, `heading` plain text, `body` HTML."""
    return f'<section id="{name}"><h2>{escape(heading)}</h2>{body}</section>'
