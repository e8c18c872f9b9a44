"""An S3 server on loopback (moto's), and a proxy before it that fails and cuts as networks do."""

import http.client
import http.server
import random
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "tests",
    "AWS_SECRET_ACCESS_KEY": "tests",
    "AWS_DEFAULT_REGION": "us-east-1",
    "NO_PROXY": "127.0.0.1",
}


class ObjectStore:
    """moto's server in a process of its own, so that tests may fork."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                assert self._process.poll() is None, "moto's server ended"
                assert time.monotonic() < deadline, "moto's server does not answer"
                time.sleep(0.05)

    def environment(self, port: int | None = None) -> dict[str, str]:
        """Where clients find it, or the proxy at another port."""
        return {**ENVIRONMENT, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}"}

    def new_bucket(self) -> str:
        name = f"b{uuid.uuid4().hex}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("PUT", f"/{name}")
        assert connection.getresponse().status == 200
        connection.close()
        return name

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


class FaultyProxy:
    """Forwards to a port of this machine; fails this share of requests and cuts that share of bodies.

    A failed request is answered with 500 or dropped, before or after it was carried out; a cut one, if it carries a
    body, reaches nobody, else half of the answer's body comes back.

    Attributes:
        failing: the share that fails, which may be changed.
        faults: how many requests met which.
        sent: bytes of bodies that came back from GETs of each path.
    """

    def __init__(self, upstream: int, *, failing: float, cutting: float, seed: int = 0) -> None:
        self.faults: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.failing = failing
        self._rng = random.Random(seed)
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except ConnectionError:  # the client was killed
                    self.close_connection = True

            def log_message(self, *_) -> None:
                pass

            def forward(self) -> None:
                proxy.serve(self, upstream, cutting)

        for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.forward)
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    def serve(self, client, upstream: int, cutting: float) -> None:
        body = client.rfile.read(int(client.headers.get("Content-Length") or 0))
        fault = self._draw(self.failing, cutting)
        if fault == "error":
            client.send_response(500)
            client.send_header("Content-Length", "0")
            client.end_headers()
            return
        if fault == "dropped" or (fault == "cut" and body):
            client.close_connection = True
            return
        connection = http.client.HTTPConnection("127.0.0.1", upstream)
        headers = {name: value for name, value in client.headers.items() if name.lower() != "connection"}
        connection.request(client.command, client.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if fault == "unanswered":
            client.close_connection = True
            return
        client.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                client.send_header(name, value)
        length = answer.getheader("Content-Length") if client.command == "HEAD" else len(content)
        client.send_header("Content-Length", str(length or 0))
        client.end_headers()
        if fault == "cut" and content:
            content, client.close_connection = content[: len(content) // 2], True
        client.wfile.write(content)
        if client.command == "GET":
            self.sent[client.path.partition("?")[0]] += len(content)

    def _draw(self, failing: float, cutting: float) -> str:
        where = self._rng.random()
        fault = "none"
        if where < failing:
            fault = self._rng.choice(["error", "dropped", "unanswered"])
        elif where < failing + cutting:
            fault = "cut"
        self.faults[fault] += 1
        return fault
