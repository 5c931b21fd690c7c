"""The page on the rooms: its tree has one line for every file, its rooms are those of the contracts."""

import re
import tomllib

from paths import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TREE = PAGE.split("## The tree")[1]


def listed() -> list[str]:
    """The paths of the tree's Python files, in its order; each line must say something, too."""
    files, folders = [], []
    for indent, name, words in re.findall(r"^( *)([\w.]+(?:\.\w+|/))(?: +(\S.*))?$", TREE, flags=re.MULTILINE):
        del folders[len(indent) // 2 :]
        if name.endswith("/"):
            folders.append(name)
        elif name.endswith(".py"):
            assert words, f"{name} has a line, but no words"
            files.append("".join(folders) + name)
    return files


def test_the_tree_has_one_line_for_every_file():
    files = [path for folder in ("hrm_hf", "convert", "examples") for path in (ROOT / folder).rglob("*.py")]
    names = [path.relative_to(ROOT).as_posix() for path in files if path.name != "__init__.py"]
    assert sorted(listed()) == sorted(names)


def test_the_rooms_are_those_of_the_contracts():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    assert "```text\n" + "\n".join(layers) + "\n```\n" in PAGE
    rooms = {name for layer in layers for name in layer.split(" | ") if (ROOT / "hrm_hf" / name).is_dir()}
    assert set(re.findall(r"^\| `(\w+)/` \|", PAGE, flags=re.MULTILINE)) == rooms


def test_every_room_has_a_page_of_reference():
    rooms = {path.parent.name for path in (ROOT / "hrm_hf").glob("*/__init__.py")}
    described = re.findall(
        r"^::: hrm_hf\.(\w+)$",
        "".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md")),
        flags=re.MULTILINE,
    )
    assert rooms <= set(described)
