"""The commands and Python blocks of the documentation: read by their own parsers, compiled, and run where they can be.

A block is run unless the page says `<!-- not run: REASON -->` before it, at sizes that take a moment (TINY). Each page
has a folder of its own, in which lies what the page takes for granted.
"""

import ast
import contextlib
import importlib
import io
import pydoc
import re
import shutil
from pathlib import Path

import pytest
import torch
from accelerate.commands.launch import launch_command_parser
from accelerate.state import AcceleratorState, GradientState
from doc_blocks import PAGES, call, commands, console_scripts, in_folder, launched, parsed
from doc_blocks import blocks as blocks_of
from made_up_arc import kaggle_layout, made_up_task, original_layout, write_folder, write_zip
from paths import ROOT
from tiny_models import tiny_model
from transformers.integrations.peft import MIN_PEFT_VERSION

from hrm_hf import HrmProcessor
from hrm_hf.hrm.puzzle_identifiers import BLANK_NAME, PuzzleIdentifiers

NAMED = [(str(page.relative_to(ROOT)), page) for page in PAGES]
BASH = [pytest.param(page, id=name) for name, page in NAMED if blocks_of(page, "bash")]
PYTHON = [pytest.param(page, id=name) for name, page in NAMED if blocks_of(page, "python")]
LANGUAGES = ("bash", "python")
RUN = [
    pytest.param(page, id=name)
    for name, page in NAMED
    if any(block.reason is None for language in LANGUAGES for block in blocks_of(page, language))
]

# Programs of others, which have no parser here; `make` targets, extras and scripts are held against what there is.
OTHERS = {"git", "hf", "make", "mkdocs", "pip", "pre-commit", "python3", "source"}

WITHOUT_PARSER = {"examples/own_puzzle.py"}

# Appended to a command, where the last value of an option counts.
TINY = {
    "hrm-train sudoku": "--num-train 12 --num-test 4",
    "hrm-train maze": "--num-train 12 --num-test 4 --min-steps 6",
    "hrm-train": "--max-steps 2 --eval-steps 1 --global-batch-size 4 --hidden-size 32 --num-attention-heads 2 "
    "--H-layers 1 --L-layers 1 --halt-max-steps 2 --cpu-threads 1",
    "hrm-build sudoku": "--num-puzzles 6 --num-test 3",
    "hrm-build arc": "--num-aug 2 --workers 1",
    "hrm-adapt": "--num-aug 1 --workers 1 --steps 2 --global-batch-size 4 --cpu-threads 1",
}
TINY_PYTHON = {r"max_steps=\d+": "max_steps=2", r"hidden_size=\d+": "hidden_size=32"}


@pytest.mark.parametrize("page", BASH)
def test_commands_exist_and_their_options_too(page):
    for block in blocks_of(page, "bash"):
        for words in commands(block):
            check(words, f"{page.name}:{block.line}")


def check(words: list[str], where: str) -> None:
    words = launched(words) if words[:2] == ["accelerate", "launch"] else as_python(words)
    if words[0] == "python":
        words = words[1:]
    if words[0] == "-m" or words[0] in console_scripts() or words[0].endswith(".py"):
        if "--help" not in words and words[0] not in WITHOUT_PARSER:
            check_recipe(parsed(words), where)
    elif words[0] == "make":
        assert set(words[1:]) <= targets(), f"{where}: there is no target of these: {words[1:]}"
    else:
        assert words[0] in OTHERS, f"{where}: {words[0]} is no command of the package"
        for extra in re.findall(r"\[(\w+)\]", " ".join(words)):
            assert f"\n{extra} =" in (ROOT / "setup.cfg").read_text(), f"{where}: there is no extra {extra}"


def as_python(words: list[str]) -> list[str]:
    """A shell script of ours calls the Python program of its name."""
    script = ROOT / words[0]
    if script.suffix == ".sh" and f"{script.stem}.py" in script.read_text():
        return ["python", words[0].removesuffix(".sh") + ".py", *words[1:]]
    return words


def check_recipe(arguments, where: str) -> None:
    name = getattr(arguments, "recipe", None)
    if name is not None and not name.endswith(".yaml"):
        assert (ROOT / "hrm_hf" / "recipes" / f"{name}.yaml").is_file(), f"{where}: there is no recipe {name}"


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PYTHON)
def test_python_blocks_compile_and_import_what_exists(page):
    for block in blocks_of(page, "python"):
        tree = ast.parse(block.text, f"{page.name}:{block.line}")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                assert not missing, f"{page.name}:{block.line}: {node.module} has no {missing}"


@pytest.mark.parametrize("page", [pytest.param(page, id=name) for name, page in NAMED])
def test_names_in_the_text_exist(page):
    text = page.read_text(encoding="utf-8")
    wrong = [name for name in re.findall(r"`(hrm_hf(?:\.\w+)+)", text) if pydoc.locate(name) is None]
    assert wrong == []
    files = [name for name in re.findall(r"`((?:hrm_hf|examples|convert|benchmarks|tests)/[\w./]+)`", text)]
    assert [name for name in files if not (ROOT / name).exists()] == []


