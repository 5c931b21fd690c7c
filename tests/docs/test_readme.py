"""The README's tree names every file, and its commands name things that exist."""

import re

from paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
TREE = README.split("## The tree")[1].split("## Licence")[0]


def test_the_tree_has_one_line_for_every_file():
    listed = re.findall(r"^ +(\w+\.py) +\S", TREE, flags=re.MULTILINE)
    files = [path for folder in ("hrm_hf", "convert", "examples") for path in (ROOT / folder).rglob("*.py")]
    names = [path.name for path in files if path.name != "__init__.py"]
    assert sorted(listed) == sorted(names)


def test_recipes_and_scripts_that_are_named_exist():
    named = set(re.findall(r"(?:examples|convert)/[\w/]+\.(?:py|yaml)", README))
    assert len(named) >= 6
    assert [name for name in named if not (ROOT / name).is_file()] == []


def test_no_placeholder_is_left():
    assert re.findall(r"\b[A-Z]+_FIGURES\b", README) == []
