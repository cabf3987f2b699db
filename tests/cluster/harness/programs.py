"""Builds the programs that the cluster runs, from modules pinned in modules/, into the cache.

A module's programs are one call of the Go tool, which then shares the packages between them and links one while it compiles
another; modules come one after the other, because two calls at a time would compile what they share twice and need twice the
memory. A stamp beside each program says what it was built from: a changed pin builds it again.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from layout import BIN, CACHE, FLAGGER, HARNESS, ISTIO, ISTIO_PREVIOUS, REPOSITORY, SOURCE, STAMPS
from machine import COMPILER
from report import Trouble, say


@dataclass(frozen=True)
class Build:
    """Programs of one module that are built alike: name -> package."""

    module: str
    pin: str
    programs: dict
    tags: str = ""
    # The linker's variables; {version} is the pinned version, {major} and {minor} its first two numbers.
    variables: dict = field(default_factory=dict)
    # Built where somebody asks for it by name, and not by every `up`.
    on_demand: bool = False

    @property
    def folder(self):
        return SOURCE / "modules" / self.module

    def stamp(self):
        known = [(self.folder / name).read_bytes() for name in ("go.mod", "go.sum")]
        return hashlib.sha256(b"\0".join([*known, repr((self.tags, self.variables)).encode()])).hexdigest()

    def missing(self):
        return [name for name in self.programs if not is_built(name, self.stamp())]

    def version(self):
        return re.search(rf"^\s*{re.escape(self.pin)} (v\S+)", (self.folder / "go.mod").read_text(encoding="utf8"), re.M).group(1)


def istio(module, suffix, **more):
    """Istio's programs of one version. The tags are those of its own release."""
    programs = (("pilot-discovery", "vtprotobuf,disable_pgv"), ("pilot-agent", "agent,disable_pgv,grpcnotrace,retrynotrace"))
    return [Build(module, "istio.io/istio", {name + suffix: f"istio.io/istio/pilot/cmd/{name}"}, tags, **more) for name, tags in programs]


KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
VERSION = "k8s.io/component-base/version"
FLUX_CONTROLLERS = ("kustomize-controller", "helm-controller")
BUILDS = (
    Build("etcd", "go.etcd.io/etcd/server/v3", {"etcd": "go.etcd.io/etcd/server/v3"}),
    Build("kubernetes", "k8s.io/kubernetes", {name: f"k8s.io/kubernetes/cmd/{name}" for name in KUBERNETES},
          # Clients and Helm charts parse what the server says that it is.
          variables={f"{VERSION}.gitVersion": "{version}", f"{VERSION}.gitMajor": "{major}", f"{VERSION}.gitMinor": "{minor}"}),
    Build("coredns", "github.com/coredns/coredns", {"coredns": "github.com/coredns/coredns"}),
    Build("helm", "helm.sh/helm/v3", {"helm": "helm.sh/helm/v3/cmd/helm"}),
    *istio("istio", ""),
    *istio("istio-previous", "-previous", on_demand=True),
    Build("podinfo", "github.com/stefanprodan/podinfo", {"podinfo": "github.com/stefanprodan/podinfo/cmd/podinfo"}),
    Build("loadtester", "github.com/fluxcd/flagger", {"loadtester": "github.com/fluxcd/flagger/cmd/loadtester"}),
    Build("flagger", "github.com/fluxcd/flagger", {"flagger": "github.com/fluxcd/flagger/cmd/flagger"}, on_demand=True),
    *(Build(name, f"github.com/fluxcd/{name}", {name: f"github.com/fluxcd/{name}"}, on_demand=True) for name in FLUX_CONTROLLERS),
    # What the load tester is told to run.
    Build("hey", "github.com/rakyll/hey", {"hey": "github.com/rakyll/hey"}, on_demand=True),
)
# What is taken from Istio's modules beside the programs, and where it is put.
PREVIOUS = ("pilot-discovery-previous", "pilot-agent-previous")
ISTIOS = {folder.name: folder for folder in (ISTIO, ISTIO_PREVIOUS)}
CHARTS = ("base", "istio-control/istio-discovery", "gateway")
# Flagger's own, which installs it with the rights that it has.
FLAGGER_BUILD = next(build for build in BUILDS if build.module == "flagger")
BOOTSTRAP = "tools/packaging/common/envoy_bootstrap.json"
PAUSE = HARNESS / "pause.c"
STAGE = CACHE / "building"


def is_built(name, stamp):
    return (BIN / name).exists() and (STAMPS / name).exists() and (STAMPS / name).read_text(encoding="utf8") == stamp


def wanted(names):
    """The builds of every cluster, and those that have one of these names."""
    unknown = [name for name in names if not any(name in build.programs for build in BUILDS)]
    if unknown:
        raise Trouble(f"there is no program {unknown[0]}; there are {', '.join(name for build in BUILDS for name in build.programs)}")
    return [build for build in BUILDS if not build.on_demand or set(names) & set(build.programs)]


def missing(names=()):
    builds = wanted(names)
    extras = ["pause"] * (not is_pause_built()) + ["charts" for build in builds if build.module in ISTIOS and not are_charts_there(build)]
    return [name for build in builds for name in build.missing()] + extras


def build(names=()):
    """Builds whatever is missing, and these. Where nothing is, nobody who builds something else is waited for."""
    if not missing(names) and (BIN / "envoy").exists():
        return
    for folder in (BIN, STAMPS):
        folder.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another process that builds")
            fcntl.flock(file, fcntl.LOCK_EX)
        todo = [build for build in wanted(names) if build.missing()]
        for number, item in enumerate(todo, 1):
            compile_go(item, f"[{number}/{len(todo)}]")
        pause()
        for item in wanted(names):
            if item.module in ISTIOS:
                charts(item)
        if FLAGGER_BUILD in wanted(names):
            flaggers_chart()
        envoy()


