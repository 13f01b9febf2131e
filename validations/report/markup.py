"""HTML and SVG elements. Text and attributes are escaped here and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

#: Control characters and those that turn the direction of text, which could make a name look like another one.
_UNSAFE = {
    code: f"\\u{code:04x}"
    for code in (*range(0x20), 0x7F, *range(0x80, 0xA0), 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    if code not in (0x09, 0x0A)
}


_NUMBER = re.compile(r"-|[\d,.]+(?: (?:ms|s|B|kB|MB|GB|TB))?")


@dataclass(frozen=True, slots=True)
class Markup:
    """Text that is HTML already."""

    text: str


Child = Markup | str
NOTHING = Markup("")


def tag(name: str, *children: Child, **attributes: str | float) -> Markup:
    """An element; ``class_`` is the attribute ``class``, ``stroke_width`` is ``stroke-width``."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_escaped(f"{value:g}" if isinstance(value, float) else str(value))}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{written}>{join(children).text}</{name}>")


def join(children: Iterable[Child]) -> Markup:
    """Elements and texts, one after the other."""
    return Markup("".join(child.text if isinstance(child, Markup) else _escaped(child) for child in children))


def table(head: Sequence[str], rows: Iterable[Sequence[Child]]) -> Markup:
    """A table; on a narrow screen each cell stands under its column's name. Columns of numbers are aligned."""
    cells = [list(zip(head, row, strict=True)) for row in rows]
    if not cells:
        return NOTHING
    numbers = {label for label in head if all(_is_number(cell) for row in cells for name, cell in row if name == label)}
    kind = {label: {"class_": "n"} if label in numbers else {} for label in head}
    body = [tag("tr", *[tag("td", cell, data_label=label, **kind[label]) for label, cell in row]) for row in cells]
    titles = tag("thead", tag("tr", *[tag("th", label, scope="col", **kind[label]) for label in head]))
    return tag("div", tag("table", titles, tag("tbody", *body)), class_="wide")


def _is_number(cell: Child) -> bool:
    return isinstance(cell, str) and _NUMBER.fullmatch(cell) is not None


def items(lines: Iterable[Child]) -> Markup:
    """A list."""
    return tag("ul", *[tag("li", line) for line in lines])


def _escaped(text: str) -> str:
    return escape(text.translate(_UNSAFE), quote=True)
