"""Every link and every file that a page names is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "changes").glob("*.md")])

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
#: A file of this repository, as pages name it in text: `tests/races/test_fencing.py`.
NAMED = re.compile(r"`((?:tests|src|docs|examples|benchmarks|deploy)/[A-Za-z0-9_./-]*)`")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def text_of(page):
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors(page):
    """The anchors of a page's headings, as the usual viewers make them."""
    headings = re.findall(r"^#+ +(.+)$", text_of(page), re.MULTILINE)
    plain = (re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def test_there_are_pages():
    assert len(PAGES) > 10
    assert "durability" in anchors(ROOT / "docs" / "promises.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_points_to_exists(page):
    missing = []
    for link in LINK.findall(text_of(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            missing.append(link)
    # Something called foo is yet to be written.
    missing += [name for name in NAMED.findall(text_of(page)) if "/foo" not in name and not (ROOT / name).exists()]
    assert missing == []
