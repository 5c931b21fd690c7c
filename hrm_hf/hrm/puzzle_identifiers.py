"""The names behind the rows of the puzzle table: which identifier an ARC task, or one of its augmentations, has.

The mapping is kept by name so that it outlives a data set: it is saved beside a checkpoint like a vocabulary, one name
a line, the line's number from 0 being the identifier. Tasks that share one identifier (Sudoku, mazes) need only the
blank one.
"""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from .arc import ArcAugmentation
from .errors import PuzzleError
from .shown_value import shown

BLANK_NAME = "<blank>"  # the identifier of puzzles that have none of their own
FILE_NAME = "puzzle_identifiers.txt"

_MAX_SHOWN = 5  # names listed in a message


class PuzzleIdentifiers:
    """`names[identifier]` is the name of a row of the puzzle table.

    names: one str per identifier, without line breaks and blanks at the ends; "" (a row without a name) may occur any
    number of times, every other name once. Raises PuzzleError otherwise.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._identifier_of: dict[str, int] = {}
        for identifier, name in enumerate(self.names):
            if not isinstance(name, str) or len(name.splitlines()) > 1 or name != name.strip():
                raise PuzzleError(
                    f"identifier {identifier}: {shown(name)} is no name: give one line without blanks around"
                )
            if not name.isascii():
                _check_encodable(name, identifier)
            if name and self._identifier_of.setdefault(name, identifier) != identifier:
                first = self._identifier_of[name]
                raise PuzzleError(f"the name {shown(name)} stands twice: for identifiers {first} and {identifier}")
        self._variants_of: dict[str, list[tuple[str, int]]] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        return self.names == other.names if isinstance(other, PuzzleIdentifiers) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.names)

    def __repr__(self) -> str:
        return f"PuzzleIdentifiers({len(self)} names)"

    def find(self, name: str) -> int:
        """The identifier of a name. Raises PuzzleError, naming similar names, for one that is not here."""
        if name in self._identifier_of:
            return self._identifier_of[name]
        task_of_name = ArcAugmentation.task_of(name)
        tasks = [task for task in self._grouped() if task != BLANK_NAME]
        near = difflib.get_close_matches(task_of_name, tasks, n=_MAX_SHOWN)
        if task_of_name in self._grouped():
            known = [known for known, _ in self._grouped()[task_of_name]]
            hint = f"task {_listed([task_of_name])} has {len(known)} other variants here, such as {_listed(known)}"
        elif near:
            hint = f"similar are {_listed(near)}"
        else:
            hint = f"the names here are of {len(tasks)} tasks" + (f", such as {_listed(tasks[:3])}" if tasks else "")
        raise PuzzleError(f"no puzzle identifier has the name {shown(name)}: {hint}")

    def rows_for(self, names: Iterable[str]) -> np.ndarray:
        """(n,) int64: the identifier of each of n names, -1 where it has none here (and for the name "")."""
        return np.array([self._identifier_of.get(name, -1) for name in names], np.int64)

    def variants_of(self, task: str) -> list[tuple[str, int]]:
        """(name, identifier) of the bare task and of each of its augmentations, in the order of the identifiers.

        Empty where the task is not here.
        """
        return list(self._grouped().get(task, ()))

    def save(self, folder: str | Path) -> Path:
        """Writes `FILE_NAME` (UTF-8, a name a line) into a folder, which is made if need be; returns the path."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE_NAME
        path.write_text("".join(f"{name}\n" for name in self.names), encoding="utf-8", newline="\n")
        return path

    @classmethod
    def load(cls, folder_or_file: str | Path) -> "PuzzleIdentifiers":
        """What `save` wrote, from the file or the folder that holds it.

        Raises PuzzleError, naming the file, where it is missing, no UTF-8 text or not a list of names.
        """
        path = Path(folder_or_file)
        path = path / FILE_NAME if path.is_dir() else path
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError:
            raise PuzzleError(f"there is no file {path} with the names of the puzzle identifiers") from None
        except UnicodeDecodeError as error:
            raise PuzzleError(f"{path} is no UTF-8 text: {error}") from None
        except OSError as error:
            raise PuzzleError(f"{path} cannot be read: {error.strerror}") from None
        if lines[-1] == "":
            lines.pop()  # what follows the last line break
        try:
            return cls(lines)
        except PuzzleError as error:
            raise PuzzleError(f"{path}: {error}") from None

    def _grouped(self) -> dict[str, list[tuple[str, int]]]:
        """Task -> its variants, made on the first question for them: a table has up to a million names."""
        if self._variants_of is None:
            self._variants_of = {}
            for name, identifier in self._identifier_of.items():
                self._variants_of.setdefault(ArcAugmentation.task_of(name), []).append((name, identifier))
        return self._variants_of


def _check_encodable(name: str, identifier: int) -> None:
    """PuzzleError for half a surrogate pair, as JSON may hold it: no file of names could be written."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise PuzzleError(
            f"identifier {identifier}: {shown(name)} is no name: it cannot be written as UTF-8"
        ) from None


def _listed(names: list[str]) -> str:
    """The first names, each short."""
    return ", ".join(name if len(name) <= 80 else f"{name[:80]}..." for name in names[:_MAX_SHOWN])
