"""A small HTTP server on this machine that misbehaves on demand."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What is served and how; ``ranges`` records the Range header of each request."""

    content: bytes
    ranges_supported: bool = True
    says_length: bool = True
    cut_after: list[int] = field(default_factory=list)  # bytes sent per request before the connection is cut
    status: int | None = None
    shift: int = 0  # the server answers another range than was asked for
    ranges: list[str | None] = field(default_factory=list)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    site: Site

    def do_GET(self) -> None:
        site, asked = self.site, self.headers.get("Range")
        site.ranges.append(asked)
        if site.status is not None:
            self.send_error(site.status)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and site.ranges_supported else 0  # type: ignore
        if start and start >= len(site.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(site.content)}")
            self.end_headers()
            return
        self._send(site, start)

    def _send(self, site: Site, start: int) -> None:
        self.send_response(206 if start else 200)
        if start:
            first, end = start + site.shift, len(site.content)
            self.send_header("Content-Range", f"bytes {first}-{end - 1}/{end}")
        body = site.content[start:]
        if site.says_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: site.cut_after.pop(0)] if site.cut_after else body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serve(site: Site) -> Iterator[Site]:
    handler = type("Handler", (_Handler,), {"site": site})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        site.url = f"http://127.0.0.1:{server.server_address[1]}/file"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()
