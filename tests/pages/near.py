"""The HTTP server of a station, as far as the manager's pages fetch from one."""

import contextlib
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        near = self.server
        near.asked.append(self.path)
        status, body = near.files.get(self.path, (404, b""))
        time.sleep(near.late.get(self.path, 0))
        self.send_response(status)
        self.send_header("Location", near.elsewhere)
        self.send_header("Content-Length", str(len(body)))
        with contextlib.suppress(ConnectionError):  # who asked may have given up
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_):
        pass


class Near(ThreadingHTTPServer):
    """Status and body of each path that it has, the paths it was asked for, and how many seconds an answer takes.

    `elsewhere` is where an answer with a status of a redirect leads to.
    """

    def __init__(self, address):
        super().__init__((address, 0), Handler)
        self.files, self.asked, self.late = {}, [], {}
        self.elsewhere = "http://127.0.0.1:1/"


@contextlib.contextmanager
def station(address="127.0.0.1"):
    """Serve at a free port until the end."""
    with Near(address) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()
