"""The cluster seen from the machine: making its namespaces, finding them, ending them.

A keeper, one process of the machine, holds the lock, makes the control groups, starts the first process of the new namespaces
and waits for its end, to remove the groups. If the keeper is killed, its child is too (the parent's death signal), and the empty
groups wait for the next `up` or `down`.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time

import cgroups
from layout import ENTER, HARNESS, LOCK_FILE, LOGS, PID_FILE, RUN, STATE
from report import Trouble, wait_until

NAMESPACES = ("--mount", "--net", "--pid", "--ipc", "--cgroup")


def init_pid():
    """The first process of the running cluster, as the machine sees it, or None."""
    try:
        pid = int(PID_FILE.read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None
    # The number may belong to another process by now: none but ours has this file in its root.
    return pid if os.path.exists(f"/proc/{pid}/root{STATE}/enter") else None


def is_inside():
    return (STATE / "enter").exists()


def enter(*command, **options):
    """Runs a command inside."""
    return subprocess.run([ENTER, *command], check=False, **options)


def start():
    """Starts the namespaces with everything in them and waits until a command can enter."""
    with lock(wait=30):
        clear()
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    with open(LOGS / "keeper.log", "wb") as log:
        keeper = subprocess.Popen([sys.executable, "-B", HARNESS, "keep"], stdin=subprocess.DEVNULL, stdout=log,
                                  stderr=log, start_new_session=True, cwd="/")
    wait_until(lambda: init_pid() or keeper.poll() is not None, 120, "the namespaces", f"see {LOGS}/keeper.log")
    if keeper.poll() is not None:
        raise Trouble(f"the namespaces did not start:\n{(LOGS / 'keeper.log').read_text(encoding='utf8')}")


def keep():
    """The keeper's life."""
    with lock(wait=0):
        try:
            cgroups.create()
            init = spawn()
            signal.signal(signal.SIGTERM, lambda *_: init.kill())
            init.wait()
        finally:
            clear()


def spawn():
    command = ["setpriv", "--pdeathsig", "KILL", "unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc",
               sys.executable, "-B", HARNESS, "init"]
    # The namespace of control groups is that of the groups that the process is in when it is made.
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, preexec_fn=cgroups.join)
    wait_until(lambda: children(parent.pid) or parent.poll() is not None, 10, "the first process")
    if parent.poll() is None:
        pid, = children(parent.pid)
        cgroups.settle([parent.pid, pid])
        PID_FILE.write_text(str(pid), encoding="utf8")
        parent.stdin.write(b"go\n")
        parent.stdin.close()
    return parent


def children(parent):
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", encoding="utf8") as file:
            # The name of a program, in parentheses, may hold anything.
            if int(file.read().rpartition(")")[2].split()[1]) == parent:
                found.append(int(name))
    return found


def stop():
    """Ends the cluster if there is one, and removes what a killed one left; returns whether there was one."""
    pid = init_pid()
    if pid:
        os.kill(pid, signal.SIGKILL)
    with lock(wait=30):
        clear()
    return pid is not None


def clear():
    """Removes what is the machine's: the groups, and the file that finds the cluster."""
    PID_FILE.unlink(missing_ok=True)
    cgroups.remove()


@contextlib.contextmanager
def lock(wait):
    """Held by the keeper for as long as the cluster lives; a holder leaves no file."""
    end = time.monotonic() + wait
    while not (file := try_lock()):
        if time.monotonic() > end:
            raise Trouble("another cluster of this name is running, or is being started or stopped")
        time.sleep(0.05)
    with file:
        yield
        LOCK_FILE.unlink()
        with contextlib.suppress(OSError):
            RUN.rmdir()


def try_lock():
    """The locked file, or None."""
    RUN.mkdir(exist_ok=True)
    with contextlib.suppress(OSError):
        file = open(LOCK_FILE, "wb")
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its holder may have removed it since it was opened; then the lock is worth nothing.
            if os.path.samestat(os.fstat(file.fileno()), os.stat(LOCK_FILE)):
                return file
        file.close()
    return None
