"""The page that solves Sudokus in the browser: built with the model in the box, and used in a real Chromium.

HRM_PAGE_PICTURE=FILE.png takes the picture of the documentation besides.
"""

import functools
import os
import re
import runpy
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from paths import ROOT
from tiny_models import tiny_model

from hrm_hf import HrmProcessor, PuzzleError, pretrained
from hrm_hf.hrm import sudoku
from hrm_hf.hrm.attempts import Attempts, Thought

BUILD = runpy.run_path(str(ROOT / "examples" / "space" / "build.py"))
CHECKPOINT = pretrained("sudoku-9x9")
PROCESSOR = HrmProcessor.from_pretrained(CHECKPOINT)
EASY = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
HARDEST = "8..........36......7..9.2...5...7.......457.....1...3...1....68..85...1..9....4.."
UNSOLVABLE = "532" + EASY[3:]
LIMIT = r'(?<="halt_max_steps": )\d+'
SOLVED = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


# Building


def refusal(capsys, *words: object) -> str:
    assert BUILD["main"]([str(word) for word in words]) == 2
    return capsys.readouterr().err


def test_builds_that_are_refused_write_nothing(tmp_path, capsys, monkeypatch):
    used = tmp_path / "used"
    used.mkdir()
    (used / "notes.txt").write_text("mine")
    assert "used exists and is not an empty folder; name a new one" in refusal(capsys, "--output-dir", used)
    small = tmp_path / "small"
    tiny_model().save_pretrained(small)
    HrmProcessor(task="sudoku", grid_shape=(4, 4)).save_pretrained(small)
    said = refusal(capsys, "--output-dir", tmp_path / "page", "--checkpoint", small)
    assert "small solves sudoku of 4x4; the page is for 9x9 Sudokus" in said
    large = tmp_path / "large"
    tiny_model(seq_len=81, vocab_size=11).save_pretrained(large)
    PROCESSOR.save_pretrained(large)
    monkeypatch.setenv("PATH", "")
    said = refusal(capsys, "--output-dir", tmp_path / "page", "--checkpoint", large)
    assert said.startswith("error: npm is not installed: install Node.js")
    assert {path.name for path in tmp_path.iterdir()} == {"used", "small", "large"}
    assert [path.name for path in used.iterdir()] == ["notes.txt"]


# In the browser


class Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Nothing on stderr."""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where the built page is served."""
    folder = tmp_path_factory.mktemp("page") / "built"
    try:
        BUILD["build"](folder, CHECKPOINT)
    except ImportError as error:  # no onnxscript, no npm, or no network and nothing in npm's cache
        pytest.skip(str(error))
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium (apt-get install chromium)")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def page(browser, address):
    """The loaded page; its console must stay free of errors."""
    page = browser.new_page(viewport={"width": 1180, "height": 860})
    page.set_default_timeout(20_000)
    said = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    page.wait_for_function("document.getElementById('solve').disabled === false")
    yield page
    assert said == []


def status(page) -> str:
    return page.text_content("#status")


def digits(page) -> str:
    return "".join(cell.strip() or "." for cell in page.locator("[role=gridcell]").all_text_contents())


def type_puzzle(page, puzzle: str) -> None:
    """Row by row, with the keys of the grid."""
    page.click("#clear")
    for number, row in enumerate(puzzle[start : start + 9] for start in range(0, 81, 9)):
        page.locator("[role=gridcell]").nth(9 * number).focus()
        for sign in row:
            if sign != ".":
                page.keyboard.press(sign)
            page.keyboard.press("ArrowRight")


