"""The cluster's control groups: one folder in every hierarchy of the machine, which the cluster sees as the root.

Groups are the only thing that outlives the namespaces; they are removed when the cluster's first process ends, and what a killed
keeper leaves, empty folders, goes with the next `up` or `down`. Version 1 and version 2 are both served, as kubelet does.
"""

import os
import subprocess
import time
from pathlib import Path

from layout import CGROUP

ROOT = Path("/sys/fs/cgroup")
# What kubelet insists on.
NEEDED = ("cpu", "cpuset", "memory", "pids")


def mounts():
    """The hierarchies that the machine has mounted: (mount point, options that mount the same again)."""
    controllers = Path("/proc/cgroups").read_text(encoding="utf8").split()
    found = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf8").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split()
        point = Path(before.split()[4])
        if kind == "cgroup":
            mine = [option for option in options.split(",") if option in controllers or option.startswith("name=")]
            found.append((point, ",".join(["none"] * mine[0].startswith("name=") + mine)))
        elif kind == "cgroup2" and point == ROOT:
            found.append((point, None))
    return found


def is_unified():
    return any(options is None for _, options in mounts())


def problem():
    """Why the cluster's groups can't be made here, or None."""
    found = mounts()
    if not found:
        return f"no control groups are mounted below {ROOT}"
    if not all(os.access(point, os.W_OK) for point, _ in found):
        return f"control groups are read-only at {ROOT}; in a container it takes --privileged"
    if is_unified():
        present = (ROOT / "cgroup.controllers").read_text(encoding="utf8").split()
    else:
        present = [controller for _, options in found for controller in options.split(",")]
    missing = [controller for controller in NEEDED if controller not in present]
    return f"its control groups lack {', '.join(missing)}" if missing else None


def groups():
    return [point / CGROUP for point, _ in mounts()]


def create():
    if is_unified():
        delegate(ROOT)
    for group in groups():
        group.mkdir(exist_ok=True)
        # A new group of cpuset admits no process until it has processors and memory.
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (group / name).exists() and not is_unified():
                (group / name).write_text((group.parent / name).read_text(encoding="utf8"), encoding="utf8")


def join(*folders):
    """Puts the calling process into the cluster's groups."""
    for group in groups():
        group.joinpath(*folders, "cgroup.procs").write_text(str(os.getpid()), encoding="utf8")


def settle(pids):
    """In version 2 a group has either processes or groups with controllers: moves the first processes one level down."""
    if not is_unified():
        return
    group = ROOT / CGROUP
    leaf = group / "init"
    leaf.mkdir(exist_ok=True)
    for pid in pids:
        (leaf / "cgroup.procs").write_text(str(pid), encoding="utf8")
    delegate(group)


def delegate(group):
    """Lets the groups below one of version 2 have every controller."""
    control = group / "cgroup.subtree_control"
    missing = set((group / "cgroup.controllers").read_text(encoding="utf8").split()) - set(control.read_text(encoding="utf8").split())
    for controller in missing & {*NEEDED, "io", "hugetlb"}:
        control.write_text("+" + controller, encoding="utf8")


def mount():
    """Mounts the hierarchies anew, inside a control group namespace, over a fresh /sys."""
    found = mounts()
    subprocess.run(["mount", "-n", "-t", "sysfs", "sysfs", "/sys"], check=True)
    if any(options is None for _, options in found):
        subprocess.run(["mount", "-n", "-t", "cgroup2", "cgroup2", ROOT], check=True)
        return
    subprocess.run(["mount", "-n", "-t", "tmpfs", "-o", "mode=755", "tmpfs", ROOT], check=True)
    for point, options in found:
        if point.parent == ROOT:
            point.mkdir()
            subprocess.run(["mount", "-n", "-t", "cgroup", "-o", options, "cgroup", point], check=True)


def remove(seconds=10):
    """Removes the cluster's groups; a group is busy until the last of its processes has been buried."""
    end = time.monotonic() + seconds
    for group in groups():
        for folder, _, _ in os.walk(group, topdown=False):
            while True:
                try:
                    os.rmdir(folder)
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.05)
