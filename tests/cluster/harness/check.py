"""Proves the harness itself: that what it starts is a cluster, and that nothing of it stays on the machine.

It uses a cluster of its own name, beside any other. Run as `cluster check`; takes two minutes on two cores.
"""

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import install
import namespace
from layout import BIN, CGROUP, GATEWAY_IP, RUN
from report import Trouble, say, wait_until

HOST = "check.example.com"
PUSHES = 10
# Folders that the programs make by themselves if nobody keeps them from it.
STRAY = tuple(map(Path, ("/run/containerd", "/run/mount", "/opt/containerd", "/usr/libexec/kubernetes", "/var/lib/cni", "/var/lib/kubelet",
                         "/var/log/containers", "/var/log/pods")))


def traces():
    """Whatever of a cluster could be found on the machine, as lines."""
    lines = Path("/proc/self/mounts").read_text(encoding="utf8").splitlines()
    for command in (("ip", "-o", "link"), ("ip", "-o", "address"), ("ip", "route", "show", "table", "all"), ("ip", "netns"),
                    ("nft", "list", "ruleset")):
        # A lifetime that counts down is no trace.
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        lines += [f"{command[0]}: {line.split(' valid_lft')[0].split(' expires')[0]}" for line in said.splitlines()]
    lines += [str(path) for path in Path("/sys/fs/cgroup").rglob(CGROUP)]
    lines += [str(path) for path in (RUN / "check.pid", RUN / "check.lock", *STRAY) if path.exists()]
    for name in ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward"):
        lines.append(name + ": " + (Path("/proc/sys") / name).read_text(encoding="utf8").strip())
    for process in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            lines += [os.readlink(f"/proc/{process}/ns/{kind}") for kind in ("net", "pid")]
            program = os.readlink(f"/proc/{process}/exe")
            if program.startswith(str(BIN)) or Path(program).name.startswith(("containerd", "runc")):
                lines.append(f"process {process}: {program}")
    return sorted(set(lines))


def left_since(before):
    return [line for line in traces() if line not in before]


def nothing_is_left(before, after_what):
    """The kernel takes down a network a moment after its last process."""
    with contextlib.suppress(Trouble):
        wait_until(lambda: not left_since(before), 15, "the last traces")
    left = left_since(before)
    if left:
        raise Trouble(f"left {after_what}:\n" + "\n".join(left))
    say(f"ok: nothing is left {after_what}")


def check(up, down, inside):
    before = traces()
    try:
        up()
        up()
        say("ok: up twice is up")
        inside("check")
        down()
        down()
        nothing_is_left(before, "after down, twice")
        namespace.start()
        os.kill(namespace.init_pid(), signal.SIGKILL)
        nothing_is_left(before, "after the first process was killed")
        namespace.start()
        # `unshare` stands between the keeper and the first process.
        os.kill(parent(parent(namespace.init_pid())), signal.SIGKILL)
        wait_until(lambda: not namespace.init_pid(), 10, "the end of a cluster whose keeper was killed")
        down()
        nothing_is_left(before, "after the keeper was killed, and down")
    finally:
        down()


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf8").rpartition(")")[2].split()[1])


def check_inside():
    install.load("podinfo:check", ["/podinfo"], [(BIN / "podinfo", "/podinfo")])
    install.run("kubectl", "apply", "-f", install.MANIFESTS / "check.yaml")
    install.rollout("check", "podinfo")
    wait_until(lambda: get()[0] == 200, 30, "an answer through the gateway")
    say("ok: a pod answers through the gateway")
    seconds = sorted(push(number) for number in range(PUSHES))
    say(f"ok: an EnvoyFilter reaches the gateway in {statistics.median(seconds):.2f} s (median of {PUSHES}, "
        f"{seconds[0]:.2f} to {seconds[-1]:.2f} s, with kubectl's own time)")
    with contextlib.suppress(OSError):
        # TEST-NET-1: belongs to nobody.
        socket.create_connection(("192.0.2.1", 80), timeout=2)
        raise Trouble("a connection left the cluster")
    say("ok: there is no way out of the cluster")
    install.run("kubectl", "delete", "-f", install.MANIFESTS / "check.yaml", "--wait=false")
    install.run("kubectl", "--namespace", "istio-ingress", "delete", "envoyfilter", "check")


def get():
    """The status and headers of one request through the gateway."""
    request = urllib.request.Request(f"http://{GATEWAY_IP}/", headers={"Host": HOST})
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.headers


def push(number):
    """Seconds from applying an EnvoyFilter to the first answer that shows it."""
    text = (install.MANIFESTS / "check-push.yaml").read_text(encoding="utf8").replace("PUSH", str(number))
    began = time.monotonic()
    subprocess.run(["kubectl", "apply", "-f", "-"], input=text, text=True, check=True, capture_output=True)
    while get()[1].get("x-push") != str(number):
        if time.monotonic() - began > 20:
            raise Trouble("an EnvoyFilter did not reach the gateway in 20 s")
    return time.monotonic() - began
