"""What Flux's sources lead to, in a cluster that nothing leads out of: a Git server, a registry of charts, a repository of
charts, and a stand-in for source-controller that reads them.

    http://ADDRESS:PORT/git/NAME.git    clone and push, by `git http-backend`; any name, made when it is first asked for
    oci://ADDRESS:PORT/NAME             pull and push (registry.py)
    http://ADDRESS:PORT/charts          charts in FOLDER/charts, with their index
    http://ADDRESS:PORT/artifacts/...   what Flux's controllers fetch

Once a second the stand-in looks at every GitRepository, HelmRepository, OCIRepository and HelmChart, makes the artifact that
source-controller would make, without symbolic links as there, and writes the status as the API of sources defines it. Branches
only; no verification, `ignore`, `include` or `valuesFiles`; `interval` is not used, so that a push counts as a webhook would.
"""

import datetime
import functools
import hashlib
import io
import json
import os
import ssl
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import urllib.request
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import registry
from layout import FLUX_PORT, FLUX_STATE, KUBECONFIG, NODE_IP

URL = f"http://{NODE_IP}:{FLUX_PORT}"
OCI = f"oci://{NODE_IP}:{FLUX_PORT}/"
API = "/apis/source.toolkit.fluxcd.io/v1"
# Its argument is the folder of the cluster's programs: a service has no home, and so no cache to look for them in.
ENVIRONMENT = dict(os.environ, PATH=f"{sys.argv[1]}:{os.environ['PATH']}", HELM_CACHE_HOME=f"{FLUX_STATE}/helm", HELM_CONFIG_HOME=f"{FLUX_STATE}/helm")


class Unready(Exception):
    """Why a source has no artifact."""


def run(*command, **options):
    try:
        return subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT, **options).stdout
    except subprocess.CalledProcessError as error:
        said = error.stderr if isinstance(error.stderr, str) else error.stderr.decode()
        raise Unready(f"{command[0]}: {said.strip()}") from error


class Handler(registry.Registry, SimpleHTTPRequestHandler):
    """Everything at one address; methods of /v2/ are the registry's."""

    protocol_version = "HTTP/1.1"
    store = FLUX_STATE / "registry"

    def __init__(self, *arguments):
        super().__init__(*arguments, directory=str(FLUX_STATE))

    def do_GET(self):
        if self.path.startswith("/git/"):
            self.git()
        elif self.path.startswith("/v2/"):
            self.pull()
        elif self.path.startswith(("/artifacts/", "/charts/")):
            super().do_GET()
        else:
            self.send_error(404)

    def do_HEAD(self):
        self.pull()

    def do_POST(self):
        self.git() if self.path.startswith("/git/") else self.begin()

    def do_PUT(self):
        self.push()

    def git(self):
        path, _, query = self.path.removeprefix("/git").partition("?")
        repository(path.split("/")[1])
        environment = dict(
            ENVIRONMENT, GIT_PROJECT_ROOT=str(FLUX_STATE / "git"), GIT_HTTP_EXPORT_ALL="1", PATH_INFO=path, QUERY_STRING=query,
            REQUEST_METHOD=self.command, CONTENT_TYPE=self.headers.get("Content-Type", ""), REMOTE_USER="git",
            REMOTE_ADDR=self.client_address[0], HTTP_CONTENT_ENCODING=self.headers.get("Content-Encoding", ""),
            GIT_PROTOCOL=self.headers.get("Git-Protocol", ""))
        said = subprocess.run(["git", "http-backend"], input=self.body(), env=environment, check=True, capture_output=True).stdout
        head, _, reply = said.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        headers.pop("Content-Length", None)
        self.answer(int(headers.pop("Status", "200").split()[0]), reply, headers)

    def log_message(self, *_):
        pass


def repository(name):
    """The folder of a repository, which begins empty."""
    folder = FLUX_STATE / "git" / name
    if not folder.exists():
        run("git", "init", "--quiet", "--bare", "--initial-branch", "main", folder)
        run("git", "--git-dir", folder, "config", "http.receivepack", "true")
    return folder


