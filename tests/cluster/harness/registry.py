"""A registry as `helm push` and source-controller need one: the paths of the OCI distribution specification for a whole push and a
pull, without authentication, ranges or deletion. Mixed into a handler of HTTP requests that has a folder, `store`."""

import hashlib
import json
import secrets
from urllib.parse import parse_qs, urlsplit

# What a manifest is that does not say it, as Helm's.
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def blob(store, digest):
    return store / "blobs" / digest.replace(":", "-")


def tags(store, name):
    folder = store / "manifests" / name
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("sha256:")) if folder.is_dir() else []


def manifest(store, name, reference):
    """The digest and the content of a manifest."""
    data = (store / "manifests" / name / reference).read_bytes()
    return digest_of(data), json.loads(data)


def digest_of(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Registry:
    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self, status, body=b"", headers=None):
        self.send_response(status)
        for item in (headers or {}).items():
            self.send_header(*item)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def place(self):
        """The name, the kind and the reference that a path is about: /v2/NAME/KIND/REFERENCE."""
        return urlsplit(self.path).path.removeprefix("/v2/").rsplit("/", 2)

    def pull(self):
        if self.path == "/v2/":
            return self.answer(200)
        name, kind, reference = self.place()
        if (kind, reference) == ("tags", "list"):
            return self.answer(200, json.dumps({"name": name, "tags": tags(self.store, name)}).encode())
        file = blob(self.store, reference) if kind == "blobs" else self.store / "manifests" / name / reference
        if not file.is_file():
            return self.answer(404)
        data = file.read_bytes()
        kind = "application/octet-stream" if kind == "blobs" else json.loads(data).get("mediaType", MANIFEST)
        return self.answer(200, data, {"Docker-Content-Digest": digest_of(data), "Content-Type": kind})

    def begin(self):
        """An upload: what is pushed comes with the next request."""
        self.body()
        name = urlsplit(self.path).path.removeprefix("/v2/").removesuffix("/blobs/uploads/")
        self.answer(202, headers={"Location": f"/v2/{name}/uploads/{secrets.token_hex(8)}"})

    def push(self):
        name, kind, reference = self.place()
        data = self.body()
        digest = digest_of(data)
        if kind == "uploads" and parse_qs(urlsplit(self.path).query)["digest"] != [digest]:
            return self.answer(400)
        files = [blob(self.store, digest)] if kind == "uploads" else [self.store / "manifests" / name / it for it in (reference, digest)]
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        return self.answer(201, headers={"Docker-Content-Digest": digest, "Location": f"/v2/{name}/blobs/{digest}"})