@pytest.mark.browser
def test_a_typed_puzzle_is_solved(page):
    type_puzzle(page, EASY)
    assert digits(page) == EASY and page.input_value("#text") == EASY and page.url.endswith(f"#{EASY}")
    page.press("[role=gridcell] >> nth=80", "Enter")
    page.wait_for_function("!document.getElementById('status').textContent.startsWith('Thinking')")
    assert status(page).startswith("Solved in 1 attempt and ") and page.text_content("#conflicts") == "0"
    assert digits(page) == SOLVED
    label = page.locator("[role=gridcell]").nth(2).get_attribute("aria-label")
    assert label.startswith("row 1, column 3: 4, ") and label.endswith(" % sure")
    assert page.locator("[role=gridcell]").nth(0).get_attribute("aria-label") == "row 1, column 1: given 5"


@pytest.mark.browser
def test_attempts_that_all_fail_are_shown_and_said(browser, address):
    """With two attempts of three segments."""
    page = browser.new_page()
    for name, old, new in (("attempts.js", "MOST_ATTEMPTS = 64", "MOST_ATTEMPTS = 2"), ("settings.json", LIMIT, "3")):
        page.route(f"**/{name}", functools.partial(serve_changed, old, new))
    page.goto(f"{address}#{UNSOLVABLE}")
    page.wait_for_function("document.getElementById('solve').disabled === false")
    assert digits(page) == UNSOLVABLE
    page.fill("#speed", "4")
    page.click("#solve")
    page.wait_for_function("document.getElementById('status').textContent.startsWith('Not solved')")
    spent = re.match(r"Not solved after 2 attempts and (\d) segments: this answer breaks the rules\.", status(page))
    assert page.text_content("#attempt") == "2 of 2" and page.locator("#trace div").count() == 2
    assert page.locator("#trace i").count() == int(spent[1])
    page.close()


def serve_changed(old: str, new: str, route) -> None:
    answer = route.fetch()
    text = re.sub(old, new, answer.text())
    assert text != answer.text()
    route.fulfill(response=answer, body=text)


@pytest.mark.browser
def test_a_page_that_is_opened_as_a_file_says_why_it_does_nothing(browser):
    page = browser.new_page()
    page.goto((ROOT / "examples" / "space" / "index.html").as_uri())
    assert status(page) == "Serve this folder with a web server: opened as a file it cannot work."
    page.close()


@pytest.mark.browser
@pytest.mark.skipif("HRM_PAGE_PICTURE" not in os.environ, reason="only for the picture of the documentation")
def test_picture(page):
    page.click("[data-pick=hardest]")
    page.click("#solve")
    page.wait_for_function("document.querySelectorAll('.guessed').length > 3")
    page.screenshot(path=os.environ["HRM_PAGE_PICTURE"], animations="disabled")
    page.click("#clear")


@pytest.mark.browser
def test_a_puzzle_that_breaks_a_rule_is_refused(page):
    wrong = "5" + EASY[1:8] + "5" + EASY[9:]
    page.fill("#text", wrong)
    page.click("#solve")
    with pytest.raises(PuzzleError) as python:
        sudoku.check_givens(wrong, (3, 3))
    assert status(page).lower() == f"{python.value}.".lower()
    assert page.locator(".wrong").count() == 2
    assert digits(page) == wrong and page.text_content("#segment") == "–"  # the model did not run


TEXTS = [
    EASY.replace(".", "0"),
    "\n".join(EASY[start : start + 9] for start in range(0, 81, 9)).replace(".", " "),
    "\n".join(",".join(EASY[start : start + 9]).replace(".", "") for start in range(0, 81, 9)),
    sudoku.draw(EASY, (3, 3)),
    sudoku.draw(EASY, (3, 3)).replace(".", "-"),
    EASY.replace(".", "_"),
    "[Puzzle]\n" + EASY.replace(".", "*"),
    "# by me\n" + EASY.replace(".", "·"),
    str([int(sign) for sign in EASY.replace(".", "0")]),
    EASY[1:],
    EASY + EASY,
    EASY.replace("5", "A"),
    "words",
]