class Cluster:
    """The API server."""

    def __init__(self):
        config = json.loads(KUBECONFIG.read_text(encoding="utf8"))
        cluster = config["clusters"][0]["cluster"]
        self.server, self.token = cluster["server"], config["users"][0]["user"]["token"]
        self.tls = ssl.create_default_context(cafile=cluster["certificate-authority"])

    def call(self, method, path, body=None):
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/merge-patch+json"}
        request = urllib.request.Request(self.server + path, method=method, data=body and json.dumps(body).encode(), headers=headers)
        with urllib.request.urlopen(request, context=self.tls, timeout=10) as reply:
            return json.load(reply)


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def artifact(item, revision, name, data):
    meta = item["metadata"]
    path = f"{item['kind'].lower()}/{meta['namespace']}/{meta['name']}/{name}"
    file = FLUX_STATE / "artifacts" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    part.write_bytes(data)
    os.replace(part, file)
    return {"path": path, "url": f"{URL}/artifacts/{path}", "revision": revision, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}",
            "lastUpdateTime": now(), "size": len(data)}


def has(item, revision):
    status = item.get("status", {})
    return status.get("artifact", {}).get("revision") == revision and status.get("observedGeneration") == item["metadata"]["generation"]


# Each returns the new fields of a status, or None where nothing has changed.


def git_repository(item, _):
    address, branch = item["spec"]["url"], item["spec"].get("ref", {}).get("branch", "master")
    if not address.startswith(f"{URL}/git/"):
        raise Unready(f"{address} cannot be reached from here; {URL}/git/ can")
    folder = repository(address.rsplit("/", 1)[1])
    commit = run("git", "--git-dir", folder, "rev-parse", "--verify", f"refs/heads/{branch}", text=True).strip()
    revision = f"{branch}@sha1:{commit}"
    if has(item, revision):
        return None
    tree = run("git", "--git-dir", folder, "archive", "--format=tar", commit + "^{tree}")
    return {"artifact": artifact(item, revision, f"{commit}.tar.gz", without_links(tree))}


def without_links(tree):
    """source-controller puts regular files and folders into its archives, and leaves out all else."""
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(tree)) as source, tarfile.open(fileobj=out, mode="w:gz") as archive:
        for member in source:
            if member.isfile() or member.isdir():
                archive.addfile(member, source.extractfile(member) if member.isfile() else None)
    return out.getvalue()


def helm_repository(item, _):
    if item["spec"]["url"] != f"{URL}/charts":
        raise Unready(f"{item['spec']['url']} cannot be reached from here; {URL}/charts can")
    index = (FLUX_STATE / "charts" / "index.yaml").read_bytes()
    revision = f"sha256:{hashlib.sha256(index).hexdigest()}"
    return None if has(item, revision) else {"artifact": artifact(item, revision, "index.yaml", index)}


def oci_repository(item, _):
    address, spec = item["spec"]["url"], item["spec"]
    if not address.startswith(OCI):
        raise Unready(f"{address} cannot be reached from here; {OCI} can")
    name, reference = address.removeprefix(OCI), spec.get("ref", {})
    tag = newest(registry.tags(Handler.store, name), reference["semver"]) if "semver" in reference else reference.get("tag", "latest")
    digest, manifest = registry.manifest(Handler.store, name, tag)
    revision = f"{tag}@{digest}"
    if has(item, revision):
        return None
    wanted = spec.get("layerSelector", {}).get("mediaType")
    layer = next((layer for layer in manifest["layers"] if layer["mediaType"] == wanted or not wanted), None)
    if not layer:
        raise Unready(f"{tag} has no layer of the type {wanted}")
    data = registry.blob(Handler.store, layer["digest"]).read_bytes()
    return {"artifact": artifact(item, revision, f"{digest.removeprefix('sha256:')[:12]}.tar.gz", data)}


def numbers(version):
    return [int(part) if part.isdigit() else -1 for part in version.split(".")]


def newest(versions, wanted):
    """The newest of some versions that a range takes: 1.2.3, 1.2.x, 1.x."""
    kept = [part for part in wanted.split(".") if part != "x"]
    fitting = [version for version in versions if version.split(".")[:len(kept)] == kept]
    if not fitting:
        raise Unready(f"there is no version {wanted} among {', '.join(versions) or 'none'}")
    return max(fitting, key=numbers)


