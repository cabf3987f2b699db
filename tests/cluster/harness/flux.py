"""Flux: its kustomize-controller and helm-controller, real, and what its sources lead to (source.py). `cluster flux` adds them, and
all that the repository to fork (gitops/) asks of the world: Istio's charts in two versions, a Prometheus's chart, and images.

Built by the first `cluster flux`, which takes minutes, and not by `up`: no other test needs them.
"""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import install
import programs
from layout import BIN, FLUX, FLUX_STATE, ISTIO, ISTIO_PREVIOUS, REPOSITORY, STAMPS
from programs import Build
from report import say

PROGRAMS = (*programs.FLUX_CONTROLLERS, *programs.PREVIOUS, "hey")
# Only for its definitions: the program itself does not build from modules.
SOURCES = Build("source-controller", "github.com/fluxcd/source-controller", {})
DEFINED = (*(build for build in programs.BUILDS if build.module in programs.FLUX_CONTROLLERS), SOURCES)
GITOPS = REPOSITORY / "gitops"
BASH, SH, CURL = Path("/bin/bash"), Path("/bin/sh"), Path("/usr/bin/curl")


def missing():
    return programs.missing(PROGRAMS) + ["definitions"] * (not are_definitions_there())


def build():
    programs.build(PROGRAMS)
    programs.link("envoy-previous", "envoy", "previous")
    programs.link("prometheus", "prometheus", "prometheus")
    definitions()


def pins():
    return " ".join(build.version() for build in DEFINED)


def are_definitions_there():
    stamp = STAMPS / "flux"
    return FLUX.exists() and stamp.exists() and stamp.read_text(encoding="utf8") == pins()


def definitions():
    """Copies the definitions of Flux's kinds out of its modules."""
    if are_definitions_there():
        return
    shutil.rmtree(FLUX, ignore_errors=True)
    FLUX.mkdir()
    for build in DEFINED:
        for path in (programs.source_of(build) / "config/crd/bases").glob("*.yaml"):
            shutil.copyfile(path, FLUX / path.name)
    (STAMPS / "flux").write_text(pins(), encoding="utf8")


def add(start_service):
    """Inside: what a cluster of `cluster up bare` or `cluster up` lacks."""
    for name in programs.FLUX_CONTROLLERS:
        install.load(f"{install.HUB}/{name}:1", ["/manager"], [(BIN / name, "/manager")])
    install.run("kubectl", "apply", "--server-side", "--force-conflicts", "-f", FLUX)
    install.run("kubectl", "apply", "-f", install.MANIFESTS / "flux.yaml")
    (FLUX_STATE / "charts").mkdir(parents=True, exist_ok=True)
    world()
    start_service("flux-source")
    for name in programs.FLUX_CONTROLLERS:
        install.rollout("flux-system", name)


def world():
    """What gitops/ asks of the world, under the names by which it does."""
    version = published("clusters/production/istio/istio-version.yaml", r"^ +version: (\S+)")
    istio(version, "envoy-previous", "-previous", ISTIO_PREVIOUS)
    istio(following(version), "envoy", "", ISTIO)
    chart(install.MANIFESTS / "prometheus", published("monitoring/prometheus.yaml", r"^ +version: (\S+)").replace("x", "0.0"))
    install.load(f"{install.HUB}/prometheus:1", ["/prometheus"], [(BIN / "prometheus", "/prometheus")])
    install.run("helm", "repo", "index", FLUX_STATE / "charts")
    name, tag = published("apps/backend/kustomization.yaml", r"name: (\S+)\n +newTag: (\S+)")
    for release in (tag, following(tag)):
        # The same program under two tags: what a tag stands for is nobody's business here but the cluster's.
        install.load(f"{name}:{release}", ["/podinfo"], [(BIN / "podinfo", "/podinfo")])
    tester = published("apps/loadtester/deployment.yaml", r"^ +image: (\S+)")
    install.load(tester, ["/loadtester"], [(BIN / "loadtester", "/loadtester"), (BIN / "hey", "/usr/local/bin/hey"),
                                          (BASH, BASH), (BASH, SH), (CURL, CURL), (shutil.which("grep"), "/bin/grep")])
    say("charts and images of gitops/ are there")


def published(path, pattern):
    """What a file of gitops/ names."""
    found = re.search(pattern, (GITOPS / path).read_text(encoding="utf8"), re.M).groups()
    return found if len(found) > 1 else found[0]


def following(version):
    head, _, last = version.rpartition(".")
    return f"{head}.{int(last) + 1}"


def istio(version, envoy, suffix, charts):
    """Istio under a version: its charts say which images they want, as the project's own releases do."""
    for name, (entrypoint, files) in install.istio_images(suffix, charts).items():
        files = {BIN / envoy if source == BIN / "envoy" else source: target for source, target in files.items()}
        install.load(f"{install.HUB}/{name}:{version}", [entrypoint], files.items())
    for folder in programs.CHARTS:
        chart(charts / folder, version)


def chart(folder, version):
    with tempfile.TemporaryDirectory() as work:
        copy = Path(work) / "chart"
        shutil.copytree(folder, copy)
        values = copy / "values.yaml"
        text = values.read_text(encoding="utf8")
        text = re.sub(r"^(\s+hub:) \S+[/-]testing$", rf"\1 {install.HUB}", text, flags=re.M)
        values.write_text(re.sub(r"^(\s+tag:) latest$", rf"\1 {version}", text, flags=re.M), encoding="utf8")
        subprocess.run(["helm", "package", copy, "--version", version, "--app-version", version, "--destination", FLUX_STATE / "charts"],
                       check=True, capture_output=True)
