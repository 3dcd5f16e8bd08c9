"""A local stand-in of the hub's HTTP API, as much of it as publication uses, with git's and LFS's rules.

Endpoints as huggingface_hub 2.4 calls them: repos/create, refs, branch, commits, tree, preupload, commit (NDJSON),
git-lfs's batch with one PUT a file, and for downloads
revision and resolve. Branches are lists of commits; a commit maps paths to content.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Files = dict[str, bytes]
REPO = r"/api/models/(?P<repo>[^/]+/[^/]+)"


class Hub:
    """Repositories in memory and the requests that came in; `fail_after` commits it answers 503, `spoil` changes what
    comes in or goes out under that path."""

    def __init__(self) -> None:
        self.branches: dict[str, list[Files]] = {}
        self.objects: dict[str, bytes] = {}
        self.exists = False
        self.commits = self.uploads = self.downloads = 0
        self.fail_after: int | None = None
        self.spoil: str | None = None
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = self.path.partition("?")[0]
                headers: dict[str, str] = {}
                if file := re.fullmatch(r"/[^/]+/[^/]+/resolve/(?P<commit>\w+)/(?P<path>.+)", path):
                    status, content, headers = hub.resolve(**file.groupdict())
                else:
                    status, answer = hub.answer(self.command, path, body)
                    content = json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_HEAD = handle_any  # noqa: N815  the server's names

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        routes = [
            ("POST", r"/api/repos/create", self.create),
            ("POST", r"/api/validate-yaml", lambda _: (200, {"errors": [], "warnings": []})),
            ("GET", REPO + r"/refs", self.refs),
            ("POST", REPO + r"/branch/(?P<branch>[^/]+)", self.branch),
            ("GET", REPO + r"/revision/(?P<branch>[^/]+)", self.info),
            ("GET", REPO + r"/commits/(?P<branch>[^/]+)", self.log),
            ("GET", REPO + r"/tree/(?P<branch>[^/]+)", self.tree),
            ("POST", REPO + r"/preupload/(?P<branch>[^/]+)", self.preupload),
            ("POST", REPO + r"/commit/(?P<branch>[^/]+)", self.commit),
            ("POST", r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", self.batch),
            ("PUT", r"/upload/(?P<oid>\w+)", self.put),
        ]
        for verb, pattern, handle in routes:
            if verb == method and (match := re.fullmatch(pattern, path)):
                asked = {key: value for key, value in match.groupdict().items() if key != "repo"}
                return handle(body, **asked)
        return 404, {"error": f"{method} {path}"}

    def create(self, _: bytes) -> tuple[int, Any]:
        if self.exists:
            return 409, {"error": "exists", "url": f"{self.url}/castalia/pythia-tiny"}
        self.exists = True
        self.branches = {"main": [{".gitattributes": b"*.safetensors filter=lfs\n"}]}
        return 200, {"url": f"{self.url}/castalia/pythia-tiny", "name": "castalia/pythia-tiny"}

    def refs(self, _: bytes) -> tuple[int, Any]:
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": self.sha(held)}
            for name, held in self.branches.items()
        ]
        return 200, {"branches": branches, "converts": [], "tags": [], "pullRequests": []}

    def branch(self, body: bytes, branch: str) -> tuple[int, Any]:
        start = (json.loads(body or b"{}") or {}).get("startingPoint")
        main = self.branches["main"]
        held = next((main[: n + 1] for n in range(len(main)) if self.sha(main[: n + 1]) == start), main)
        self.branches[branch] = list(held)
        return 200, {}

    def log(self, _: bytes, branch: str) -> tuple[int, Any]:
        held = self.branches[branch]
        commits = [held[: n + 1] for n in reversed(range(len(held)))]
        return 200, [
            {"id": self.sha(commit), "authors": [], "date": "2026-01-01T00:00:00.000Z", "title": "", "message": ""}
            for commit in commits
        ]

    def files(self, name: str) -> Files:
        """Those of a branch, or of the commit a branch is at."""
        heads = {self.sha(held): held[-1] for held in self.branches.values()}
        return heads[name] if name in heads else self.branches[name][-1]

    def info(self, _: bytes, branch: str) -> tuple[int, Any]:
        siblings = [{"rfilename": path} for path in self.files(branch)]
        return 200, {"id": "castalia/pythia-tiny", "sha": branch, "siblings": siblings, "private": False, "tags": []}

    def resolve(self, commit: str, path: str) -> tuple[int, bytes, dict[str, str]]:
        content = self.files(commit).get(path)
        if content is None:
            return 404, b"", {"X-Error-Code": "EntryNotFound"}
        if path == self.spoil:
            content = bytes([content[0] ^ 1]) + content[1:]
        self.downloads += 1
        return 200, content, {"X-Repo-Commit": commit, "ETag": f'"{git_sha1(content)}"'}

    def tree(self, _: bytes, branch: str) -> tuple[int, Any]:
        listing = []
        for path, content in self.files(branch).items():
            entry = {"type": "file", "path": path, "size": len(content), "oid": git_sha1(content)}
            if path.endswith(".safetensors"):
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 134}
            listing.append(entry)
        return 200, listing

    def preupload(self, body: bytes, branch: str) -> tuple[int, Any]:
        assert branch in self.branches
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        return 200, {"files": files}

    def batch(self, body: bytes) -> tuple[int, Any]:
        objects = []
        for asked in json.loads(body)["objects"]:
            known = asked["oid"] in self.objects
            actions = {} if known else {"actions": {"upload": {"href": f"{self.url}/upload/{asked['oid']}"}}}
            objects.append({**asked, **actions})
        return 200, {"transfer": "basic", "objects": objects}

    def put(self, body: bytes, oid: str) -> tuple[int, Any]:
        assert hashlib.sha256(body).hexdigest() == oid
        self.objects[oid] = body
        self.uploads += 1
        return 200, {}

    def commit(self, body: bytes, branch: str) -> tuple[int, Any]:
        if self.fail_after is not None and self.commits >= self.fail_after:
            return 403, {"error": "out of order for a test"}
        files = dict(self.branches[branch][-1])
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
            if line["key"] != "header" and value["path"] == self.spoil:
                files[value["path"]] += b"spoilt"
        self.branches[branch].append(files)
        self.commits += 1
        commit = self.sha(self.branches[branch])
        return 200, {"success": True, "commitOid": commit, "commitUrl": f"{self.url}/x/y/commit/{commit}"}

    @staticmethod
    def sha(held: list[Files]) -> str:
        return hashlib.sha1(repr([sorted(files.items()) for files in held]).encode()).hexdigest()


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
