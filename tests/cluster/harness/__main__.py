"""cluster up [bare|previous]      build what is missing, start everything, wait until it is ready; a second time it looks and repairs;
                                bare: without Istio; previous: with an earlier minor version of Istio
cluster flux                    add Flux's controllers, a Git server, a registry, and the charts and images that gitops/ names
cluster down                    end everything; the cache stays
cluster build [PROGRAM...]      only build what is missing, and programs that not every cluster needs: flagger
cluster status                  say whether it runs, and what
cluster image NAME:TAG ENTRYPOINT[,ARGUMENT...] SRC=DST...   pack programs and files, and load them into the node
cluster stop | start | restart SERVICE   take a service away, bring it back, or end it and let it come back (kube-apiserver, ...)
cluster logs SERVICE            follow a service's log
cluster environment             the exports that a command inside is given
cluster check                   prove, with a cluster of its own, that it works and that nothing of it stays on the machine

tests/cluster/in COMMAND runs a command inside. WEIR_CLUSTER=NAME runs several clusters beside each other."""

import os
import signal
import subprocess
import sys
import time

import check
import flux
import init
import install
import machine
import namespace
import programs
from layout import HARNESS, LOGS, NAME, SERVICES, STATE
from report import Trouble, say, wait_until


def up(*kind):
    if kind not in ((), ("bare",), ("previous",)):
        raise Trouble("up takes nothing, or bare, or previous")
    names = programs.PREVIOUS if kind == ("previous",) else ()
    if namespace.is_inside():
        raise Trouble("this is inside of a cluster")
    if namespace.init_pid():
        say(f"cluster {NAME} runs already and keeps what is in it; `tests/cluster/cluster down` would end it")
    else:
        machine.require(to_build=bool(programs.missing(names)))
        programs.build(names)
        namespace.start()
        say(f"the namespaces are there; logs are in {LOGS}")
    inside("install", *kind)
    say("ready: tests/cluster/in kubectl get pods -A")


def add_flux():
    if not namespace.is_inside():
        machine.require(to_build=bool(flux.missing()))
        flux.build()
    inside("flux")


def build(*names):
    machine.require(to_build=bool(programs.missing(names)))
    programs.build(names)


def down():
    say("the cluster is gone" if namespace.stop() else "no cluster is running")


def status():
    if not namespace.is_inside() and not namespace.init_pid():
        raise Trouble(f"no cluster {NAME} is running")
    inside("list")


def list_services():
    for service in init.services():
        pid = SERVICES / f"{service.name}.pid"
        state = f"runs as {pid.read_text(encoding='utf8')}" if pid.exists() else "is down"
        print(f"{service.name:24} {state}", flush=True)
    subprocess.run(["kubectl", "get", "pods", "--all-namespaces"], check=False)


def load_image(name, entrypoint, *pairs):
    # Relative paths mean the same inside: the working directory goes along.
    install.load(name, entrypoint.split(","), [pair.split("=", 1) for pair in pairs], os.environ.get("IMAGE_USER", "1337:1337"))
    say(f"image {name} is loaded")


def stop_service(name):
    known(name)
    (SERVICES / f"{name}.stopped").touch()
    end(name)
    say(f"{name} is down")


def start_service(name):
    known(name)
    (SERVICES / f"{name}.stopped").unlink(missing_ok=True)
    wait_until((SERVICES / f"{name}.pid").exists, 30, name)
    say(f"{name} runs")


def restart_service(name):
    known(name)
    end(name)
    start_service(name)


def known(name):
    names = [service.name for service in init.services()]
    if name not in names:
        raise Trouble(f"there is no service {name}; there are {', '.join(names)}")


def end(name, patience=5):
    """Asks a service to end, then makes it; returns when init has taken leave of it."""
    file = SERVICES / f"{name}.pid"
    try:
        pid = int(file.read_text(encoding="utf8"))
    except FileNotFoundError:
        return
    since = time.monotonic()
    while file.exists() and file.read_text(encoding="utf8") == str(pid):
        os.kill(pid, signal.SIGTERM if time.monotonic() - since < patience else signal.SIGKILL)
        time.sleep(0.1)


def logs(name):
    os.execvp("tail", ["tail", "-n", "+1", "-F", str(LOGS / f"{name}.log")])


def environment():
    print("# A command inside (tests/cluster/in COMMAND) has these; outside of it the cluster's addresses mean nothing.")
    inside("environment")


def print_environment():
    for line in (STATE / "enter").read_text(encoding="utf8").splitlines():
        if line.startswith("export "):
            print(line)


def inside(command, *arguments):
    """Carries out a command of this program inside."""
    if namespace.is_inside():
        return INSIDE[command](*arguments)
    done = namespace.enter(sys.executable, "-B", HARNESS, "inside", command, *arguments)
    if done.returncode:
        sys.exit(done.returncode)
    return None


def prove():
    # The name is read when a process starts.
    if NAME != "check":
        os.execve(sys.executable, [sys.executable, "-B", str(HARNESS), "check"], dict(os.environ, WEIR_CLUSTER="check"))
    check.check(up, down, inside)


OUTSIDE = {"up": up, "down": down, "build": build, "status": status, "logs": logs, "environment": environment,
           "check": prove, "flux": add_flux, "keep": namespace.keep, "init": init.main}
INSIDE = {"install": install.install, "list": list_services, "environment": print_environment, "check": check.check_inside,
          "flux": lambda: flux.add(start_service), "image": load_image, "stop": stop_service, "start": start_service, "restart": restart_service}


def main(command="help", *arguments):
    if command == "inside":
        command, *arguments = arguments
        INSIDE[command](*arguments)
    elif command in OUTSIDE:
        OUTSIDE[command](*arguments)
    elif command in ("image", "stop", "start", "restart"):
        inside(command, *arguments)
    else:
        print(__doc__)
        return 0 if command == "help" else 2
    return 0


try:
    sys.exit(main(*sys.argv[1:]))
except Trouble as trouble:
    print(f"cluster: {trouble}", file=sys.stderr)
    sys.exit(1)
except TypeError as error:
    if "positional argument" not in str(error):
        raise
    print(__doc__, file=sys.stderr)
    sys.exit(2)
except KeyboardInterrupt:
    sys.exit(130)