def test_options_in_the_text_exist():
    """Those in `inline code`, held against the --help of every program that the pages call."""
    programs = {("accelerate", "launch")}
    for _, page in NAMED:
        for words in (as_python(words) for block in blocks_of(page, "bash") for words in commands(block)):
            if words[0] in console_scripts():
                programs.add((words[0], *[word for word in words[1:2] if not word.startswith("-")]))
            if words[0] == "python" and words[1] not in WITHOUT_PARSER:
                programs.add((words[1],))
    known = {option for program in programs for option in re.findall(r"--[\w-]+", help_of(program))}
    known.add("--option")  # stands for any
    for name, page in NAMED:
        code = " ".join(re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")))
        assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", code)) <= known, name


def help_of(program: tuple[str, ...]) -> str:
    if program == ("accelerate", "launch"):
        return launch_command_parser().format_help()
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        call([*program, "--help"])
    return said.getvalue()


@pytest.fixture(scope="module")
def materials(tmp_path_factory) -> Path:
    """What pages take for granted: puzzle files, ARC collections, and a checkpoint of each task."""
    folder = tmp_path_factory.mktemp("materials")
    with in_folder(folder), contextlib.redirect_stdout(io.StringIO()):
        run(["hrm-train", "sudoku", "--size", "4", "--output-dir", "runs/sudoku-4x4"])
        generated = ["--train-source", "generate", "--size", "9"]
        run(["hrm-build", "sudoku", "--output-dir", "data/sudoku-extreme-1k", *generated])
    save(folder / "runs/maze-6x6/checkpoint-final", HrmProcessor(task="maze", grid_shape=(6, 6)))
    names = PuzzleIdentifiers([BLANK_NAME, "007bbfb7"])
    arc = HrmProcessor(task="arc", grid_shape=(30, 30), puzzle_identifiers=names)
    save(folder / "runs/arc/checkpoint-final", arc)
    tasks = original_layout({"11111111": made_up_task(1)}, {"007bbfb7": made_up_task(2)})
    write_zip(folder / "ARC-AGI.zip", tasks)
    write_zip(folder / "ConceptARC.zip", {"corpus/Above/Above1.json": next(iter(tasks.values()))})
    write_folder(folder / "ARC-AGI", tasks)
    write_folder(folder, {"007bbfb7.json": tasks["data/evaluation/007bbfb7.json"]})
    hidden = kaggle_layout({"22222222": made_up_task(3)}, "arc-agi_test")
    write_folder(folder, {name: text for name, text in hidden.items() if "challenges" in name})
    (folder / "docs/images").mkdir(parents=True)
    return folder


def save(folder: Path, processor: HrmProcessor) -> None:
    """An untrained checkpoint: enough to show that an example runs."""
    sizes = {"vocab_size": processor.vocab_size, "seq_len": processor.num_cells}
    tiny_model(**sizes, num_puzzle_identifiers=processor.num_puzzle_identifiers).save_pretrained(folder)
    processor.save_pretrained(folder)


@pytest.mark.parametrize("page", RUN)
def test_the_blocks_run(page, materials, tmp_path):
    text = page.read_text(encoding="utf-8")
    shutil.copytree(materials, tmp_path, dirs_exist_ok=True)
    for made in re.findall(r"--output-dir ((?:runs|data)/[\w-]+)", text):  # by the page itself
        shutil.rmtree(tmp_path / made, ignore_errors=True)
    namespace: dict = {"__name__": page.stem}
    every = [block for language in LANGUAGES for block in blocks_of(page, language) if block.reason is None]
    with in_folder(tmp_path), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for block in sorted(every, key=lambda block: block.line):
            if block.language == "bash":
                for words in commands(block):
                    run(words)
                continue
            text = block.text
            for pattern, small in TINY_PYTHON.items():
                text = re.sub(pattern, small, text)
            exec(compile(text, f"{page}:{block.line}", "exec"), namespace)
            reset()


def run(words: list[str]) -> None:
    """Runs a command of the package within this process, at tiny sizes."""
    if words[0] not in console_scripts():
        return  # of others: what installs, and what `test_commands_exist_and_their_options_too` has looked at
    for start, options in TINY.items():
        if " ".join(words).startswith(start) and "--help" not in words:
            words = [*words, *options.split()]
    if "--lora-rank" in words:
        pytest.importorskip("peft", minversion=MIN_PEFT_VERSION)
    reset()
    try:
        code = call(words)
    except SystemExit as left:
        code = left.code
    finally:
        reset()
    assert not code, f"{' '.join(words)} ended with {code}"


def reset() -> None:
    """What a training run has set for the process, as before."""
    torch.set_num_threads(1)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
