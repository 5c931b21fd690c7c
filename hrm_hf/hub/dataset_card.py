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

# The Hub's names of sizes: below so many rows.
_SIZES = {
    10**3: "n<1K",
    10**4: "1K<n<10K",
    10**5: "10K<n<100K",
    10**6: "100K<n<1M",
    10**7: "1M<n<10M",
    10**8: "10M<n<100M",
    10**9: "100M<n<1B",
}


def dataset_card(files: Sequence[Any], repo_id: str, *, license: str, source: str) -> str:
    """The text of README.md, with the metadata that the Hub reads at its head.

    Args:
        files: the splits of one data set as opened `hrm_hf.data.PuzzleFile`s; what they share (task, cells, layout)
            is read from the first.
        repo_id: owner/name, under which the card says how to load them.
        license: identifier of the licence in the Hub's spelling.
        source: where the puzzles are from, in words.

    Raises:
        ArgumentError: no files, or an empty repo_id, license or source.
    """
    for name, value in {"files": files, "repo_id": repo_id, "license": license, "source": source}.items():
        if not value or (isinstance(value, str) and not value.strip()):
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
        info=info,
        splits=[
            {"info": file.info, "filename": file.path.name, "num_bytes": file.path.stat().st_size} for file in files
        ],
        vocabulary=[json.dumps(name, ensure_ascii=False).replace("|", "\\|") for name in info.vocabulary],
        named=any(file.has_names for file in files),
        num_puzzle_identifiers=max(file.info.num_puzzle_identifiers for file in files),
        license=license,
        source=source.strip(),
    )
    return str(card)


def size_category(num_rows: int) -> str:
    """What the Hub calls a data set of so many rows."""
    return next((name for limit, name in _SIZES.items() if num_rows < limit), "n>1B")
