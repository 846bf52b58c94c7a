"""A look at the built site: a small server on this machine only, with the site's own 404 page.

serve(root() / "_site", port=8000)     # until Ctrl-C
"""

from __future__ import annotations

import http.server
import posixpath
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from lib.core import InputError


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of the site, also below the path that it has in public (the 404 page's links begin with it)."""

    def __init__(self, *args: Any, prefix: str = "", **kwargs: Any) -> None:
        self.prefix = prefix
        super().__init__(*args, **kwargs)

    def translate_path(self, path: str) -> str:
        inside = unquote(urlsplit(path).path)
        if self.prefix and (inside == self.prefix or inside.startswith(self.prefix + "/")):
            path = path[len(self.prefix) :] or "/"
        return super().translate_path(path)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        page = Path(self.directory) / "404.html"
        if code != 404 or not page.is_file():
            super().send_error(code, message, explain)
            return
        body = page.read_bytes()
        self.send_response(404)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def end_headers(self) -> None:
        # What was just built is what is wanted: the browser asks each time whether a file changed.
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        return None


def server(folder: Path, port: int = 8000, *, url: str = "") -> http.server.ThreadingHTTPServer:
    """A server of the site in `folder`, not started yet. url: the public address, for its path. Port 0 takes a free one."""
    if not (folder / "index.html").is_file():
        raise InputError(f"there is no site in {folder.name}/; posts site builds it")
    prefix = posixpath.normpath(urlsplit(url).path).rstrip("/") if urlsplit(url).path.strip("/") else ""
    handler = partial(Handler, directory=str(folder), prefix=prefix)
    try:
        return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        raise InputError(f"port {port} is taken ({error.strerror}); choose another with --port") from error


def serve(
    folder: Path, port: int = 8000, *, url: str = "", ready: Callable[[str], None] = lambda address: None
) -> None:
    """Serve until Ctrl-C; `ready` is told the address once it answers."""
    with server(folder, port, url=url) as running:
        ready(f"http://127.0.0.1:{running.server_port}/")
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            return
