"""The card of a puzzle data set, filled from what its files say and measure.

`dataset_card.md` beside this file is the template. Only the licence and the origin of the puzzles come from the
caller, because no file knows them; without them no card is written. No network.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import DatasetCard, DatasetCardData

from ..hrm.errors import ArgumentError

TEMPLATE = Path(__file__).with_name("dataset_card.md")

# The Hub's names of sizes: up to 999 rows, then one for each further digit.
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "n>1B")


def dataset_card(files: Sequence[Any], repo_id: str, *, license: str, source: str) -> str:
    """The text of README.md, with the metadata that the Hub reads at its head.

    Args:
        files: the splits of one data set as opened `hrm_hf.data.PuzzleFile`s.
        repo_id: owner/name, under which the card says how to load them.
        license: identifier of the licence in the Hub's spelling; ArgumentError if empty.
        source: where the puzzles are from, in words; ArgumentError if empty.
    """
    for name, value in {"license": license, "source": source}.items():
        if not value.strip():
            raise ArgumentError(f"the data set card's {name} is {value!r}; a card is only written complete")
    info = files[0].info
    card_data = DatasetCardData(
        license=license,
        size_categories=size_category(sum(file.info.num_rows for file in files)),
        tags=["hrm", "hierarchical-reasoning-model", "puzzles", info.task, "hdf5", "arxiv:2506.21734"],
        viewer=False,  # the Hub's viewer cannot read this layout
    )
    card = DatasetCard.from_template(
        card_data,
        template_path=str(TEMPLATE),
        repo_id=repo_id,
        files=files,
        vocabulary=[json.dumps(name, ensure_ascii=False).replace("|", "\\|") for name in info.vocabulary],
        license=license,
        source=source.strip(),
    )
    return str(card)


def size_category(num_rows: int) -> str:
    """What the Hub calls a data set of so many rows."""
    return _SIZES[min(max(len(str(num_rows)) - 3, 0), len(_SIZES) - 1)]
