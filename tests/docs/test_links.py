"""Links lead somewhere: in the repository, and on the site, where the hook `website.links` rewrites them."""

from itertools import pairwise

import pytest
from tests.docs.reading import PAGES, ROOT, read
from website.links import anchors, resolve, targets, with_anchors, with_links

PAGE = """# Two `words` here
## A title, with (brackets)
## half_cheetah
text
```
## no heading, [no link](../src/a.py)
```
## half_cheetah
### Own { #given }
"""


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_to_files_and_to_their_headings(page):
    wrong = []
    for target in targets(read(page)):
        path, _, anchor = target.partition("#")
        if ":" in path:
            continue
        file = ROOT / (resolve(page, path) if path else page)
        if not file.exists() or (anchor and anchor not in anchors(file.read_text())):
            wrong.append(target)
    assert not wrong, f"{page} links to what does not exist: {wrong}"


def test_anchors_are_those_of_the_repositorys_page():
    assert anchors(PAGE) == [
        "two-words-here",
        "a-title-with-brackets",
        "half_cheetah",
        "half_cheetah-1",
        "given",
    ]


def test_the_site_is_told_the_anchors_and_code_is_left_alone():
    page = with_anchors(PAGE)
    assert "# Two `words` here { #two-words-here }\n" in page
    assert "## half_cheetah { #half_cheetah-1 }\n" in page
    assert "### Own { #given }\n" in page
    assert "\n## no heading, [no link](../src/a.py)\n" in page
    assert with_anchors(page) == page


@pytest.mark.parametrize(
    ("link", "without", "on"),
    [
        ("[`a`](../src/a.py)", "`a`", "[`a`](https://host/me/it/blob/main/src/a.py)"),
        ("[a](../CHANGELOG.md#b)", "a", "[a](https://host/me/it/blob/main/CHANGELOG.md#b)"),
        ("[front](../README.md#quick-start)", "[front](index.md)", "[front](index.md)"),
        ("[in](studies.md#nav2d)", "[in](studies.md#nav2d)", "[in](studies.md#nav2d)"),
        ("[here](#nav2d)", "[here](#nav2d)", "[here](#nav2d)"),
        ("[web](https://x.org/y)", "[web](https://x.org/y)", "[web](https://x.org/y)"),
        ("![picture](a.png)", "![picture](a.png)", "![picture](a.png)"),
    ],
)
def test_links_out_of_the_docs_lead_to_the_repository_or_are_text(link, without, on):
    assert with_links(link, "docs/page.md", None) == without
    assert with_links(link, "docs/page.md", "https://host/me/it/") == on


def test_links_of_pages_in_folders_count_from_there():
    assert with_links("[a](../../src/a.py)", "docs/reference/page.md", "https://host/it") == (
        "[a](https://host/it/blob/main/src/a.py)"
    )
    assert with_links("[a](../../README.md)", "docs/reference/page.md", None) == "[a](../index.md)"


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_lists_and_tables_stand_apart_from_the_text_before_them(page):
    """The repository's page shows them either way, the site only after an empty line."""
    lines = read(page).splitlines()
    starts = {"- ": ("- ", "  "), "| ": ("|",)}
    wrong = [
        line
        for before, line in pairwise(lines)
        for start, within in starts.items()
        if line.startswith(start) and before and not before.startswith(within)
    ]
    assert not wrong, f"{page}: an empty line is missing before {wrong}"
