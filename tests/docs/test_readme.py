"""The README: short, with a picture, and every link and file that it names is there."""

import re

import pytest
from doc_blocks import PAGES
from paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def test_it_has_at_most_150_lines():
    assert README.count("\n") <= 150


def test_a_picture_of_a_solved_puzzle_is_at_its_top():
    top = "\n".join(README.splitlines()[:8])
    picture = ROOT / re.search(r'<img src="([^"]+)"', top)[1]
    content = picture.read_bytes()
    assert content.startswith((b"\x89PNG", b"GIF8")) and len(content) < 200_000


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page):
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_placeholder_is_left(page):
    assert re.findall(r"\b[A-Z_]+_FIGURES\b|\bTODO\b", page.read_text(encoding="utf-8")) == []
