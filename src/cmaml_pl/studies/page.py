"""A page of HTML that needs no other file, no network and no JavaScript."""

import base64
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

STYLE = """
:root { color-scheme: light dark; --text: #1a1a1a; --back: #ffffff; --line: #d0d0d0; --soft: #666666; --box: #f3f4f6; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6e6; --back: #16181c; --line: #3a3d44; --soft: #a0a4ab; --box: #22252b; }
}
body { max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: var(--text); background: var(--back);
  font: 16px/1.5 system-ui, sans-serif; }
section { margin-top: 3rem; }
h1, h2, h3 { line-height: 1.2; overflow-wrap: anywhere; }
img { max-width: 100%; background: #ffffff; border-radius: 6px; }
pre { background: var(--box); padding: .7rem 1rem; border-radius: 6px; overflow-x: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td:first-child { min-width: 9rem; }
small { color: var(--soft); white-space: nowrap; }
.small { color: var(--soft); font-size: .85rem; }
.warning { border-left: 4px solid #d97706; padding: .5rem 1rem; background: var(--box); }
"""


def render_page(title: str, sections: Sequence[str]) -> str:
    """The whole page; sections are HTML."""
    body = "\n".join(f"<section>{section}</section>" for section in sections)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{STYLE}</style></head>\n'
        f"<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def render(tag: str, text: str, style: str = "") -> str:
    """An element with plain text."""
    return f"<{tag}{f' class={chr(34)}{style}{chr(34)}' if style else ''}>{escape(text)}</{tag}>"


def render_heading(name: str) -> str:
    """The heading of a part that `render_contents` leads to."""
    return f'<h2 id="{escape(name)}">{escape(name)}</h2>'


def render_contents(parts: Sequence[tuple[str, str]]) -> str:
    """A list of the page's parts, each with its name and what it is about."""
    lines = (f'<li><a href="#{escape(name)}">{escape(name)}</a>: {escape(words)}</li>' for name, words in parts)
    return f"<ul>{''.join(lines)}</ul>"


def render_table(lines: Sequence[Sequence[str]]) -> str:
    """A table whose first line names the columns. An interval stands below its mean."""
    head, *rows = (
        f"<tr>{''.join(_render_cell(cell) if i else render('th', cell) for cell in line)}</tr>"
        for i, line in enumerate(lines)
    )
    return f'<div class="wide"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'


def _render_cell(text: str) -> str:
    found = re.fullmatch(r"(\S+) (\[.+\])", text)
    return f"<td>{escape(found[1])}<br><small>{escape(found[2])}</small></td>" if found else render("td", text)


def render_picture(path: Path, words: str) -> str:
    """A PNG or a GIF, within the page."""
    content = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{escape(words)}" src="data:image/{path.suffix[1:]};base64,{content}">'
