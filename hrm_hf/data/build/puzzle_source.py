"""Where the rows of a CSV-based data set come from: a file, or train.csv and test.csv of a Hub data set."""

from pathlib import Path

from ...hrm.errors import DataError
from ...hub.downloads import fetch_dataset_file, is_hub_id

GENERATE = "generate"  # the source that is neither


def csv_file(source: str, split: str) -> Path:
    """The CSV file of a source, fetched if it is a Hub data set; split: "train" or "test".

    Raises DataError, with the ways out, if it cannot be fetched. That a named file exists is not checked here.
    """
    if not is_hub_id(source):
        return Path(source)
    try:
        return fetch_dataset_file(source, f"{split}.csv")
    except DataError as error:
        raise DataError(
            f"{error}; without network give --{split}-source FILE, or make puzzles by --train-source {GENERATE}"
        ) from error
