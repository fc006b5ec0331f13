"""What the pages of the documentation hold: blocks of code, spans of code, and the commands in both."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from website.links import prose

ROOT = Path(__file__).parents[2]
DOCS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *DOCS]
TAUGHT = [page for page in PAGES if page != "CHANGELOG.md"]
"""Pages whose commands are to work today; the changelog also tells of what was."""

NOT_RUN = re.compile(r"<!-- not run: (.+) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        language: the word behind the fence; empty if there is none.
        code: its lines.
        excuse: why it is not run, by a comment in the line before it; empty if it is to run.
    """

    language: str
    code: str
    excuse: str


def read(page: str) -> str:
    """The text of a page."""
    return (ROOT / page).read_text()


def blocks(markdown: str) -> list[Block]:
    """The fenced blocks of a page."""
    found: list[Block] = []
    previous, lines = "", list[str]()
    for line, is_prose in prose(markdown):
        if not is_prose:
            lines.append(line)
            fence = re.match(r" *(`{3,}|~{3,}) *(\w*)", lines[0])
            assert fence
            if len(lines) > 1 and line.strip() == fence[1]:
                excuse = NOT_RUN.fullmatch(previous.strip())
                found.append(Block(fence[2], "".join(lines[1:-1]), excuse[1] if excuse else ""))
                lines = []
        else:
            previous = line
    return found


def spans(markdown: str) -> list[str]:
    """The code within the prose of a page."""
    text = "".join(line for line, is_prose in prose(markdown) if is_prose)
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]


def commands(markdown: str) -> Iterator[list[str]]:
    """The words of every call of make or of cmaml, in blocks without a language and in spans."""
    lines = [
        line
        for block in blocks(markdown)
        if block.language in ("", "bash", "sh")
        for line in block.code.replace("\\\n", " ").splitlines()
    ]
    for text in [*lines, *spans(markdown)]:
        call = re.search(r"(?:^|\s)(make|cmaml|(?:python )?-m cmaml_pl)(?= |$)(.*)", text)
        if call and (text.startswith(("make", "cmaml", "python")) or "-m cmaml_pl" in text):
            rest = call[2]
            if rest.count('"') % 2:  # the call stands within quotes, which end with it
                rest = rest.rpartition('"')[0]
            yield ["make" if call[1] == "make" else "cmaml", *shlex.split(rest, comments=True)]
