"""Fetches raw data files from Hugging Face data sets, with an error that says what to do where there is no network."""

from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from ..errors import DataError


def fetch_dataset_file(repo_id: str, filename: str) -> Path:
    """The local path of a file of a Hub data set, downloaded if it is not cached yet. Raises DataError if it cannot
    be had.
    """
    try:
        return Path(hf_hub_download(repo_id, filename, repo_type="dataset"))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(
            f"{filename} of the Hub data set {repo_id} could not be fetched ({type(error).__name__}: {reason})"
        ) from error
