"""Where things are: on the machine, inside the cluster's namespaces, and on the cluster's network.

Inside, /run and the folders below are memory that goes with the namespace; so whatever a process of the cluster writes is gone
when its first process is, however it ends. On the machine there are only the cache, and the two small files that find the cluster.
"""

import os
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent
REPOSITORY = SOURCE.parent.parent
HARNESS = SOURCE / "harness"
ENTER = SOURCE / "in"

# Several clusters may run beside each other: nothing that they share has a fixed name but these.
NAME = os.environ.get("WEIR_CLUSTER", "weir")
RUN = Path("/run/weir-cluster")
PID_FILE = RUN / f"{NAME}.pid"
LOCK_FILE = RUN / f"{NAME}.lock"
CGROUP = f"weir-cluster-{NAME}"

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weir" / "cluster"
BIN = CACHE / "bin"
STAMPS = CACHE / "stamps"
# Of both its versions: its charts, and its Envoy's bootstrap.
ISTIO, ISTIO_PREVIOUS = CACHE / "istio", CACHE / "istio-previous"
FLAGGER = CACHE / "flagger"
FLUX = CACHE / "flux"
LOGS = CACHE / "logs" / NAME

# Inside. Where the programs write by themselves is memory: /run and /var/log as a whole; /var/lib holds what the machine has there,
# and what is made beside it, as /var/lib/cni, is memory.
STATE = Path("/run/weir")
COVERED = (Path("/run"), Path("/var/log"))
SHARED = Path("/var/lib")
# New also where the machine has them, from a kubelet or a containerd of its own: two kubelets clean up after each other.
FRESH = ("cni", "containerd", "kubelet")
SERVICES = STATE / "services"
KUBECONFIG = STATE / "kubeconfig"
# What Flux's sources lead to.
FLUX_STATE = STATE / "flux"
CONTAINERD = STATE / "containerd.sock"

# The network is the namespace's own, so that these collide with nothing of the machine's.
NODE = "node-0"
NODE_IP = "10.200.0.1"
POD_CIDR = "10.244.0.0/16"
SERVICE_CIDR = "10.96.0.0/16"
DNS_IP = "10.96.0.10"
GATEWAY_IP = "10.96.0.80"
FLUX_PORT = 7070
