"""What vaelab uses of the HTTP interface of the Hugging Face Hub, in memory; the tests point HF_ENDPOINT at it."""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Repository:
    """Files by name, of one commit."""

    private: bool = False
    files: dict[str, bytes] = field(default_factory=dict)


class Hub(ThreadingHTTPServer):
    """A Hub with one user, whose token is `hf_good`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_request(self, *_: Any, **__: Any) -> None:
        pass

    def _reply(self, values: Any, status: int = 200, **headers: str) -> None:
        body = values if isinstance(values, bytes) else json.dumps(values).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, **headers: str) -> None:
        self._reply({"error": "refused"}, status, **headers)

    def do_POST(self) -> None:
        self.server.asked.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/validate-yaml":
            return self._reply({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != "Bearer hf_good":
            return self._refuse(401)
        if self.path == "/api/repos/create":
            values = json.loads(body)
            name = f"{values['organization']}/{values['name']}"
            if values["organization"] != "me":
                return self._refuse(403)
            if name in self.server.repositories:
                return self._reply({"url": f"{self.server.url}/{name}"}, 409)
            self.server.repositories[name] = Repository(
                values.get("visibility") == "private" or bool(values.get("private"))
            )
            return self._reply({"url": f"{self.server.url}/{name}"})
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", self.path)
        if not found:
            return self._refuse(404)
        if found[2] == "preupload":
            paths = [file["path"] for file in json.loads(body)["files"]]
            return self._reply({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.server.repositories[found[1]].files[line["value"]["path"]] = content
        self._reply({"commitUrl": f"{self.server.url}/{found[1]}/commit/{'1' * 40}", "commitOid": "1" * 40})

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        path, _, query = self.path.partition("?")
        found = re.match(r"/(?:api/models/)?([^/]+/[^/]+)(?:/resolve/[^/]+/(.*))?$", path)
        repository = self.server.repositories.get(found[1]) if found else None
        if found is None or repository is None:
            return self._refuse(401, X_Error_Code="RepoNotFound")
        if self.path.startswith("/api/models/"):
            sized = "blobs=true" in query
            siblings = [
                {"rfilename": name} | ({"size": len(content)} if sized else {})
                for name, content in repository.files.items()
            ]
            values = {"id": found[1], "private": repository.private, "sha": "1" * 40, "siblings": siblings}
            return self._reply(values)
        content = repository.files[found[2]]
        self._reply(content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', X_Repo_Commit="1" * 40)

    do_HEAD = do_GET  # noqa: N815
