"""Packs programs and files into an OCI image archive, with the shared libraries that they need and nothing else.

The same content gives the same bytes, and so the same digest: loading it again changes nothing.
"""

import hashlib
import io
import json
import os
import platform
import subprocess
import tarfile
from pathlib import Path

from report import Trouble

MEDIA = "application/vnd.oci.image."
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}
# Pods run as this user unless their manifest says otherwise; it is the one that Istio uses.
USER = "1337:1337"
WRITABLE = ("tmp", "run")


def full_name(name):
    """The name that the container runtime makes of a name in a manifest: nginx:1 is docker.io/library/nginx:1."""
    repository, _, tag = name.rpartition(":")
    if not repository or "/" in tag or tag == "latest":
        raise Trouble(f"image {name}: give it a tag, and not latest, which the kubelet would try to pull")
    first, _, rest = repository.partition("/")
    if not rest:
        repository = f"docker.io/library/{repository}"
    elif "." not in first and ":" not in first and first != "localhost":
        repository = f"docker.io/{repository}"
    return f"{repository}:{tag}"


def pack(out, name, entrypoint, pairs, user=USER):
    """Writes the archive to a file object: pairs of a path here (also a folder) and its path in the image."""
    files = {}
    for source, target in pairs:
        files.update(collect(Path(source), Path(target)))
    layer = Blob("layer.v1.tar", archive_of(files))
    config = Blob("config.v1+json", json.dumps({
        "architecture": ARCHITECTURE[platform.machine()],
        "os": "linux",
        "config": {"User": user, "Entrypoint": entrypoint, "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
    }).encode())
    manifest = Blob("manifest.v1+json", json.dumps({
        "schemaVersion": 2, "mediaType": MEDIA + "manifest.v1+json", "config": config.descriptor(), "layers": [layer.descriptor()],
    }).encode())
    entry = dict(manifest.descriptor(), annotations={"io.containerd.image.name": full_name(name)})
    with tarfile.open(fileobj=out, mode="w|") as tar:
        add(tar, "oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
        add(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode())
        for blob in (layer, config, manifest):
            add(tar, "blobs/" + blob.digest.replace(":", "/"), blob.data)


class Blob:
    """Content that is addressed by its digest."""

    def __init__(self, kind, data):
        self.kind, self.data = kind, data
        self.digest = "sha256:" + hashlib.sha256(data).hexdigest()

    def descriptor(self):
        return {"mediaType": MEDIA + self.kind, "digest": self.digest, "size": len(self.data)}


def collect(source, target):
    """What an image gets for one path: target -> source."""
    if source.is_dir():
        return {target / path.relative_to(source): path for path in source.rglob("*") if path.is_file()}
    if not source.is_file():
        raise Trouble(f"there is no {source} to pack")
    return {target: source, **libraries(source)}


def libraries(program):
    """The shared libraries of a program, and the loader that starts it, at the paths where it looks for them."""
    with open(program, "rb") as file:
        if file.read(4) != b"\x7fELF":
            return {}
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    if "not found" in said:
        raise Trouble(f"{program} lacks libraries on this machine:\n{said}")
    paths = [next((word for word in line.split() if word.startswith("/")), None) for line in said.splitlines()]
    return {Path(path): Path(os.path.realpath(path)) for path in filter(None, paths)}


def archive_of(files):
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for name in WRITABLE:
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(folder)
        for target, source in sorted(files.items()):
            add(tar, str(target).lstrip("/"), source.read_bytes(), 0o755 if os.access(source, os.X_OK) else 0o644)
    return layer.getvalue()


def add(tar, path, data, mode=0o644):
    info = tarfile.TarInfo(path)
    info.size, info.mode = len(data), mode
    tar.addfile(info, io.BytesIO(data))
