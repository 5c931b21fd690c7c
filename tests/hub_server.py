"""A small HTTP server that plays the Hugging Face Hub, so that pushing and loading can be tested whole.

It answers the routes that huggingface_hub uses for models and data sets: creating a repository, uploading (large files
through LFS), committing, information, trees and downloads. Contents lie in memory. The client must run in a process of
its own, with `HubServer.environment`, because huggingface_hub reads its settings when it is imported.

    with HubServer() as hub:
        subprocess.run([sys.executable, "-c", script], env=hub.environment(tmp_path / "home"), check=True)
        hub.repos["model", "user/name"].files["config.json"]
"""

import base64
import hashlib
import json
import os
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN, USER = "hf_test", "user"
LFS_SUFFIXES = (".safetensors", ".h5", ".hdf5", ".npy", ".npz", ".bin", ".pt", ".pkl", ".parquet")
LFS_BYTES = 10_000_000  # larger files go through LFS whatever their name
FIRST_PORT = 20_000  # below the range from which the system serves outgoing connections

REPO = r"(?P<repo_id>[^/]+/[^/]+)"
API = rf"/api/(?P<kind>models|datasets)/{REPO}"
FILES = rf"/(?:(?P<kind>datasets)/)?{REPO}"
ROUTES = [
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate_yaml"),
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", rf"{API}/preupload/(?P<revision>[^/]+)", "preupload"),
    ("POST", rf"{API}/commit/(?P<revision>[^/]+)", "commit"),
    ("POST", rf"{API}/branch/(?P<revision>[^/]+)", "branch"),
    ("POST", rf"{API}/paths-info/(?P<revision>[^/]+)", "paths_info"),
    ("GET", rf"{API}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", "tree"),
    ("GET", rf"{API}/refs", "refs"),
    ("GET", rf"{API}(?:/revision/(?P<revision>[^/]+))?", "info"),
    ("POST", rf"{FILES}\.git/info/lfs/objects/batch", "lfs_batch"),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", "lfs_put"),
    ("HEAD", rf"{FILES}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    ("GET", rf"{FILES}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
]


@dataclass
class Repo:
    """A repository: the contents of every commit, and which one each branch points to."""

    private: bool = False
    commits: list[str] = field(default_factory=list)  # messages, oldest first
    branches: dict[str, str] = field(default_factory=dict)  # name -> commit
    snapshots: dict[str, dict[str, bytes]] = field(default_factory=dict)  # commit -> path -> content

    def __post_init__(self):
        self.commit("initial commit", {})
        self.commits.clear()

    @property
    def files(self) -> dict[str, bytes]:
        """What lies on the main branch."""
        return self.snapshots[self.branches["main"]]

    def commit(self, message: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Makes these files the whole content of the branch; the commit's number."""
        number = hashlib.sha1(f"{len(self.snapshots)} {message} {sorted(files)}".encode()).hexdigest()
        self.snapshots[number] = files
        self.branches[branch] = number
        self.commits.append(message)
        return number


class HubServer:
    """The server as a context manager.

    Attributes:
        url: where it listens.
        repos: (repo_type, repo_id) -> Repo, for instance ("model", "user/name").
        requests: (method, path) of everything that was asked.
        failures: (method, part of a path, status) answered once each instead of the real answer, then forgotten.
    """

    def __init__(self):
        self.repos: dict[tuple[str, str], Repo] = {}
        self.requests: list[tuple[str, str]] = []
        self.failures: list[tuple[str, str, int]] = []
        self.large_files: dict[str, bytes] = {}  # sha256 -> content
        self.lock = threading.Lock()
        self._server = self._listen()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _listen(self) -> ThreadingHTTPServer:
        handler = type("Handler", (HubHandler,), {"hub": self})
        start = os.getpid() % 10_000
        for offset in range(100):
            try:
                return ThreadingHTTPServer(("127.0.0.1", FIRST_PORT + (start + offset) % 10_000), handler)
            except OSError:
                continue
        raise RuntimeError(f"no free port from {FIRST_PORT + start} on")

    def __enter__(self) -> "HubServer":
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def add(self, repo_type: str, repo_id: str, files: dict[str, bytes], private: bool = False) -> Repo:
        """A repository with these files, as if somebody had pushed them."""
        repo = self.repos[repo_type, repo_id] = Repo(private=private)
        repo.commit("add files", dict(files))
        return repo

    def environment(self, home: Path, token: str | None = TOKEN) -> dict[str, str]:
        """The environment of a client process: this server is its Hub, `home` holds its cache."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        environment |= {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        return environment if token is None else environment | {"HF_TOKEN": token}


class Refusal(Exception):
    """An answer that is an error: status and, as the Hub names it, X-Error-Code."""

    def __init__(self, status: int, code: str | None = None, message: str = ""):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message or code or "refused"


class HubHandler(BaseHTTPRequestHandler):
    """Answers one request; `hub` is set by HubServer."""

    hub: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # many small answers

    def do_GET(self):  # noqa: N802
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def log_message(self, *_):
        """Nothing on stderr."""

    def _answer(self) -> None:
        url = urlsplit(self.path)
        self.query, self.body, self.extra_headers = parse_qs(url.query), self._read_body(), {}
        # the path stays quoted until it is cut, because a revision or a path may hold a quoted slash
        with self.hub.lock:
            self.hub.requests.append((self.command, unquote(url.path)))
            try:
                for failure in self.hub.failures:
                    if failure[0] == self.command and failure[1] in unquote(url.path):
                        self.hub.failures.remove(failure)
                        raise Refusal(failure[2], message="asked for by the test")
                self._check_token()
                for method, pattern, name in ROUTES:
                    match = re.fullmatch(pattern, url.path) if method == self.command else None
                    if match:
                        found = {key: unquote(value) for key, value in match.groupdict().items() if value is not None}
                        return getattr(self, name)(**found)
                raise Refusal(404, message=f"this server has no route {self.command} {url.path}")
            except Refusal as refusal:
                headers = {"X-Error-Message": refusal.message}
                if refusal.code:
                    headers["X-Error-Code"] = refusal.code
                body = json.dumps({"error": refusal.message}).encode()
                self._send(refusal.status, body, headers | self.extra_headers)

    def _read_body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().strip() or b"0", 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(body))}).items():
            if name not in (headers or {}):
                self.send_header(name, value)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode())

    def _check_token(self) -> None:
        given = self.headers.get("Authorization")
        self.known = given == f"Bearer {TOKEN}"
        if given is not None and not self.known:
            raise Refusal(401, message="Invalid credentials in Authorization header")
        writes = self.command == "POST" and "/paths-info/" not in self.path
        if writes and not self.known:
            raise Refusal(401, message="Invalid username or password.")

    def _repo(self, kind: str | None, repo_id: str) -> Repo:
        repo = self.hub.repos.get((_repo_type(kind), repo_id))
        if repo is None or (repo.private and not self.known):
            raise Refusal(404 if self.known else 401, "RepoNotFound", "Repository not found")
        return repo

    def _snapshot(self, repo: Repo, revision: str | None) -> tuple[str, dict[str, bytes]]:
        number = repo.branches.get(revision or "main", revision)
        if number not in repo.snapshots:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return number, repo.snapshots[number]

    # the account, and repositories as a whole

    def whoami(self) -> None:
        if not self.known:
            raise Refusal(401, message="Invalid username or password.")
        self._json({"type": "user", "name": USER, "fullname": USER, "orgs": [], "auth": {"type": "access_token"}})

    def create(self) -> None:
        asked = json.loads(self.body)
        repo_id = f"{asked.get('organization') or USER}/{asked['name']}"
        repo_type = asked.get("type") or "model"
        url = f"{self.hub.url}/{'datasets/' if repo_type == 'dataset' else ''}{repo_id}"
        if (repo_type, repo_id) in self.hub.repos:
            return self._json({"error": "You already created this repo", "url": url}, status=409)
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.repos[repo_type, repo_id] = Repo(private=private)
        self._json({"url": url, "name": repo_id})

    def validate_yaml(self) -> None:
        try:
            _card_data(json.loads(self.body)["content"].encode())
        except yaml.YAMLError as error:
            return self._json({"errors": [{"message": str(error)}], "warnings": []}, status=400)
        self._json({"errors": [], "warnings": []})

    def info(self, kind: str, repo_id: str, revision: str | None = None) -> None:
        repo = self._repo(kind, repo_id)
        number, files = self._snapshot(repo, revision)
        card = _card_data(files.get("README.md", b""))
        answer = {
            "_id": "0",
            "id": repo_id,
            "author": repo_id.split("/")[0],
            "sha": number,
            "private": repo.private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": card.get("tags") or [],
            "cardData": card,
            "lastModified": "2026-01-01T00:00:00.000Z",
            "createdAt": "2026-01-01T00:00:00.000Z",
            "siblings": [{"rfilename": path} for path in sorted(files)],
        }
        if kind == "models":
            answer |= {"modelId": repo_id}
            answer |= {name: card[name] for name in ("pipeline_tag", "library_name") if name in card}
            if "config.json" in files:
                answer["config"] = json.loads(files["config.json"])
        self._json(answer)

    def refs(self, kind: str, repo_id: str) -> None:
        branches = self._repo(kind, repo_id).branches
        named = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in branches.items()]
        self._json({"branches": named, "tags": [], "converts": []})

    def branch(self, kind: str, repo_id: str, revision: str) -> None:
        repo = self._repo(kind, repo_id)
        if revision in repo.branches:
            raise Refusal(409, message="Reference already exists")
        start = json.loads(self.body or b"{}").get("startingPoint") or "main"
        number, _ = self._snapshot(repo, start)
        repo.branches[revision] = number
        self._json({})

    def tree(self, kind: str, repo_id: str, revision: str, path: str | None = None) -> None:
        _, files = self._snapshot(self._repo(kind, repo_id), revision)
        prefix = f"{path.rstrip('/')}/" if path else ""
        inside = {name: content for name, content in files.items() if name.startswith(prefix)}
        if prefix and not inside:
            raise Refusal(404, "EntryNotFound", f"{path} does not exist")
        recursive = self.query.get("recursive", ["false"])[0].lower() == "true"
        folders = {prefix + name.removeprefix(prefix).rpartition("/")[0] for name in inside}
        folders = {folder for folder in folders if folder not in ("", prefix)}
        if not recursive:
            folders = {prefix + folder.removeprefix(prefix).split("/")[0] for folder in folders}
            inside = {name: content for name, content in inside.items() if "/" not in name.removeprefix(prefix)}
        entries = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": folder} for folder in sorted(folders)]
        self._json(entries + [_entry(name, content) for name, content in sorted(inside.items())])

    def paths_info(self, kind: str, repo_id: str, revision: str) -> None:
        _, files = self._snapshot(self._repo(kind, repo_id), revision)
        asked = parse_qs(self.body.decode()).get("paths", [])
        folders = [path for path in asked if any(name.startswith(f"{path}/") for name in files)]
        entries = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": path} for path in folders]
        self._json([*(_entry(path, files[path]) for path in asked if path in files), *entries])

    # sending

    def preupload(self, kind: str, repo_id: str, revision: str) -> None:
        _, files = self._snapshot(self._repo(kind, repo_id), revision)
        answers = []
        for file in json.loads(self.body)["files"]:
            large = file["path"].endswith(LFS_SUFFIXES) or file["size"] > LFS_BYTES
            answer = {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            if file["path"] in files:
                answer["oid"] = _oid(file["path"], files[file["path"]])
            answers.append(answer)
        self._json({"files": answers})

    def lfs_batch(self, repo_id: str, kind: str | None = None) -> None:
        self._repo(kind, repo_id)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            answer = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.large_files:
                answer["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{wanted['oid']}"}}
            objects.append(answer)
        self._json({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refusal(400, message="the content is not the one that was announced")
        self.hub.large_files[oid] = self.body
        self._send(200, b"")

    def commit(self, kind: str, repo_id: str, revision: str) -> None:
        repo = self._repo(kind, repo_id)
        number, files = self._snapshot(repo, revision)
        files, message = dict(files), ""
        for line in self.body.decode().splitlines():
            if not line.strip():
                continue
            key, value = (entry := json.loads(line))["key"], entry["value"]
            if key == "header":
                message = value["summary"]
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                if value["oid"] not in self.hub.large_files:
                    raise Refusal(400, message=f"{value['path']} was not uploaded")
                files[value["path"]] = self.hub.large_files[value["oid"]]
            elif key == "deletedFile":
                files.pop(value["path"])
            elif key == "deletedFolder":
                folder = value["path"].rstrip("/") + "/"
                files = {path: content for path, content in files.items() if not path.startswith(folder)}
            else:
                raise Refusal(400, message=f"this server knows no operation {key}")
        number = repo.commit(message, files, branch=revision)
        prefix = "datasets/" if kind == "datasets" else ""
        url = f"{self.hub.url}/{prefix}{repo_id}/commit/{number}"
        self._json({"success": True, "commitOid": number, "commitUrl": url})

    # receiving

    def resolve(self, repo_id: str, revision: str, path: str, kind: str | None = None) -> None:
        number, files = self._snapshot(self._repo(kind, repo_id), revision)
        self.extra_headers = {"X-Repo-Commit": number}
        if path not in files:
            raise Refusal(404, "EntryNotFound", "Entry not found")
        content, status = files[path], 200
        headers = {
            "X-Repo-Commit": number,
            "ETag": f'"{_oid(path, content)}"',
            "Content-Type": "application/octet-stream",
            "Accept-Ranges": "bytes",
        }
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and self.command == "GET":
            start, end = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            content, status = content[start : end + 1], 206
        self._send(status, content, headers)


def _repo_type(kind: str | None) -> str:
    """The client's name of a kind of repository as it stands in a path."""
    return "dataset" if kind == "datasets" else "model"


def _is_large(path: str, content: bytes) -> bool:
    return path.endswith(LFS_SUFFIXES) or len(content) > LFS_BYTES


def _oid(path: str, content: bytes) -> str:
    """What names a content: sha256 for large files, git's sha1 for the others."""
    if _is_large(path, content):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(path: str, content: bytes) -> dict[str, Any]:
    """A file as trees list it."""
    entry = {"type": "file", "path": path, "size": len(content), "oid": _oid(path, content)}
    if _is_large(path, content):
        entry["lfs"] = {"oid": _oid(path, content), "size": len(content), "pointerSize": 134}
    return entry


def _card_data(readme: bytes) -> dict[str, Any]:
    """The YAML at the head of a card."""
    match = re.match(r"---\n(.*?)\n---", readme.decode("utf-8", errors="replace"), flags=re.DOTALL)
    return (yaml.safe_load(match[1]) or {}) if match else {}
