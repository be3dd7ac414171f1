"""A web server for downloads."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

CHANGED = "Mon, 02 Nov 2026 09:00:00 GMT"
"""When the files of the server were last changed, for those that say so."""


@dataclass
class Server:
    """A server for one folder that can break off or stall, and remembers what was asked.

    Attributes:
        url: its address, with a slash at the end.
        folder: what it serves.
        breaks_off_after: bytes after which the next answers end, one number for each.
        stalls: whether those answers stay open instead of ending.
        asked: the path and the ``Range`` of every request.
        got: the path of every download that was begun.
        headers: further headers of every answer, by path.
        tagged: whether files have an ETag.
    """

    url: str
    folder: Path
    breaks_off_after: list[int] = field(default_factory=list)
    stalls: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)
    got: list[str] = field(default_factory=list)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    tagged: bool = True


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    folder = tmp_path / "served"
    folder.mkdir()
    over = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            found.asked.append((self.path, self.headers.get("Range", "")))
            file = folder / self.path.lstrip("/")
            if not file.is_file():
                self.send_response(404)
                for name, value in found.headers.get(self.path, {}).items():
                    self.send_header(name, value)
                self.end_headers()
                return
            content, start = file.read_bytes(), 0
            tag = f'"{hash(content):x}"'
            wanted = self.headers.get("Range", "")
            if wanted and self.headers.get("If-Range", tag) in (tag, CHANGED):
                start = int(wanted.removeprefix("bytes=").split("-")[0])
            if start and start >= len(content):
                self.send_response(416)
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            own = found.headers.get(self.path, {})
            if start and "Content-Range" not in own:
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
            self.send_header("Content-Length", str(len(content) - start))
            if found.tagged and "ETag" not in own:
                self.send_header("ETag", tag)
            for name, value in own.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                found.got.append(self.path)
                stops = found.breaks_off_after
                is_whole, stop = not stops, stops.pop(0) if stops else len(content)
                self.wfile.write(content[start : start + stop])
                if found.stalls and not is_whole:
                    over.wait()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        found = Server(f"http://127.0.0.1:{running.server_port}/", folder)
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield found
        over.set()
        running.shutdown()
        thread.join()