@pytest.mark.browser
def test_texts_are_read_as_python_reads_them(page):
    found = page.evaluate(
        """async (texts) => {
            const { read, write } = await import("./sudoku.js");
            return texts.map((text) => { try { return write(read(text)); } catch (error) { return null; } });
        }""",
        TEXTS,
    )
    for text, got in zip(TEXTS, found, strict=True):
        try:
            assert got == PROCESSOR.decode(PROCESSOR.encode(text), like=EASY), text
        except PuzzleError:
            assert got is None, text


@pytest.mark.browser
def test_the_logits_are_those_of_pytorch(page):
    """After four segments: in the first ones a model may enlarge the last bit until the answer has settled."""
    model = BUILD["load_sudoku_model"](CHECKPOINT)
    model.config.compute_dtype = "float32"
    ids = PROCESSOR.encode(EASY)
    logits, q_halt, halts = page.evaluate(
        """async (ids) => {
            const { segment } = await (await import("./model.js")).loadModel();
            for (const fresh of [true, false, false]) await segment(ids, fresh);
            const { logits, qHalt, halts } = await segment(ids, false);
            return [[...logits], qHalt, halts];
        }""",
        ids.tolist(),
    )
    with torch.no_grad():
        out = model(torch.from_numpy(ids)[None], num_segments=4)
    np.testing.assert_allclose(np.reshape(logits, (1, 81, 11)), out.logits, atol=1e-3)
    np.testing.assert_allclose(q_halt, out.q_halt_logits.item(), atol=1e-3)
    assert halts is True


def segments_of(seed: int) -> list[tuple[np.ndarray, bool]]:
    """What a model may give for some segments: probabilities (81, 11) and whether it would halt."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(60):
        weights = generator.random((81, 11)) ** 4
        found.append((weights / weights.sum(-1, keepdims=True), bool(generator.random() < 0.2)))
    return found


@pytest.mark.browser
def test_attempts_ask_as_those_of_python(page):
    puzzles, segments, settings = (EASY, HARDEST), [segments_of(seed) for seed in range(2)], {"halt_max_steps": 5}
    found = page.evaluate(
        """async ([puzzles, segments, settings]) => {
            const { Attempts } = await import("./attempts.js");
            const { read } = await import("./sudoku.js");
            return puzzles.map((puzzle, number) => {
                const attempts = new Attempts(read(puzzle), settings, { most: 9, seed: 7 });
                return segments[number].map((each) => [attempts.after(...each), [...attempts.ids]]);
            });
        }""",
        [puzzles, [[(rows.tolist(), halts) for rows, halts in each] for each in segments], settings],
    )
    ask = Attempts(PROCESSOR, num_attempts=9, strategy="guess", select="rules", seed=7)
    for puzzle, given, asked in zip(puzzles, segments, found, strict=True):
        thought, pinned = Thought(ask, PROCESSOR.encode(puzzle), settings["halt_max_steps"]), 0
        for (probabilities, halts), (what, ids) in zip(given, asked, strict=True):
            thought.restart = False
            if thought.after(probabilities, 0.0, halts) is not None:
                assert what == "give up"
                break
            assert what == ("restart" if thought.restart else "continue")
            assert ids == thought.input_ids.tolist()
            pinned += ids != PROCESSOR.encode(puzzle).tolist()
        assert what == "give up" and pinned > 10


@pytest.mark.browser
def test_what_is_no_puzzle_is_said_and_stopping_works(page):
    page.fill("#text", EASY[1:])
    assert status(page) == "This has 80 cells, a Sudoku has 81: write a “.” for every blank."
    page.click("#clear")
    page.click("#solve")
    assert status(page).startswith("The grid is empty")
    for kind, givens in (("easy", None), ("hard", 17), ("hardest", None)):
        page.click(f"[data-pick={kind}]")
        assert givens is None or 81 - digits(page).count(".") == givens
        sudoku.check_givens(digits(page), (3, 3))
    page.click("#solve")
    assert page.text_content("#solve") == "Stop"
    page.keyboard.press("Escape")
    assert status(page) == "Stopped." and page.text_content("#solve") == "Solve"
