"""The processes of the control plane and of the node: their files, their arguments, what each waits for.

Security is what the tests need and no more: the network reaches no further than the namespace, so the kubelet asks nobody who
they are; role based access control is real, because Weir's own rights are tested against it.
"""

import json
import secrets
import subprocess
import sys
from dataclasses import dataclass

from layout import BIN, CONTAINERD, DNS_IP, GATEWAY_IP, HARNESS, KUBECONFIG, NODE, NODE_IP, POD_CIDR, SERVICE_CIDR, SERVICES, STATE
from machine import plugins

ETCD = ("127.0.0.1", 2379)
API = (NODE_IP, 6443)
CERTIFICATES = STATE / "certificates"
ISSUER = "https://kubernetes.default.svc.cluster.local"
# Down until somebody wants it.
FLUX_SOURCE = "flux-source"


@dataclass(frozen=True)
class Service:
    name: str
    command: list
    # Addresses, (host, port) or a socket's path, that answer before the process is started.
    needs: tuple = ()


def services():
    etcd = f"http://{ETCD[0]}:{ETCD[1]}"
    kubeconfig = f"--kubeconfig={KUBECONFIG}"
    return (
        # Durable storage is of no use to a state that lives in memory.
        Service("etcd", [BIN / "etcd", f"--data-dir={STATE}/etcd", "--unsafe-no-fsync", "--log-level=warn",
                         f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}"]),
        Service("containerd", ["containerd", f"--config={STATE}/containerd.toml"]),
        Service("kube-apiserver", [
            BIN / "kube-apiserver", f"--etcd-servers={etcd}", f"--bind-address={NODE_IP}", f"--advertise-address={NODE_IP}",
            f"--secure-port={API[1]}", f"--external-hostname={NODE_IP}", f"--cert-dir={CERTIFICATES}",
            f"--service-cluster-ip-range={SERVICE_CIDR}", "--authorization-mode=Node,RBAC", f"--token-auth-file={STATE}/tokens.csv",
            f"--service-account-issuer={ISSUER}", f"--service-account-key-file={STATE}/accounts.pub",
            f"--service-account-signing-key-file={STATE}/accounts.key", "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
        ], needs=(ETCD,)),
        Service("kube-controller-manager", [
            BIN / "kube-controller-manager", kubeconfig, f"--service-account-private-key-file={STATE}/accounts.key",
            f"--root-ca-file={CERTIFICATES}/apiserver.crt", "--use-service-account-credentials=true", "--leader-elect=false",
            "--bind-address=127.0.0.1", f"--flex-volume-plugin-dir={STATE}/volume-plugins",
            # As for the kubelet: with the default of 20 requests per second a thousand Deployments take half an hour.
            "--kube-api-qps=200", "--kube-api-burst=400",
        ], needs=(API,)),
        Service("kube-scheduler", [BIN / "kube-scheduler", kubeconfig, "--leader-elect=false", "--bind-address=127.0.0.1"], needs=(API,)),
        Service("kubelet", [BIN / "kubelet", kubeconfig, f"--config={STATE}/kubelet.json", f"--hostname-override={NODE}",
                            f"--node-ip={NODE_IP}", f"--cert-dir={STATE}/kubelet-certificates"], needs=(API, CONTAINERD)),
        Service("kube-proxy", [BIN / "kube-proxy", f"--config={STATE}/kube-proxy.json", f"--hostname-override={NODE}"], needs=(API,)),
        Service(FLUX_SOURCE, [sys.executable, "-B", HARNESS / "source.py", BIN], needs=(API,)),
    )


def prepare():
    """Writes every file that the processes read; the API server's own certificate comes with its first start."""
    for folder in ("certificates", "cni", "volume-plugins"):
        (STATE / folder).mkdir()
    key, public = STATE / "accounts.key", STATE / "accounts.pub"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    subprocess.run(["openssl", "rsa", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
    token = secrets.token_hex(16)
    write("tokens.csv", f'{token},admin,admin,"system:masters"\n')
    write("kubeconfig", json.dumps(kubeconfig(token), indent=2))
    write("kubelet.json", json.dumps(kubelet(), indent=2))
    write("kube-proxy.json", json.dumps(kube_proxy(), indent=2))
    write("containerd.toml", containerd())
    write("cni/10-pods.conflist", json.dumps(cni(), indent=2))
    (SERVICES / f"{FLUX_SOURCE}.stopped").touch()
    write("enter", enter(), mode=0o755)


def write(name, text, mode=0o600):
    path = STATE / name
    path.write_text(text, encoding="utf8")
    path.chmod(mode)


def kubeconfig(token):
    return {
        "apiVersion": "v1", "kind": "Config", "current-context": "weir",
        "clusters": [{"name": "weir", "cluster": {"server": f"https://{NODE_IP}:{API[1]}", "certificate-authority": f"{CERTIFICATES}/apiserver.crt"}}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "weir", "context": {"cluster": "weir", "user": "admin"}}],
    }


def kubelet():
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "address": NODE_IP, "clusterDNS": [DNS_IP], "clusterDomain": "cluster.local",
        # Pods know the cluster's names and no others.
        "resolvConf": "",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD}", "cgroupDriver": "cgroupfs", "failCgroupV1": False, "failSwapOn": False,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}}, "authorization": {"mode": "AlwaysAllow"},
        "volumePluginDir": f"{STATE}/volume-plugins", "maxPods": 500,
        # No pod is evicted and no image collected: what was loaded by hand cannot be pulled again.
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
        # A test waits for pods: the default of 5 and 10 requests per second is for clusters of thousands of nodes.
        "kubeAPIQPS": 200, "kubeAPIBurst": 400, "eventRecordQPS": 50,
    }


def kube_proxy():
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "nftables",
        "clientConnection": {"kubeconfig": str(KUBECONFIG)},
        # The size of the connection table belongs to the machine.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "healthzBindAddress": "127.0.0.1:10256", "metricsBindAddress": "127.0.0.1:10249",
    }


def containerd():
    return f"""\
version = 2
root = "{STATE}/containerd"
state = "/run/containerd"
[grpc]
  address = "{CONTAINERD}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{STATE}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "weir.test/pause:1"
  # A machine without CAP_SYS_RESOURCE may not lower a score.
  restrict_oom_score_adj = true
  # Istio's gateway binds port 80 as an ordinary user.
  enable_unprivileged_ports = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins()}"
    conf_dir = "{STATE}/cni"
"""


def cni():
    # A wire per pod and not a bridge: between pods too every packet passes the node's routing, where kube-proxy's rules are;
    # on a bridge that takes the kernel's br_netfilter, which not every machine has.
    address = {"type": "host-local", "dataDir": f"{STATE}/addresses",
               "ranges": [[{"subnet": POD_CIDR}]], "routes": [{"dst": "0.0.0.0/0"}]}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": False, "ipam": address}]}


def enter():
    """What tests/cluster/in runs a command by; where it exists, a command is inside."""
    return f"""\
#!/bin/sh
cd "$1" && shift || exit
# No proxy can be reached from here.
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
export KUBECONFIG={KUBECONFIG} KUBECACHEDIR={STATE}/kubectl
export HELM_CACHE_HOME={STATE}/helm HELM_CONFIG_HOME={STATE}/helm HELM_DATA_HOME={STATE}/helm
export CONTAINERD_ADDRESS={CONTAINERD} CONTAINERD_NAMESPACE=k8s.io GATEWAY={GATEWAY_IP}
export PATH={BIN}:$PATH
exec "$@"
"""

