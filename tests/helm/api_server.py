"""A little of a Kubernetes API server, on loopback: Secrets of one namespace, with a token, over TLS."""

from __future__ import annotations

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class ApiServer:
    """Serves with the block; ``secrets`` is what it holds, ``account`` what a pod gets to reach it with."""

    def __init__(self, folder: Path, certificates: dict[str, bytes], namespace: str) -> None:
        self.secrets: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.forbidden: set[str] = set()
        self.account = folder / "account"
        self.account.mkdir()
        self.path = f"/api/v1/namespaces/{namespace}/secrets"
        for name, content in {"namespace": namespace, "token": "a-token\n", "ca.crt": certificates["ca.crt"]}.items():
            (self.account / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        for name in ("tls.crt", "tls.key"):
            (folder / name).write_bytes(certificates[name])
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)

    @property
    def environment(self) -> dict[str, str]:
        """What Kubernetes tells every container."""
        return {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self.server.server_address[1]),
        }

    def __enter__(self) -> ApiServer:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, method: str, path: str, token: str, content: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and object, as the real one would give them."""
        self.requests.append(f"{method} {path.removeprefix(self.path)}")
        name = path.removeprefix(self.path).strip("/")
        if token != "Bearer a-token":
            return 401, {"message": "Unauthorized"}
        if method in self.forbidden or not path.startswith(self.path):
            return 403, {"message": f'secrets "{name}" is forbidden: User can not {method.lower()}'}
        if method == "POST":
            if content["metadata"]["name"] in self.secrets:
                return 409, {"message": "already exists"}
            self.secrets[content["metadata"]["name"]] = content
            return 201, content
        if name not in self.secrets:
            return 404, {"message": f'secrets "{name}" not found'}
        if method == "PATCH":
            self.secrets[name]["data"] |= content["data"]
        return 200, self.secrets.pop(name) if method == "DELETE" else self.secrets[name]


def _handler(api: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            token = self.headers.get("Authorization", "")
            status, content = api.answer(self.command, self.path, token, json.loads(body or b"{}"))
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    return Handler
