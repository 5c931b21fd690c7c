"""What a text that shows a grid may mean: separators, rules between boxes, empty places, comments.

A reading is a list of rows of signs, one for each cell. Which of them is right, the number of cells tells.
"""

import itertools
import re
import textwrap
from collections.abc import Iterator, Mapping

_BARS = "|" + "".join(map(chr, range(0x2500, 0x2580)))  # and all that boxes are drawn with
_SURE_RULE = "[+=─━═]"  # a line of separators with one of these is hardly a row,
_RULE = f"--|__|{_SURE_RULE}"  # and one with one of these may be a row of blanks
_MINUS_ONE = re.compile(r"(?<![^\s,;|\[])-1(?![^\s,;|\]])")
# Of pages: blanks of other widths or none, dots in the middle of a line
_PLAIN = str.maketrans("\u00a0\u2007\u202f\u3000·•∙", "    ...", "\ufeff\u200b\u2060")
_AROUND_A_LIST = re.compile(r"\A\s*(\w+ *= *)?([\w.]*array\()?(?=\[)|(,\s*dtype=.*)?\);?\s*\Z")


def plain_text(text: str) -> str:
    """The text with usual characters and line ends, none at its end, and a list without the call that made it."""
    return _AROUND_A_LIST.sub("", "\n".join(text.translate(_PLAIN).splitlines()))


def text_lines(text: str) -> list[str]:
    """The lines of a plain text without quotes around a line and the brackets of a printed array."""
    text = re.sub(r"\][\s,;]*\[", "\n", text)
    edges = r"^[\s\[]*([\"'])(.*)\1[\s,\]]*$|^[\s\[]*\[|\][\s\]]*$"
    return [re.sub(edges, r"\2", line) for line in text.split("\n")]


def cell_readings(text: str, boxes: Mapping[int, tuple[int, int]]) -> Iterator[list[list[str]]]:
    """The readings of a plain text: a sign is a character, or what stands between separators.

    What surrounds a [Puzzle] section is left out, and comments, from '#' on, but for readings with '#' as a blank. '-'
    and '_' are tried as blanks and as lines. Only where no other sign stands for a blank an empty sign does: between
    delimiters, or at its place in a drawing; drawings are looked for in `boxes`, rows of the grid -> shape of a box.
    """
    section = re.search(r"\[puzzle\]([^\[]*)", text, re.IGNORECASE)
    text = section[1] if section else text
    texts = dict.fromkeys((re.sub("#.*", "", text), text))
    for each, mark in itertools.product(texts, (_RULE, _SURE_RULE, "(?!)")):  # mark: of no row; the last of no line
        is_rule = re.compile(rf"(?=.*(?:{mark}))[-\s{_BARS}+=:.'*_]*").fullmatch
        kept = [line for line in text_lines(each) if not is_rule(line)]
        filled = [line for line in kept if line.strip()]
        for minus in ("", "-"):  # what separates besides the usual
            rows = [_MINUS_ONE.sub(".", line) for line in filled] if minus else filled
            separators = re.compile(rf"[\s,;:/+={_BARS}\"'()\[\]{minus}]+")
            yield [list(separators.sub("", line)) for line in rows]
            yield [separators.sub(" ", line).split() for line in rows]
        if re.search(r"(?<![\d.])0|(?<!\d)\.|[#*_?xX-]", "".join(kept)):
            continue
        yield [list(line) for line in filled]
        for edges in ("(?!)", r"[,;\t]\s*$", rf"^\s*[{_BARS}]|[{_BARS}]\s*$"):  # delimiters that delimit nothing
            cells = [re.sub(edges, "", line) for line in filled]
            for delimiter in (rf"[,;\t{_BARS}]", rf"[,;\t]|[{_BARS}]+"):
                yield [[sign.strip(" \"'") for sign in re.split(delimiter, line)] for line in cells]
        for rows in (filled, kept):
            if len(rows) in boxes:
                yield from _drawn(rows, boxes[len(rows)][1])


def _drawn(lines: list[str], columns: int) -> Iterator[list[list[str]]]:
    """The n x n signs of n lines in which each has its place: all pitches, gaps between boxes and starts that fit."""
    framed = all(line.lstrip()[:1] in _BARS for line in lines if line.strip())
    lines = textwrap.dedent("\n".join(lines)).split("\n") if framed else lines
    may_be_cut = not any(line.endswith(" ") for line in lines)  # blanks at the ends of all lines, and at no starts
    may_be_cut &= framed or any(line.startswith(" ") for line in lines)
    for pitch, gap in itertools.product(range(1, 5), range(4)):
        for start in range(framed, pitch + 2 * framed):
            places = [start + pitch * i + gap * (i // columns) for i in range(len(lines))]
            signs = [[line[i : i + 1] for i in places] for line in lines]
            is_cut = any(len(line) <= places[-1] for line in lines)
            if is_cut and not (may_be_cut and any(" " in row for row in signs)):
                continue
            if all((i in places) != (c in _BARS) for line in lines for i, c in enumerate(line) if c != " "):
                yield signs
