"""The first process of the cluster's namespaces: sets them up, starts the services, starts again what dies.

It is the init of a PID namespace, so when it goes, by whatever signal, the kernel ends every process of the cluster, and with the
last of them go the mounts, links, routes and rules. Nothing has to be undone, and so nothing can be left undone.

A service that has a file NAME.stopped beside its NAME.pid stays down: tests take the API server away like this.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cgroups
from layout import COVERED, DNS_IP, FRESH, LOGS, NODE_IP, POD_CIDR, SERVICE_CIDR, SERVICES, SHARED, STATE
from services import prepare, services

# What the kubelet sets for the whole kernel, and won't run without; it finds them as it wants them, and the machine keeps its own.
KERNEL = {"vm/overcommit_memory": 1, "vm/panic_on_oom": 0, "kernel/panic": 10, "kernel/panic_on_oops": 1,
          "kernel/keys/root_maxkeys": 1000000, "kernel/keys/root_maxbytes": 25000000}
# Nothing of the person's own, such as a proxy, which would be asked for every webhook.
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": str(STATE)}
INSTEAD = STATE / "instead"
# A service that dies at once is not started more often than this.
RESTART_SECONDS = 1.0


def main():
    # The keeper writes a line when this process is in its control group.
    sys.stdin.readline()
    mounts()
    network()
    prepare()
    supervise(services())


def mount(*arguments):
    # Without -n it keeps a folder of its own in /run, the machine's as long as that is not covered.
    subprocess.run(["mount", "-n", *arguments], check=True)


def mounts():
    resolver = Path("/etc/resolv.conf").resolve()
    cgroups.mount()
    for folder in COVERED:
        mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", folder)
    for folder in (STATE, SERVICES, INSTEAD):
        folder.mkdir()
    share(SHARED, STATE / "machine")
    # The kubelet and containers pass mounts on to each other; the machine, which `unshare` left, is not among their peers.
    mount("--make-rshared", "/")
    # Of its own, because the kubelet takes any mount of a filesystem for all of it.
    mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", INSTEAD)
    cover(resolver, f"nameserver {DNS_IP}\nsearch svc.cluster.local cluster.local\n")
    for name, value in KERNEL.items():
        cover(Path("/proc/sys") / name, f"{value}\n")


def share(folder, aside):
    """Covers a folder with memory that shows what the machine has there: only what is made new stays inside."""
    aside.mkdir()
    mount("--rbind", folder, aside)
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", folder)
    for entry in os.scandir(aside):
        if entry.name in FRESH:
            continue
        place = folder / entry.name
        if entry.is_symlink():
            place.symlink_to(os.readlink(entry.path))
            continue
        place.mkdir() if entry.is_dir() else place.touch()
        mount("--rbind", entry.path, place)
    subprocess.run(["umount", "--lazy", aside], check=True)
    aside.rmdir()


def cover(path, text):
    """Lets readers of a file find this text."""
    instead = INSTEAD / str(path).strip("/").replace("/", ".")
    instead.write_text(text, encoding="utf8")
    # The resolver's file may be a link into /run, which is empty by now.
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    mount("--bind", instead, path)


def network():
    """There is no way out: one address of the node on the loopback, a route for Services to it, and none for the rest."""
    ip = [
        ("link", "set", "lo", "up"),
        ("address", "add", f"{NODE_IP}/32", "dev", "lo"),
        # A Service's address needs a route to be sent at all; kube-proxy turns it into a pod's on the way.
        ("route", "add", SERVICE_CIDR, "dev", "lo", "src", NODE_IP),
        # The address of a pod that is gone is refused and not searched for.
        ("route", "add", "unreachable", POD_CIDR, "metric", "4096"),
    ]
    for command in ip:
        subprocess.run(["ip", *command], check=True)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="utf8")


def supervise(wanted):
    running, began = {}, {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        bury(running)
        for service in wanted:
            idle = service.name not in running.values() and not (SERVICES / f"{service.name}.stopped").exists()
            if idle and time.monotonic() - began.get(service.name, 0) > RESTART_SECONDS and all(map(answers, service.needs)):
                began[service.name] = time.monotonic()
                running[start(service)] = service.name
        time.sleep(0.1)


def bury(running):
    """Takes leave of every process that has ended: services, and orphans of pods and of tests."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if pid in running:
            name = running.pop(pid)
            (SERVICES / f"{name}.pid").unlink()
            log(f"{name} ended with {os.waitstatus_to_exitcode(status)}")


def start(service):
    path = LOGS / f"{service.name}.log"
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    command = [os.fspath(word) for word in service.command]
    pid = os.posix_spawnp(command[0], command, ENVIRONMENT, file_actions=actions, setsid=True)
    (SERVICES / f"{service.name}.pid").write_text(str(pid), encoding="utf8")
    log(f"{service.name} started as {pid}")
    return pid


def answers(address):
    kind = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
    with socket.socket(kind) as probe:
        return probe.connect_ex(address if kind == socket.AF_INET else str(address)) == 0


def log(text):
    print(time.strftime("%H:%M:%S"), text, flush=True)
