"""As much of S3 as an upload needs, for there is no S3 server among Debian's packages.

It proves our configuration of rclone and the order of requests, not S3: signatures are not
checked beyond the key's name.
"""

import hashlib
import http.server
import threading
import urllib.parse
from xml.sax.saxutils import escape


class Bucket(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def answer(self, code, body=b"", **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def setup(self):
        super().setup()
        self.objects, self.requests = self.server.objects, self.server.requests

    def key(self):
        parts = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        name = urllib.parse.unquote(parts.path)
        self.requests.append(f"{self.command} {name}")
        if "Credential=AKID/" not in self.headers.get("Authorization", ""):
            self.answer(403)
            return None
        return name

    def do_GET(self):
        if (name := self.key()) is None:
            return
        if name.count("/") == 1 or name.endswith("/talks/"):
            self.listing()
        elif name in self.objects:
            self.answer(200, self.objects[name], **self.facts(name))
        else:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def do_HEAD(self):
        if (name := self.key()) is None:
            return
        if name in self.objects:
            self.answer(200, Content_Length=str(len(self.objects[name])), **self.facts(name))
        else:
            self.answer(404)

    def facts(self, name):
        return {"ETag": f'"{md5(self.objects[name])}"', "Last_Modified": "Sun, 01 Mar 2026 09:00:00 GMT"}

    def do_PUT(self):
        if (name := self.key()) is None:
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        source = self.headers.get("x-amz-copy-source")
        self.objects[name] = self.objects["/" + urllib.parse.unquote(source).lstrip("/")] if source else body
        etag = f'"{md5(self.objects[name])}"'
        result = f"<CopyObjectResult><ETag>{etag}</ETag></CopyObjectResult>".encode() if source else b""
        self.answer(200, result, ETag=etag)

    def do_DELETE(self):
        if (name := self.key()) is not None:
            self.objects.pop(name, None)
            self.answer(204)

    def listing(self):
        prefix = "/talks/" + self.query.get("prefix", "")
        rows = [
            f"<Contents><Key>{escape(name.removeprefix('/talks/'))}</Key><Size>{len(data)}</Size>"
            f"<LastModified>2026-03-01T09:00:00.000Z</LastModified><ETag>&quot;{md5(data)}&quot;</ETag></Contents>"
            for name, data in sorted(self.objects.items())
            if name.startswith(prefix)
        ]
        self.answer(
            200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(rows)}</ListBucketResult>".encode()
        )


def md5(data):
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def start():
    """Start it; returns the server (with `objects` and `requests`), to be shut down."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bucket)
    server.objects, server.requests = {}, []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
