"""Files that travel with a checkpoint as remote code import one another by `from .module import Name` lines only.

transformers finds those lines by a regular expression, and imports every library that a file names anywhere, even
inside a function, before it runs the file.
"""

import ast
import sys

import pytest
from transformers.dynamic_module_utils import get_imports, get_relative_imports

from hrm_hf.hub.travelling_code import ROOM, code_files

LIBRARIES = {"huggingface_hub", "numpy", "torch", "transformers"}


def relative_imports(file) -> list[ast.ImportFrom]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level > 0]


@pytest.mark.parametrize("file", code_files(), ids=lambda file: file.stem)
def test_travelling_files_import_flat(file):
    for node in relative_imports(file):
        assert node.level == 1 and node.module and "." not in node.module, f"line {node.lineno}"
        assert ROOM / f"{node.module}.py" in code_files(), f"line {node.lineno}"
    assert sorted(get_relative_imports(file)) == sorted({node.module for node in relative_imports(file)})


@pytest.mark.parametrize("file", code_files(), ids=lambda file: file.stem)
def test_travelling_files_need_no_further_library(file):
    assert set(get_imports(file)) - set(sys.stdlib_module_names) <= LIBRARIES


def test_the_heart_of_the_package_travels():
    names = {file.stem for file in code_files()}
    assert {"configuration_hrm", "modeling_hrm", "halting", "losses", "processing_hrm", "pipeline_puzzle"} <= names
    assert {"sudoku", "maze", "arc", "errors", "puzzle_identifiers", "voting"} <= names
    assert "__init__" not in names and "travelling_code" not in names
