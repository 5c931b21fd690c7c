"""One clear line for what can go wrong between this machine and the Hub: no token, no network, no such repository.

huggingface_hub and transformers each have many exceptions for that, some with whole paragraphs; `clear_hub_errors`
turns them into the exceptions of this package. What counts as an id of the Hub is said here too.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # of the HTTP library beneath: whatever happens on the wire
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id

from ..hrm.errors import ArgumentError, CheckpointError, HrmError

LOG_IN = "log in with `hf auth login` or set HF_TOKEN"
MAX_REASON = 300  # characters of what the Hub said

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_FILE_ENDINGS = (".csv", ".gz", ".h5", ".safetensors")


def is_hub_id(name: str) -> bool:
    """Whether a name means owner/name on the Hub: of that form, without a file's ending, and not to be found here.

    Whether it may be the id of a repository at all is for `check_repo_id` and the Hub to say.
    """
    return bool(_HUB_ID.fullmatch(name)) and not name.endswith(_FILE_ENDINGS) and not os.path.exists(name)


def check_repo_id(repo_id: str, kind: type[HrmError] = ArgumentError) -> None:
    """Refuses what cannot be the id of a repository on the Hub.

    Args:
        repo_id: "owner/name".
        kind: the exception to raise.
    Raises:
        HrmError: of that kind, naming what is allowed.
    """
    try:
        validate_repo_id(repo_id)
        if not re.fullmatch(r"[^/]+/[^/]+", repo_id):
            raise HFValidationError("no owner")
    except HFValidationError as error:
        raise kind(_bad_repo_id(repo_id)) from error


def check_can_push(
    repo_id: str, token: str | None = None, kind: type[HrmError] = CheckpointError, repo_type: str = "model"
) -> str:
    """Refuses, without any network, what no push could succeed with: a bad id, no token, or offline mode.

    Args:
        repo_id: "owner/name".
        token: of the Hub; None = the one that is logged in.
        kind: the exception where there is no token or no network.
        repo_type: "model" or "dataset".
    Returns:
        The token to push with, without white space around it.
    Raises:
        ArgumentError: the id is none, or the token cannot be one; the message does not show it.
        HrmError: of that kind: there is no token, or HF_HUB_OFFLINE is set.
    """
    check_repo_id(repo_id)
    where = f"the data set {repo_id}" if repo_type == "dataset" else repo_id
    token = ((get_token() if token is None else token) or "").strip()
    if not token:
        raise kind(f"there is no token to push to {where} with: {LOG_IN} (a token that may write)")
    if not re.fullmatch(r"[!-~]+", token):  # the HTTP library would refuse it, and print it
        raise ArgumentError(
            f"the token to push to {where} with holds white space or other characters that no token has: {LOG_IN}"
        )
    if constants.is_offline_mode():
        raise kind(f"nothing can be pushed to {where}: HF_HUB_OFFLINE is set; unset it")
    return token


@contextmanager
def clear_hub_errors(repo_id: str, kind: type[HrmError] = CheckpointError, repo_type: str = "model") -> Iterator[None]:
    """Inside, an error that comes from the Hub is raised as one line; other errors pass unchanged.

    Args:
        repo_id: the repository in question, named in the line.
        kind: the exception to raise, CheckpointError or DataError.
        repo_type: "model" or "dataset".
    Raises:
        HrmError: of that kind.
    """
    try:
        yield
    except HrmError:
        raise
    except Exception as error:
        message = hub_message(error, repo_id, repo_type)
        if message is None:
            raise
        raise kind(message) from error


def hub_message(error: BaseException, repo_id: str, repo_type: str = "model") -> str | None:
    """One line that says what went wrong and what to do; None for an error that does not come from the Hub.

    Libraries wrap the errors of the Hub in others (transformers in OSError, uploads in RuntimeError), so causes are
    looked through too.
    """
    what = f"the {'data set' if repo_type == 'dataset' else repo_type} {repo_id}"
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    # the first that says something: "not in the cache" hides, behind it, why it could not be fetched
    told = [each for each in chain if not isinstance(each, LocalEntryNotFoundError)]
    for each in told:
        message = _message(each, repo_id, what, outermost=error)
        if message is not None:
            return message
    if len(told) < len(chain):
        return (
            f"{what} is neither in the cache nor could it be fetched: the Hub ({constants.ENDPOINT}) is out of reach"
        )
    return None


def _message(error: BaseException, repo_id: str, what: str, outermost: BaseException) -> str | None:
    """The line for one exception of the chain; the order matters, several derive from each other."""
    if isinstance(error, HFValidationError):
        return _bad_repo_id(repo_id)
    if isinstance(error, LocalTokenNotFoundError):
        return f"there is no token for {what}: {LOG_IN}"
    if isinstance(error, OfflineModeIsEnabled):
        return f"{what} is out of reach: HF_HUB_OFFLINE is set; unset it"
    if isinstance(error, GatedRepoError):
        return (
            f"{what} is open only to those who were granted access: ask for it on {_page(repo_id, what)}, and {LOG_IN}"
        )
    if isinstance(error, RepositoryNotFoundError):
        return f"{what} does not exist on {constants.ENDPOINT}, or it is private: check the name, or {LOG_IN}"
    if isinstance(error, RevisionNotFoundError):
        return f"{what} has no such revision (branch, tag or commit); see {_page(repo_id, what)}"
    if isinstance(error, EntryNotFoundError):
        return f"{what} lacks a file that is needed: {_first_line(error)}"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status == 401:
            return f"the Hub did not accept the token for {what}: {LOG_IN}"
        if status == 403:
            return f"this token may not do that with {what}: {LOG_IN}, with a token that may write there"
        return f"the Hub answered {status} for {what}: {_one_line(outermost)}"
    if isinstance(error, (HTTPError, ConnectionError, TimeoutError)):
        return f"the Hub ({constants.ENDPOINT}) could not be reached for {what}: {_first_line(error)}"
    return None


def _bad_repo_id(repo_id: Any) -> str:
    return (
        f"{repo_id!r} is no id of a repository on the Hub; allowed: owner/name, of letters, digits, '-', '_' and '.', "
        "96 characters at most, without '--' and '..', '-' or '.' at an end, or '.git' at the end"
    )


def _page(repo_id: str, what: str) -> str:
    folder = "datasets/" if what.startswith("the data set") else ""
    return f"{constants.ENDPOINT}/{folder}{repo_id}"


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in _without_token(str(error)).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _one_line(error: BaseException) -> str:
    return " ".join(_without_token(str(error)).split())[:MAX_REASON] or type(error).__name__


def _without_token(text: str) -> str:
    """What an Authorization header says, up to the quote that ends it, as the HTTP library may show it."""
    return re.sub(r"Bearer [^'\"]*", "Bearer ***", text)
