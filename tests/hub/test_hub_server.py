"""The server that plays the Hub answers as the Hub does: what is sent comes back, and errors have names."""

import pytest
import warm_processes
from hub_server import HubServer


def client(hub: HubServer, home, script: str, token: str | None = "hf_test") -> list[str]:
    """The lines that a script prints in a process of its own."""
    done = warm_processes.run(["-c", "from huggingface_hub import *\n" + script], hub.environment(home, token))
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_what_is_sent_comes_back(tmp_path, kind):
    folder = tmp_path / "sent"
    (folder / "inside").mkdir(parents=True)
    content = {"README.md": b"---\nlicense: mit\n---\nhello", "x.h5": bytes(range(256)) * 50, "inside/y.txt": b"why"}
    for name, value in content.items():
        (folder / name).write_bytes(value)
    script = f"""
        from pathlib import Path
        api = HfApi()
        for _ in range(2):  # the second time nothing is new
            api.create_repo("user/name", repo_type={kind!r}, private=True, exist_ok=True)
            api.upload_folder(repo_id="user/name", repo_type={kind!r}, folder_path={str(folder)!r})
        info = api.repo_info("user/name", repo_type={kind!r})
        print(info.private, sorted(file.rfilename for file in info.siblings), info.card_data["license"])
        print(sorted(file.path for file in api.list_repo_tree("user/name", repo_type={kind!r})))
        print([file.size for file in api.get_paths_info("user/name", ["x.h5"], repo_type={kind!r})])
        print(snapshot_download("user/name", repo_type={kind!r}))
        """.replace("\n        ", "\n")
    with HubServer() as hub:
        info, tree, sizes, got = client(hub, tmp_path / "home", script)
        repo = hub.repos[kind, "user/name"]
        assert dict(repo.files) == content and repo.private and len(repo.commits) == 1
        assert sum(method == "PUT" for method, _ in hub.requests) == 1
    assert info == f"True {sorted(content)} mit"
    assert tree == str(["README.md", "inside", "x.h5"])
    assert sizes == "[12800]"
    for name, value in content.items():
        assert (tmp_path / "home" / got / name).read_bytes() == value


def test_errors_have_the_names_of_the_hub(tmp_path):
    script = """
        def name(call):
            try:
                return call()
            except Exception as error:
                return f"{type(error).__name__} {error.response.status_code}"
        print(name(lambda: hf_hub_download("user/none", "x")))
        print(name(lambda: hf_hub_download("user/open", "y")))
        print(name(lambda: hf_hub_download("user/open", "x", revision="v9")))
        print(name(lambda: open(hf_hub_download("user/open", "x")).read()))
        print(name(lambda: open(hf_hub_download("user/shut", "x")).read()))
        print(name(lambda: create_repo("user/new").repo_id))
        print(name(lambda: create_repo("user/open").repo_id))
        """.replace("\n        ", "\n")
    none, entry, revision = "RepositoryNotFoundError", "RemoteEntryNotFoundError 404", "RevisionNotFoundError 404"
    with HubServer() as hub:
        hub.add("model", "user/open", {"x": b"open"})
        hub.add("model", "user/shut", {"x": b"shut"}, private=True)
        known = client(hub, tmp_path / "known", script)
        assert known == [f"{none} 404", entry, revision, "open", "shut", "user/new", "HfHubHTTPError 409"]
        unknown = client(hub, tmp_path / "unknown", script, token=None)
        assert unknown == [f"{none} 401", entry, revision, "open", f"{none} 401", *["HfHubHTTPError 401"] * 2]
        wrong = client(hub, tmp_path / "wrong", script, token="hf_wrong")
        assert wrong == ["HfHubHTTPError 401"] * 7


def test_failure_asked_for_happens_once(tmp_path):
    with HubServer() as hub:
        hub.add("model", "user/open", {"x": b"open"})
        hub.failures.append(("HEAD", "/resolve/", 403))
        script = "try: hf_hub_download('user/open', 'x')\nexcept Exception as error: print(error.__cause__)\n"
        script += "print(open(hf_hub_download('user/open', 'x')).read())"
        assert client(hub, tmp_path / "home", script)[-1] == "open"
        assert not hub.failures
