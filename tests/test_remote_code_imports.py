"""Files that travel with a checkpoint as remote code import one another by `from .module import Name` lines only."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hrm_hf"
ENTRY_POINTS = ("configuration_hrm", "modeling_hrm", "processing_hrm", "pipeline_puzzle")


def relative_imports(name: str) -> list[ast.ImportFrom]:
    tree = ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert all(alias.name.split(".")[0] != "hrm_hf" for alias in node.names), f"{name}: absolute import"
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            assert node.module.split(".")[0] != "hrm_hf", f"{name}: absolute import"
    return [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level > 0]


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
def test_travelling_files_import_flat(entry_point):
    waiting, seen = [entry_point], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for node in relative_imports(name):
            assert node.level == 1 and node.module and "." not in node.module, f"{name} line {node.lineno}"
            assert (PACKAGE / f"{node.module}.py").is_file(), f"{name} imports {node.module}, which is no flat file"
            waiting.append(node.module)
    assert "errors" in seen or entry_point == "configuration_hrm"