def helm_chart(item, sources):
    spec, meta = item["spec"], item["metadata"]
    reference = spec["sourceRef"]
    source = sources.get((reference["kind"], meta["namespace"], reference["name"]), {}).get("status", {}).get("artifact")
    if not source:
        raise Unready(f"{reference['kind']} {reference['name']} has no artifact")
    seen = item.get("status", {}).get("observedSourceArtifactRevision")
    if seen == source["revision"] and item.get("status", {}).get("observedGeneration") == meta["generation"]:
        return None
    name, version, data = (packaged if reference["kind"] == "GitRepository" else listed)(spec, source)
    fields = {"observedSourceArtifactRevision": source["revision"], "observedChartName": name}
    if not has(item, version):
        fields["artifact"] = artifact(item, version, f"{name}-{version}.tgz", data)
    return fields


def listed(spec, _):
    """A chart of the repository of charts."""
    name = spec["chart"]
    files = {path.name.removeprefix(f"{name}-").removesuffix(".tgz"): path for path in (FLUX_STATE / "charts").glob(f"{name}-*.tgz")}
    version = newest(list(files), spec["version"])
    return name, version, files[version].read_bytes()


def packaged(spec, source):
    """A chart that stands in a Git repository as files."""
    with tempfile.TemporaryDirectory() as work:
        run("tar", "-xzf", FLUX_STATE / "artifacts" / source["path"], "-C", work)
        chart = Path(work) / spec["chart"]
        about = dict(line.split(": ", 1) for line in run("helm", "show", "chart", chart, text=True).splitlines() if ": " in line)
        name, version = about["name"].strip(), about["version"].strip()
        if spec.get("reconcileStrategy") == "Revision":
            version += "+" + source["revision"].rpartition(":")[2][:12]
        run("helm", "package", chart, "--version", version, "--destination", work)
        return name, version, (Path(work) / f"{name}-{version}.tgz").read_bytes()


def reconcile(cluster, plural, item, sources, build):
    meta, status = item["metadata"], item.get("status", {})
    request = meta.get("annotations", {}).get("reconcile.fluxcd.io/requestedAt")
    old = next((it for it in status.get("conditions", []) if it["type"] == "Ready"), {})
    try:
        fields, state, reason = build(item, sources), "True", "Succeeded"
        made = (fields or {}).get("artifact") or status.get("artifact", {})
        message = f"stored artifact for revision '{made.get('revision')}'"
    except (Unready, OSError) as error:
        fields, state, reason, message = None, "False", "Failed", str(error)
    is_told = (old.get("status"), old.get("message"), status.get("observedGeneration"), status.get("lastHandledReconcileAt"))
    if not fields and is_told == (state, message, meta["generation"], request):
        return
    condition = {"type": "Ready", "status": state, "reason": reason, "message": message, "observedGeneration": meta["generation"],
                 "lastTransitionTime": old["lastTransitionTime"] if old.get("status") == state else now()}
    update = dict(fields or {}, observedGeneration=meta["generation"], conditions=[condition])
    if request:
        update["lastHandledReconcileAt"] = request
    cluster.call("PATCH", f"{API}/namespaces/{meta['namespace']}/{plural}/{meta['name']}/status", {"status": update})
    item["status"] = {**status, **update}
    print(time.strftime("%T"), item["kind"], f"{meta['namespace']}/{meta['name']}", message.strip(), flush=True)


KINDS = (("gitrepositories", git_repository), ("helmrepositories", helm_repository), ("ocirepositories", oci_repository),
         ("helmcharts", helm_chart))


def look(cluster):
    sources = {}
    for plural, build in KINDS:
        answer = cluster.call("GET", f"{API}/{plural}")
        for item in answer["items"]:
            item["kind"], meta = answer["kind"].removesuffix("List"), item["metadata"]
            if not meta.get("deletionTimestamp") and not item["spec"].get("suspend"):
                reconcile(cluster, plural, item, sources, build)
                sources[item["kind"], meta["namespace"], meta["name"]] = item


def main():
    for folder in ("git", "charts", "artifacts", "registry"):
        (FLUX_STATE / folder).mkdir(parents=True, exist_ok=True)
    server = ThreadingHTTPServer((NODE_IP, FLUX_PORT), functools.partial(Handler))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    cluster = Cluster()
    while True:
        try:
            look(cluster)
        except (OSError, ValueError, KeyError) as error:
            # Flux's kinds are not defined yet, or an object went: the next second looks again.
            print(time.strftime("%T"), type(error).__name__, error, file=sys.stderr, flush=True)
        time.sleep(1)


main()
