"""What the machine must have, checked before anything is started, so that a person learns all of it at once."""

import os
import platform
import re
import shutil
import subprocess
import sys

import cgroups
from layout import CACHE, REPOSITORY
from report import Trouble, say

GIB = 1 << 30
# Measured: the cluster takes 1.6 GiB when it is up, 0.9 of it images in memory; linking the API server takes 1.8 GiB, and two
# programs may be linked at a time.
MEMORY_BUILT, MEMORY_TO_BUILD = 3 * GIB, 5 * GIB
# Measured: 1 GiB for what is cached, and 9 GiB for the Go tool's own caches of modules and packages.
DISK_BUILT, DISK_TO_BUILD = 2 * GIB, 12 * GIB

# Debian package -> a program of it.
PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "nftables": "nft",
    "iproute2": "ip",
    "util-linux": "setpriv",
    "openssl": "openssl",
    "procps": "ps",
}
PLUGINS = ("/usr/lib/cni", "/opt/cni/bin")
COMPILER = ("gcc", "cc")


def plugins():
    """The folder of the CNI plugins."""
    return next((folder for folder in PLUGINS if os.path.exists(folder + "/ptp")), None)


def require(to_build):
    problems = list(filter(None, [*host(), *tools(to_build), *room(to_build)]))
    if problems:
        raise Trouble("this machine cannot host the cluster:\n" + "\n".join(f"  - {problem}" for problem in problems))
    install(to_build)


def host():
    if platform.system() != "Linux":
        yield f"it is {platform.system()}; the cluster needs Linux (tests/cluster/README.md says how to use another cluster)"
        return
    if platform.machine() not in ("x86_64", "aarch64"):
        yield f"its processor is {platform.machine()}; Envoy is packaged for x86_64 and aarch64"
    if sys.version_info < (3, 9):
        yield f"its Python is {platform.python_version()}; 3.9 or newer is needed"
    if os.geteuid() != 0:
        yield 'you are not root: sudo --preserve-env env "PATH=$PATH" make cluster'
        return
    yield cgroups.problem()
    for namespace in ("mnt", "net", "pid", "ipc", "cgroup"):
        if not os.path.exists(f"/proc/self/ns/{namespace}"):
            yield f"its kernel has no {namespace} namespaces"
    with open("/proc/filesystems", encoding="utf8") as file:
        if "\toverlay\n" not in file.read() and subprocess.run(["modprobe", "overlay"], capture_output=True, check=False).returncode:
            yield "its kernel has no overlay filesystem"


def tools(to_build):
    if not to_build:
        return
    if not shutil.which("go"):
        yield "Go is not on PATH; install Go 1.26 or newer"
    else:
        said = subprocess.run(["go", "env", "GOVERSION"], cwd="/", capture_output=True, text=True, check=False).stdout
        found = re.match(r"go(\d+)\.(\d+)", said)
        if not found or tuple(map(int, found.groups())) < (1, 26):
            yield f"its Go is {said.strip() or 'broken'}; 1.26 or newer is needed"


def room(to_build):
    with open("/proc/meminfo", encoding="utf8") as file:
        free = int(re.search(r"MemAvailable:\s+(\d+)", file.read()).group(1)) * 1024
    needed = MEMORY_TO_BUILD if to_build else MEMORY_BUILT
    if free < needed:
        yield f"{free / GIB:.1f} GiB of memory are available; {needed // GIB} GiB are needed"
    folder = CACHE
    while not folder.exists():
        folder = folder.parent
    disk, needed = shutil.disk_usage(folder).free, DISK_TO_BUILD if to_build else DISK_BUILT
    if disk < needed:
        yield f"{disk / GIB:.1f} GiB are free at {folder}; {needed // GIB} GiB are needed (XDG_CACHE_HOME moves the cache)"


def install(to_build):
    """Installs the packages that are missing, or says which."""
    missing = [package for package, program in PACKAGES.items() if not shutil.which(program)]
    if not plugins():
        missing.append("containernetworking-plugins")
    if to_build and not any(map(shutil.which, COMPILER)):
        missing += ["gcc", "libc6-dev"]
    if missing:
        say("installing " + " ".join(missing))
        if subprocess.run([REPOSITORY / "tests/tools/packages", *missing], check=False).returncode:
            raise Trouble("install by the machine's own means what these Debian packages hold: " + " ".join(missing))
