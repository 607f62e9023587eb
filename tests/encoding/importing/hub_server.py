"""A small server on loopback with the shape of the Hugging Face hub's API, to test the real client against."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves one folder as the model `repository`. `requests` records what was requested."""

    def __init__(self, folder: Path, repository: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.repository = folder, repository
        self.requests: list[tuple[str, str, str | None]] = []
        self.break_after_bytes: int | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def downloads(self) -> list[str]:
        return [
            path.split(f"/resolve/{COMMIT}/")[1]
            for method, path, _ in self.requests
            if method == "GET" and COMMIT in path
        ]


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append((self.command, path, self.headers.get("Range")))
        info = f"/api/models/{self.server.repository}"
        files = f"/{self.server.repository}/resolve/{COMMIT}/"
        if path in (info, f"{info}/revision/main", f"{info}/revision/v1", f"{info}/revision/{COMMIT}"):
            self._send_json(self._info())
        elif path.startswith(f"{info}/revision/"):
            self._send_error("RevisionNotFound")
        elif path.startswith(files) and (file := self.server.folder / path.removeprefix(files)).is_file():
            self._send_file(file.read_bytes(), with_body)
        else:
            self._send_error("EntryNotFound" if path.startswith(files) else "RepoNotFound")

    def _info(self) -> dict[str, object]:
        folder = self.server.folder
        siblings = [
            {"rfilename": path.relative_to(folder).as_posix(), "size": path.stat().st_size, "blobId": "0" * 40}
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        ]
        name = self.server.repository
        return {"id": name, "modelId": name, "sha": COMMIT, "private": False, "tags": [], "siblings": siblings}

    def _send_json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_error(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_file(self, data: bytes, with_body: bool) -> None:
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        part = data[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if not with_body:
            return
        limit = self.server.break_after_bytes
        if limit is not None and len(part) > limit:
            self.wfile.write(part[:limit])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(part)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the output of the tests clean."""


@contextmanager
def serve_hub(folder: Path, repository: str) -> Iterator[Hub]:
    """Serve the folder until the block ends."""
    with Hub(folder, repository) as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
