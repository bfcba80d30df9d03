#!/usr/bin/env python3
"""The upload service again, with Python's standard library and the epitaph command.

    POST /process   the note; answers with contents, summary and plan as JSON
    GET  /healthz

$EPITAPH_SESSIONS and $EPITAPH_LEDGER say where sessions and ledger lie, $EPITAPH
where the command is. Each request has a session of its own, which belongs to this
process: should it die, `epitaph session sweep` takes what it left behind, and so
does the next start.
"""
import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from convert import convert

EPITAPH = os.environ.get("EPITAPH", "epitaph")
MOST_NOTE = 10 << 20


def epitaph(*args: str) -> tuple[int, dict]:
    """Runs a session command; returns its status and its JSON."""
    done = subprocess.run([EPITAPH, "session", *args, "--json"], stdout=subprocess.PIPE, check=False)
    return done.returncode, json.loads(done.stdout or b"{}")


class Session:
    """A session as a context: made on entering, disposed of on leaving, also by an exception."""

    def __enter__(self) -> Path:
        status, made = epitaph("new", "--ttl", "10m", "--owner", str(os.getpid()))
        if status != 0:
            raise RuntimeError("no session could be made")
        self.id = made["id"]
        return Path(made["path"])

    def __exit__(self, *_):
        status, ended = epitaph("delete", self.id)
        # Counts and codes only: an id or a name could tell of a person.
        said = {k: ended.get(k) for k in ("state", "reason", "files_gone", "files_left", "files_unknown")}
        print(json.dumps({"event": "upload_ended", "status": status, **said}), file=sys.stderr, flush=True)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, b"ok\n") if self.path == "/healthz" else self.answer(404, b"")

    def do_POST(self):
        if self.path != "/process":
            return self.answer(404, b"")
        size = int(self.headers.get("Content-Length") or 0)
        if not 0 <= size <= MOST_NOTE:
            return self.answer(413, b"")
        with Session() as session:
            with open(os.open(session / "note.txt", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as note:
                note.write(self.rfile.read(size))
            try:
                documents = convert(session)
            except (UnicodeDecodeError, OSError):
                return self.answer(400, b"the note could not be processed\n")
            self.answer(200, json.dumps(documents).encode() + b"\n")
            self.wfile.flush()

    def answer(self, status: int, body: bytes):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """The default would log addresses and paths."""


class Server(ThreadingHTTPServer):
    daemon_threads = False  # closing waits for requests, and for their sessions


if __name__ == "__main__":
    os.umask(0o077)
    if os.path.isdir(os.environ["EPITAPH_SESSIONS"]):
        epitaph("sweep")
    server = Server(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
    server.server_close()
