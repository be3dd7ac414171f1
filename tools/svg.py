"""A few shapes as SVG text, the same text for the same drawing."""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.sax.saxutils import escape

INK, FAINT, PAPER = "#1f2933", "#9aa5b1", "#ffffff"
MAP, FIELD, ZERO = "#cfe3f7", "#d9480f", "#f1d9b8"
_STYLE = "font-family:system-ui,sans-serif"
_MARGIN_PX = 12


def number(value: float) -> str:
    """A coordinate with at most two decimals.

    Example:
        >>> number(1.0), number(2.345)
        ('1', '2.35')
    """
    return f"{value:.2f}".rstrip("0").rstrip(".")


@dataclass
class Drawing:
    """Shapes on a sheet that grows with them.

    Attributes:
        title: what the drawing shows, for those who cannot see it.
        parts: the elements so far.
        width_px: of what was drawn.
        height_px: of what was drawn.
    """

    title: str
    parts: list[str] = field(default_factory=list)
    width_px: float = 0
    height_px: float = 0

    def rect(
        self,
        left: float,
        top: float,
        width: float,
        height: float,
        *,
        fill: str = "none",
        stroke: str = INK,
        stroke_px: float = 1,
        dash: str = "",
    ) -> None:
        """A rectangle."""
        self._reach(left + width, top + height)
        dashed = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<rect x="{number(left)}" y="{number(top)}" width="{number(width)}" '
            f'height="{number(height)}" fill="{fill}" stroke="{stroke}" '
            f'stroke-width="{number(stroke_px)}"{dashed}/>'
        )

    def line(
        self, x0: float, y0: float, x1: float, y1: float, *, stroke: str = INK, stroke_px: float = 1
    ) -> None:
        """A straight line."""
        self._reach(max(x0, x1), max(y0, y1))
        self.parts.append(
            f'<line x1="{number(x0)}" y1="{number(y0)}" x2="{number(x1)}" y2="{number(y1)}" '
            f'stroke="{stroke}" stroke-width="{number(stroke_px)}"/>'
        )

    def text(
        self, x: float, y: float, words: str, *, size_px: int = 12, anchor: str = "start",
        fill: str = INK, bold: bool = False,
    ) -> None:  # fmt: skip
        """A line of text; ``y`` is its base line."""
        before = {"start": 0.0, "middle": 0.5, "end": 1.0}[anchor]
        self._reach(x + (1 - before) * len(words) * size_px * 0.56, y + size_px * 0.3)
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{number(x)}" y="{number(y)}" font-size="{size_px}" '
            f'text-anchor="{anchor}" fill="{fill}"{weight}>{escape(words)}</text>'
        )

    def __str__(self) -> str:
        width, height = self.width_px + 2 * _MARGIN_PX, self.height_px + 2 * _MARGIN_PX
        size = f"{number(-_MARGIN_PX)} {number(-_MARGIN_PX)} {number(width)} {number(height)}"
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" '
                f'width="{number(width)}" height="{number(height)}" style="{_STYLE}" role="img">',
                f"<title>{escape(self.title)}</title>",
                f'<rect x="{-_MARGIN_PX}" y="{-_MARGIN_PX}" width="{number(width)}" '
                f'height="{number(height)}" fill="{PAPER}"/>',
                *self.parts,
                "</svg>",
                "",
            ]
        )

    def _reach(self, x: float, y: float) -> None:
        self.width_px, self.height_px = max(self.width_px, x), max(self.height_px, y)
