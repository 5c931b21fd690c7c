"""One line for what can go wrong between this machine and the Hub, and what counts as an id of the Hub."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of the HTTP library beneath: whatever happens on the wire
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from ..files import one_line
from ..hrm.errors import ArgumentError, CheckpointError, HrmError
from ..hrm.shown_value import shown

LOG_IN = "log in with `hf auth login` or set HF_TOKEN"

# What to do after an error. The first entry that fits counts: several classes derive from others, and that a file is
# not in the cache does not say why it could not be fetched.
_NEXT_STEPS = {
    HFValidationError: "expected owner/name",
    LocalTokenNotFoundError: LOG_IN,
    OfflineModeIsEnabled: "while it is set, only the cache serves",
    GatedRepoError: f"ask for access at {{page}}, and {LOG_IN}",
    RepositoryNotFoundError: f"check the name; if the repository is private, {LOG_IN}",
    RevisionNotFoundError: "see {page} for its branches and tags",
    RemoteEntryNotFoundError: "there is no {error.response.url}",
    HfHubHTTPError: "",
    (HTTPError, ConnectionError, TimeoutError): "the Hub could not be reached; with HF_HUB_OFFLINE=1 the cache serves",
    LocalEntryNotFoundError: "fetch it once with HF_HUB_OFFLINE unset; after that the cache serves",
}
_NOUNS = {"model": "model", "dataset": "data set", "space": "Space"}
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_FILE_ENDINGS = (".csv", ".gz", ".h5", ".safetensors")


def is_hub_id(name: str) -> bool:
    """Whether a name means owner/name on the Hub: of that form, without a file's ending, and not to be found here."""
    return bool(_HUB_ID.fullmatch(name)) and not name.endswith(_FILE_ENDINGS) and not os.path.exists(name)


def check_repo_id(repo_id: str) -> None:
    """Raises ArgumentError unless a name can be the id of a repository on the Hub, owner/name."""
    try:
        validate_repo_id(repo_id)
        if "/" not in repo_id:
            raise HFValidationError("it names no owner")
    except HFValidationError as error:
        raise ArgumentError(f"{shown(repo_id)} is no repository id, expected owner/name: {one_line(error)}") from error


def check_can_push(
    repo_id: str, token: str | None = None, kind: type[HrmError] = CheckpointError, repo_type: str = "model"
) -> str:
    """The token to push with, without white space around it; None = the one that is logged in. No network.

    Raises ArgumentError for a bad id or a token with odd characters, which it does not show, and an error of that kind
    where there is no token or HF_HUB_OFFLINE is set.
    """
    check_repo_id(repo_id)
    where = _in_words(repo_id, repo_type)
    token = ((get_token() if token is None else token) or "").strip()
    if not token:
        raise kind(f"there is no token to push to {where} with: {LOG_IN} (a token that may write)")
    if not re.fullmatch(r"[!-~]+", token):  # the HTTP library would refuse it, and print it
        raise ArgumentError(f"the token to push to {where} with holds white space or other odd characters: {LOG_IN}")
    if constants.is_offline_mode():
        raise kind(f"nothing can be pushed to {where}: HF_HUB_OFFLINE is set; unset it")
    return token


@contextmanager
def clear_hub_errors(repo_id: str, kind: type[HrmError] = CheckpointError, repo_type: str = "model") -> Iterator[None]:
    """Raises an error that comes from the Hub as one line, of the given kind; other errors pass unchanged."""
    try:
        yield
    except HrmError:
        raise
    except Exception as error:
        prefix = constants.REPO_TYPES_URL_PREFIXES.get(repo_type, "")
        message = _message(error, f"{constants.ENDPOINT}/{prefix}{repo_id}")
        if message is None:
            raise
        raise kind(f"{_in_words(repo_id, repo_type)}: {message}") from error


def _message(error: Exception, page: str) -> str | None:
    """What went wrong and what to do; None for an error that does not come from the Hub."""
    chain: list[BaseException] = [error]  # libraries wrap errors: transformers in OSError, uploads in RuntimeError
    while (inner := chain[-1].__cause__ or chain[-1].__context__) and inner not in chain:
        chain.append(inner)
    for kind, next_step in _NEXT_STEPS.items():
        for each in chain:
            if not isinstance(each, kind):
                continue
            if kind is HfHubHTTPError and each.response.status_code in (401, 403):
                next_step = f"{LOG_IN}, with a token that may do this"
            reason = (getattr(each, "server_message", None) or each) if next_step else error
            # the HTTP library shows the token when it refuses a header
            reason = one_line(re.sub(r"Bearer [^'\"]*", "Bearer ***", str(reason)))[:300].rstrip(".")
            return "; ".join(filter(None, (reason, next_step.format(page=page, error=each))))
    return None


def _in_words(repo_id: str, repo_type: str) -> str:
    return f"the {_NOUNS[repo_type]} {repo_id}"
