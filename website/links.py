"""Headings and links of the pages: the same anchors and targets on the site as on the repository's web page.

As a hook of MkDocs (mkdocs.yml names this file) it changes each page before it is rendered. It needs no MkDocs itself.
"""

import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

DOCS = "docs"
FRONT_PAGES = {"README.md": "docs/index.md"}
"""Pages of the repository that have a page of the site in their place."""

HEADING = re.compile(r"(#{1,6}) +(.*?)(?: +\{ *#(\S+) *\})? *$")
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
IMAGE = re.compile(r"!\[[^\]]*\]\(([^()\s]+)\)")


def prose(markdown: str) -> Iterator[tuple[str, bool]]:
    """Each line with its line end, and whether it is prose: not within a fenced block of code."""
    fence = ""
    for line in markdown.splitlines(keepends=True):
        found = re.match(r" *(```+|~~~+)", line)
        if found and not fence:
            fence = found[1]
            yield line, False
        elif fence:
            yield line, False
            fence = "" if found and found[1].startswith(fence) else fence
        else:
            yield line, True


def slug(heading: str) -> str:
    """The anchor that GitHub gives to a heading: lower case, without punctuation, with hyphens for blanks."""
    text = LINK.sub(r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def with_anchors(markdown: str) -> str:
    """The page, whose every heading names its anchor as GitHub makes it; the second of two equal ones ends with -1."""
    seen: Counter[str] = Counter()
    lines = []
    for line, is_prose in prose(markdown):
        heading = HEADING.match(line) if is_prose else None
        if heading:
            level, text, given = heading.groups()
            name = given or slug(text)
            line = f"{level} {text} {{ #{name}{f'-{seen[name]}' if seen[name] else ''} }}\n"
            seen[name] += 1
        lines.append(line)
    return "".join(lines)


def anchors(markdown: str) -> list[str]:
    """The anchors of a page, in the order of its headings."""
    headings = (HEADING.match(line) for line, is_prose in prose(with_anchors(markdown)) if is_prose)
    return [heading[3] for heading in headings if heading]


def targets(markdown: str) -> list[str]:
    """What the links and pictures of a page lead to."""
    text = "".join(line for line, is_prose in prose(markdown) if is_prose)
    return [found[2] for found in LINK.finditer(text)] + IMAGE.findall(text)


def resolve(page: str, target: str) -> str:
    """The path of a link's target; it and the path of the page begin at the root of the repository."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), target))


def with_links(markdown: str, page: str, repo_url: str | None) -> str:
    """The page, whose links out of `docs/` lead to the repository.

    Without the repository's address they are plain text. Links to the README lead to the front page.

    Args:
        markdown: the page.
        page: its path from the root of the repository.
        repo_url: the repository's address.
    """

    def rewrite(found: re.Match[str]) -> str:
        text, target = found.groups()
        path, _, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", target):
            return found[0]
        path = resolve(page, path)
        if path in FRONT_PAGES:
            return f"[{text}]({posixpath.relpath(FRONT_PAGES[path], posixpath.dirname(page))})"
        if path.startswith(f"{DOCS}/"):
            return found[0]
        if not repo_url:
            return text
        return f"[{text}]({repo_url.rstrip('/')}/blob/main/{path}{f'#{anchor}' if anchor else ''})"

    return "".join(LINK.sub(rewrite, line) if is_prose else line for line, is_prose in prose(markdown))


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Called by MkDocs for each page."""
    path = f"{DOCS}/{page.file.src_uri}"
    return with_anchors(with_links(markdown, path, config.repo_url))
