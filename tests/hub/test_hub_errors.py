"""Errors of the Hub become one line that names the repository and says what to do."""

import importlib

import pytest
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HFValidationError, HTTPError, LocalTokenNotFoundError
from huggingface_hub.utils import hf_raise_for_status

from hrm_hf import HrmForPuzzleSolving
from hrm_hf.hrm.errors import ArgumentError, CheckpointError, DataError, PuzzleError
from hrm_hf.hub.hub_errors import check_can_push, check_repo_id, clear_hub_errors, is_hub_id

# The library beneath huggingface_hub: httpx or httpx2, by its version.
httpx = importlib.import_module(HTTPError.__module__.partition(".")[0])
URL = "https://huggingface.co/api/models/you/name"


def answered(status: int, code: str | None = None, message: str | None = None):
    """What huggingface_hub makes of the Hub's answer."""
    headers = {name: value for name, value in (("X-Error-Code", code), ("X-Error-Message", message)) if value}
    return lambda: hf_raise_for_status(httpx.Response(status, headers=headers, request=httpx.Request("GET", URL)))


def unreachable():
    httpx.get("http://127.0.0.1:9", timeout=5)  # nobody listens there


def wrapped():
    try:
        answered(404, "RepoNotFound")()
    except Exception as error:
        raise OSError("a paragraph\nof its own") from error


def bad_card():
    try:
        answered(400)()
    except Exception as error:
        raise ValueError("Invalid metadata in README.md.\n- license is unknown") from error


def no_token():
    raise LocalTokenNotFoundError("Token is required")


PAGE = "https://huggingface.co/you/name"
LOG_IN = "log in with `hf auth login` or set HF_TOKEN"
CASES = {  # what the library says of it, and what to do next
    "no repository": (answered(404, "RepoNotFound"), "Repository Not Found", f"check the name; if .*, {LOG_IN}"),
    "wrapped": (wrapped, "Repository Not Found", "check the name"),
    "gated": (answered(403, "GatedRepo"), "gated repo", f"ask for access at {PAGE}, and {LOG_IN}"),
    "restricted": (answered(403, "GatedRepo", "You are not listed."), "You are not listed;", "ask for access"),
    "revision": (answered(404, "RevisionNotFound"), "Revision Not Found", f"see {PAGE} for its branches"),
    "file": (answered(404, "EntryNotFound"), "Entry Not Found", f"there is no {URL}"),
    "wrong token": (answered(401, None, "Invalid credentials"), "Invalid credentials; ", LOG_IN),
    "forbidden": (answered(403), "Cannot access content", f"{LOG_IN}, with a token that may do this"),
    "server": (answered(500), "500 Internal Server Error", ""),
    "card": (bad_card, "Invalid metadata in README.md. - license is unknown", ""),
    "no network": (unreachable, "refused", "could not be reached; with HF_HUB_OFFLINE=1 the cache serves"),
    "offline, not cached": (lambda: hf_hub_download("you/name", "x"), "offline mode", "only the cache serves"),
    "offline, a model": (
        lambda: HrmForPuzzleSolving.from_pretrained("you/name"),
        "Cannot find the requested files in the disk cache",
        "fetch it once with HF_HUB_OFFLINE unset; after that the cache serves",
    ),
    "no token": (no_token, "Token is required", LOG_IN),
    "no id": (lambda: hf_hub_download("a/b/c", "x"), "'a/b/c'", "expected owner/name"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line(case):
    call, reason, next_step = CASES[case]
    message = f"^the model you/name: .*{reason}.*{next_step}"
    with pytest.raises(CheckpointError, match=message) as refused, clear_hub_errors("you/name"):
        call()
    assert "\n" not in str(refused.value)
    assert refused.value.__cause__ is not None


def test_of_a_data_set():
    with (
        pytest.raises(DataError, match=r"the data set you/name: .* ask for access at https://\S+/datasets/you/name,"),
        clear_hub_errors("you/name", DataError, repo_type="dataset"),
    ):
        answered(403, "GatedRepo")()


@pytest.mark.parametrize("error", [PuzzleError("mine"), KeyError("theirs"), FileNotFoundError("a file")])
def test_other_errors_pass_unchanged(error):
    with pytest.raises(type(error)) as passed, clear_hub_errors("you/name"):
        raise error
    assert passed.value is error


@pytest.mark.parametrize(
    "repo_id", ["name", "a/b/c", "you/na me", "you/", "/name", "you/.x", "you/a--b", "you/x.git", ""]
)
def test_bad_ids_are_refused(repo_id):
    with pytest.raises(ArgumentError, match="is no repository id, expected owner/name: ") as refused:
        check_repo_id(repo_id)
    assert repr(repo_id) in str(refused.value)
    assert isinstance(refused.value.__cause__, HFValidationError)
    check_repo_id("you/hrm-sudoku_4x4.v2")


def test_a_token_is_never_shown():
    with pytest.raises(CheckpointError, match="Illegal header") as refused, clear_hub_errors("you/name"):
        raise httpx.LocalProtocolError("Illegal header value b'Bearer hf_secret\\n'")  # what h11 says
    assert "hf_secret" not in str(refused.value) and "Bearer ***" in str(refused.value)
    for token in ("hf_sec\nret", "hf_sec ret", "hf_sec\u00e9ret"):
        with pytest.raises(ArgumentError, match="the model you/name with holds white space") as refused:
            check_can_push("you/name", token)
        assert "hf_sec" not in str(refused.value)


def test_tokens_are_stripped(monkeypatch):
    monkeypatch.setattr("hrm_hf.hub.hub_errors.constants.is_offline_mode", lambda: False)
    monkeypatch.setattr("hrm_hf.hub.hub_errors.get_token", lambda: "hf_stored")
    assert check_can_push("you/name", " hf_test\n") == "hf_test"
    assert check_can_push("you/name") == "hf_stored"
    with pytest.raises(CheckpointError, match="no token"):
        check_can_push("you/name", "\n")


@pytest.mark.parametrize("ending", [".csv", ".gz", ".h5", ".safetensors"])
def test_what_means_a_repository(tmp_path, monkeypatch, ending):
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("you/name") and is_hub_id("you/hrm-4x4.v2")
    for name in ("you", "a/b/c", "./name", "../name", "/name", "~/name", "you/", f"you/name{ending}", "you/na me"):
        assert not is_hub_id(name), name
    (tmp_path / "you" / "name").mkdir(parents=True)
    assert not is_hub_id("you/name")


def test_what_no_push_could_succeed_with(monkeypatch):
    monkeypatch.setattr("hrm_hf.hub.hub_errors.get_token", lambda: None)
    with pytest.raises(CheckpointError, match="no token to push to the model you/name with: log in"):
        check_can_push("you/name")
    with pytest.raises(DataError, match="no token to push to the data set you/name with: log in"):
        check_can_push("you/name", kind=DataError, repo_type="dataset")
    monkeypatch.setattr("hrm_hf.hub.hub_errors.get_token", lambda: "hf_test")
    with pytest.raises(CheckpointError, match="nothing can be pushed to the model you/name: HF_HUB_OFFLINE is set"):
        check_can_push("you/name")
    with pytest.raises(ArgumentError, match="'name' is no repository id"):
        check_can_push("name")
