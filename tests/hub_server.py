"""A server that speaks the Hub's protocol, over folders of repositories.

Run as a program, it can be killed in mid-download: `python hub_server.py PORT FOLDER LOG`.
Each repository `FOLDER/owner/name` may have a file `.hub.json`:

    {"gated": true}                 files are refused without the token TOKEN
    {"pause_s": 0.1}                rests after each hundredth of a large file
    {"claims": {"unet/x": 10**15}}  sizes that the listing announces instead of the real ones
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLDER = "fedcba9876543210fedcba9876543210fedcba98"
TOKEN = "hf_accepted"
LARGE = (".safetensors", ".bin", ".ckpt", ".onnx", ".msgpack")
_API = re.compile(r"/api/models/([\w.-]+/[\w.-]+)(?:/revision/([^/?]+))?")
_FILE = re.compile(r"/([\w.-]+/[\w.-]+)/(resolve|cdn)/([^/]+)/(.+)")


class HubServer(ThreadingHTTPServer):
    """Serves repositories; the log has "METHOD path range" of every request for a file."""

    daemon_threads = True

    def __init__(self, port: int, folder: Path, log: Path) -> None:
        super().__init__(("127.0.0.1", port), HubHandler)
        self.folder, self.log = folder, log

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: clients hang up when they are stopped."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class HubHandler(BaseHTTPRequestHandler):
    """Answers as the Hub does: a listing, redirects of large files, ranges, refusals."""

    server: HubServer

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""

    def _answer(self, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        listing, file = _API.fullmatch(path), _FILE.fullmatch(path)
        found = listing or file
        repository = self.server.folder / (found[1] if found else "none")
        if not repository.is_dir():
            # Without a token the Hub does not tell whether a repository is private or gone.
            return self._refuse(401, "RepoNotFound")
        commit = (listing[2] if listing else file[3] if file else None) or COMMIT
        commit = COMMIT if commit == "main" else commit
        if commit not in (COMMIT, OLDER):
            return self._refuse(404, "RevisionNotFound")
        if file is None:
            body = json.dumps(_listing(repository, commit)).encode()
            return self._send(200, body, {}, with_body)
        return self._send_file(repository, file[2] == "cdn", commit, file[4], with_body)

    def _send_file(
        self, repository: Path, is_cdn: bool, commit: str, name: str, with_body: bool
    ) -> None:
        asked = self.headers.get("Range", "")
        with self.server.log.open("a") as log:
            log.write(f"{self.command} {self.path} {asked}\n")
        is_right = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if settings_of(repository).get("gated") and not is_cdn and not is_right:
            return self._refuse(403 if "Authorization" in self.headers else 401, "GatedRepo")
        path = repository / name
        if not path.is_file():
            return self._refuse(404, "EntryNotFound")
        etag = digest(path)
        facts = {"X-Repo-Commit": commit, "ETag": f'"{etag}"'}
        if name.endswith(LARGE) and not is_cdn:
            at = f"{self.server.url}/{_owner(repository)}/cdn/{commit}/{name}"
            linked = {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(path.stat().st_size)}
            return self._send(302, b"", {**facts, **linked, "Location": at}, with_body)
        body, start = path.read_bytes(), 0
        if match := re.fullmatch(r"bytes=(\d+)-", asked):
            start = int(match[1])
            facts["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        pause_s = settings_of(repository).get("pause_s", 0.0) if is_cdn else 0.0
        return self._send(206 if start else 200, body[start:], facts, with_body, pause_s)

    def _refuse(self, status: int, code: str) -> None:
        self._send(
            status, b"{}", {"X-Error-Code": code, "X-Error-Message": code}, self.command == "GET"
        )

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str],
        with_body: bool,
        pause_s: float = 0.0,
    ) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if not with_body:
            self.close_connection = True
            return
        piece = len(body) // 100 + 1 if pause_s else len(body) + 1
        for start in range(0, len(body), piece):
            time.sleep(pause_s)
            self.wfile.write(body[start : start + piece])


def settings_of(repository: Path) -> dict[str, object]:
    """What a repository's `.hub.json` says."""
    path = repository / ".hub.json"
    return json.loads(path.read_text()) if path.is_file() else {}


@functools.cache
def digest(path: Path) -> str:
    """SHA-256 of large files, git's hash of small ones."""
    body = path.read_bytes()
    if path.name.endswith(LARGE):
        return hashlib.sha256(body).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


def _owner(repository: Path) -> str:
    return "/".join(repository.parts[-2:])


def _listing(repository: Path, commit: str) -> dict[str, object]:
    claims = settings_of(repository).get("claims", {})
    siblings = []
    for path in sorted(repository.rglob("*")):
        if path.is_dir() or path.name == ".hub.json":
            continue
        name = str(path.relative_to(repository))
        size = claims.get(name, path.stat().st_size)
        one = {"rfilename": name, "size": size, "blobId": "0" * 40}
        if name.endswith(LARGE):
            one["lfs"] = {"sha256": digest(path), "size": size, "pointerSize": 134}
        siblings.append(one)
    gated = "manual" if settings_of(repository).get("gated") else False
    return {"id": _owner(repository), "sha": commit, "gated": gated, "siblings": siblings}


if __name__ == "__main__":
    HubServer(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])).serve_forever()
