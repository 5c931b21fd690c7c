"""The names behind the rows of the puzzle table: which identifier an ARC task, or one of its augmentations, has.

Names outlive a data set, row numbers do not. They are saved beside a checkpoint like a vocabulary: one name a line,
whose number from 0 is the identifier. Tasks that share one identifier (Sudoku, mazes) need only the blank one.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .arc import ArcAugmentation
from .errors import CheckpointError, PuzzleError
from .shown_value import shown

BLANK_NAME = "<blank>"  # the identifier of puzzles that have none of their own
FILE_NAME = "puzzle_identifiers.txt"


@dataclass(frozen=True, repr=False)
class PuzzleIdentifiers:
    """`names[identifier]` is the name of a row of the puzzle table.

    names: one printable str per identifier, without blanks at the ends; "" (a row without a name) may occur any
    number of times, every other name once. Raises PuzzleError otherwise.
    """

    names: Sequence[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "_identifier_of", {})  # by name
        for identifier, name in enumerate(self.names):
            if not isinstance(name, str) or not name.isprintable() or name != name.strip():
                found = f"identifier {identifier}: {shown(name)}"
                raise PuzzleError(f"{found} is no name: expected printable characters without blanks at the ends")
            if name and self._identifier_of.setdefault(name, identifier) != identifier:
                first = self._identifier_of[name]
                raise PuzzleError(f"the name {shown(name)} stands twice: for identifiers {first} and {identifier}")

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"PuzzleIdentifiers({len(self)} names)"

    def find(self, name: str) -> int:
        """The identifier of a name. Raises PuzzleError, naming similar names, for one that is not here."""
        if name in self._identifier_of:
            return self._identifier_of[name]
        task = ArcAugmentation.task_of(name)
        tasks = [known for known in self._variants if known != BLANK_NAME]
        near = [variant for variant, _ in self.variants_of(task)] or difflib.get_close_matches(task, tasks)
        hint = f"similar are {shown(near)}" if near else f"the names here are of the tasks {shown(tasks)}"
        raise PuzzleError(f"no puzzle identifier has the name {shown(name)}: {hint}")

    def variants_of(self, task: str) -> list[tuple[str, int]]:
        """(name, identifier) of the bare task and its augmentations, in order; empty where the task is not here."""
        return list(self._variants.get(task, ()))

    def save(self, folder: str | Path) -> Path:
        """Writes `FILE_NAME` (UTF-8, a name a line) into a folder, which is made if need be; returns the path."""
        path = Path(folder) / FILE_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in self.names), encoding="utf-8", newline="\n")
        return path

    @classmethod
    def load(cls, folder_or_file: str | Path) -> "PuzzleIdentifiers":
        """What `save` wrote, from the file or its folder; CheckpointError, naming the file, for anything else."""
        path = Path(folder_or_file)
        path = path / FILE_NAME if path.is_dir() else path
        try:
            text = path.read_text(encoding="utf-8")
            return cls(text.removesuffix("\n").split("\n") if text else [])
        except OSError as error:
            raise CheckpointError(f"no names of puzzle identifiers in {path}: {error.strerror}") from None
        except ValueError as error:  # no UTF-8, or no names
            raise CheckpointError(f"{path}: {error}") from None

    @cached_property  # made on the first question for it: a table has up to a million names
    def _variants(self) -> dict[str, list[tuple[str, int]]]:
        variants: dict[str, list[tuple[str, int]]] = {}
        for name, identifier in self._identifier_of.items():
            variants.setdefault(ArcAugmentation.task_of(name), []).append((name, identifier))
        return variants