def compile_go(build, position):
    names = build.missing()
    say(f"{position} building {', '.join(names)} ({build.module} {build.version()})")
    version = build.version()
    major, minor = version.lstrip("v").split(".")[:2]
    variables = [f"-X {name}={value.format(version=version, major=major, minor=minor)}" for name, value in build.variables.items()]
    began = time.monotonic()
    # Emptied at the start and not only at the end, which a killed build does not see.
    shutil.rmtree(STAGE, ignore_errors=True)
    STAGE.mkdir()
    command = ["go", "build", "-v", "-trimpath", "-tags", build.tags, "-ldflags", " ".join(["-s -w", *variables]),
               "-o", f"{STAGE}/", *(build.programs[name] for name in names)]
    # Programs without C libraries run in an image that holds nothing else.
    environment = dict(os.environ, CGO_ENABLED="0", GOFLAGS="-mod=readonly", GOWORK="off")
    with subprocess.Popen(command, cwd=build.folder, env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        tail = watch(process.stdout, began)
    if process.returncode:
        raise Trouble(f"building {build.module} failed:\n" + "".join(tail))
    for name in names:
        os.replace(STAGE / program_of(build.programs[name]), BIN / name)
        (STAMPS / name).write_text(build.stamp(), encoding="utf8")
    shutil.rmtree(STAGE)
    say(f"{position} built {', '.join(names)} in {time.monotonic() - began:.0f} s")


def program_of(package):
    """The name that the Go tool gives a package's program."""
    return re.sub(r"/v\d+$", "", package).rsplit("/", 1)[1]


def watch(lines, began):
    """Reads what the Go tool says, shows now and then how far it is, and returns the last of it."""
    terminal = sys.stderr.isatty()
    counts, tail, done = {"downloaded": 0, "compiled": 0}, [], threading.Event()

    def show():
        while not done.wait(1 if terminal else 20):
            parts = [f"{time.monotonic() - began:4.0f} s", f"{counts['compiled']} packages compiled"]
            parts += [f"{counts['downloaded']} modules downloaded"] * bool(counts["downloaded"])
            parts += ["linked " + " ".join(sorted(os.listdir(STAGE)))] * bool(os.listdir(STAGE))
            text = "    " + ", ".join(parts)
            print(f"\r\033[K{text}" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)
        if terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    reporter = threading.Thread(target=show)
    reporter.start()
    try:
        for line in lines:
            counts["downloaded" if line.startswith("go: downloading") else "compiled"] += 1
            tail = [*tail, line][-30:]
    finally:
        done.set()
        reporter.join()
    return tail


def is_pause_built():
    return is_built("pause", hashlib.sha256(PAUSE.read_bytes()).hexdigest())


def pause():
    """Builds the program that holds a pod's namespaces open."""
    if not is_pause_built():
        compiler = next(filter(None, map(shutil.which, COMPILER)))
        subprocess.run([compiler, "-Os", "-o", BIN / "pause", PAUSE], check=True)
        (STAMPS / "pause").write_text(hashlib.sha256(PAUSE.read_bytes()).hexdigest(), encoding="utf8")


def are_charts_there(build):
    stamp = STAMPS / f"charts-of-{build.module}"
    return ISTIOS[build.module].exists() and stamp.exists() and stamp.read_text(encoding="utf8") == build.version()


def charts(build):
    """Copies Istio's charts and its Envoy bootstrap, so that a built cluster starts without Go and its caches."""
    if are_charts_there(build):
        return
    folder, source = ISTIOS[build.module], source_of(build)
    shutil.rmtree(folder, ignore_errors=True)
    for chart in CHARTS:
        shutil.copytree(source / "manifests/charts" / chart, folder / chart, copy_function=shutil.copyfile)
    shutil.copyfile(source / BOOTSTRAP, folder / "envoy_bootstrap.json")
    (STAMPS / f"charts-of-{build.module}").write_text(build.version(), encoding="utf8")


def source_of(build):
    """The folder of a module's sources."""
    said = subprocess.run(["go", "mod", "download", "-json", f"{build.pin}@{build.version()}"], cwd=build.folder,
                          check=True, capture_output=True, text=True).stdout
    return Path(re.search(r'"Dir": "(.*)"', said).group(1))


def flaggers_chart():
    """Copies Flagger's chart, with its definitions."""
    stamp = STAMPS / "flagger-chart"
    if FLAGGER.exists() and stamp.exists() and stamp.read_text(encoding="utf8") == FLAGGER_BUILD.version():
        return
    shutil.rmtree(FLAGGER, ignore_errors=True)
    shutil.copytree(source_of(FLAGGER_BUILD) / "charts/flagger", FLAGGER, copy_function=shutil.copyfile)
    stamp.write_text(FLAGGER_BUILD.version(), encoding="utf8")


def envoy():
    """Links the Envoy that all of the project's tests use."""
    link("envoy", "envoy")


def link(name, tool, *arguments):
    """Links a program that a tool of the tests finds or installs."""
    found = subprocess.run([REPOSITORY / "tests/tools" / tool, *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode:
        raise Trouble(f"no {name}: see above")
    place = BIN / name
    place.unlink(missing_ok=True)
    place.symlink_to(Path(found.stdout.strip()).resolve())
