"""What runs in the cluster before any test: its name server, and Istio from its own charts. All of this runs inside.

Every step says what is wanted, so doing it again changes nothing.
"""

import contextlib
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path

import image
from layout import BIN, GATEWAY_IP, ISTIO, ISTIO_PREVIOUS, LOGS, NODE, SOURCE
from report import Trouble, say, wait_until

NFT = Path(shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or "/usr/sbin/nft")
MANIFESTS = SOURCE / "manifests"
HUB = "weir.test"


def istio_images(suffix="", charts=ISTIO):
    """name -> (entrypoint, what it holds), of one of Istio's versions"""
    return {
        "pilot": ("/usr/local/bin/pilot-discovery", {BIN / f"pilot-discovery{suffix}": "/usr/local/bin/pilot-discovery"}),
        "proxyv2": ("/usr/local/bin/pilot-agent", {
            BIN / f"pilot-agent{suffix}": "/usr/local/bin/pilot-agent",
            BIN / "envoy": "/usr/local/bin/envoy",
            # A pod with a sidecar has its connections led there by rules of its own network.
            NFT: "/usr/bin/nft",
            charts / "envoy_bootstrap.json": "/var/lib/istio/envoy/envoy_bootstrap_tmpl.json",
        }),
    }


IMAGES = {
    "pause": ("/pause", {BIN / "pause": "/pause"}),
    "coredns": ("/coredns", {BIN / "coredns": "/coredns"}),
}
# namespace -> deployment, in the order in which they come up.
BARE = {"kube-system": "coredns"}
DEPLOYMENTS = {**BARE, "istio-system": "istiod", "istio-ingress": "istio-ingressgateway"}


def install(kind=None):
    wait_until(lambda: quiet("ctr", "version"), 180, "containerd", f"see {LOGS}/containerd.log")
    # The version before, with its own charts, where somebody asks for it.
    version = ("-previous", ISTIO_PREVIOUS) if kind == "previous" else ("", ISTIO)
    charts = version[1]
    loading = threading.Thread(target=load_all, args=({**IMAGES, **istio_images(*version)},))
    loading.start()
    wait_until(lambda: quiet("kubectl", "get", "--raw", "/readyz"), 180, "the API server", f"see {LOGS}/kube-apiserver.log")
    say("the API server is ready")
    wanted = BARE if kind == "bare" else DEPLOYMENTS
    if not all(is_available(*deployment) for deployment in wanted.items()):
        if kind != "bare":
            helm("istio-base", charts / "base", "istio-system")
        # A pod whose image is not there yet waits ten seconds before it looks again.
        loading.join()
        run("kubectl", "apply", "-f", MANIFESTS / "coredns.yaml")
        if kind != "bare":
            helm("istiod", charts / "istio-control/istio-discovery", "istio-system", "--values", MANIFESTS / "istiod.yaml")
        wait_until(lambda: condition("node", NODE, "Ready"), 180, "the node", f"see {LOGS}/kubelet.log")
        say("the node is ready")
        rollout("kube-system")
        if kind != "bare":
            gateway(charts)


def gateway(charts):
    # istiod gives the gateway's pods their container.
    rollout("istio-system")
    helm("istio-ingressgateway", charts / "gateway", "istio-ingress", "--values", MANIFESTS / "gateway.yaml")
    rollout("istio-ingress")
    say(f"Istio's gateway answers at {GATEWAY_IP}, port 80")


def load_all(images):
    loaded = run("ctr", "images", "list", "--quiet").split()
    for name, (entrypoint, files) in images.items():
        if f"{HUB}/{name}:1" not in loaded:
            load(f"{HUB}/{name}:1", [entrypoint], files.items())
            say(f"image {name} is loaded")


def load(name, entrypoint, pairs, user=image.USER):
    """Packs an image and gives it to containerd, which is all that a node without a registry needs."""
    with subprocess.Popen(["ctr", "images", "import", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as process:
        with contextlib.suppress(BrokenPipeError), process.stdin as archive:
            image.pack(archive, name, entrypoint, pairs, user)
        said = process.stdout.read().decode()
    if process.returncode:
        raise Trouble(f"loading the image {name} failed:\n{said}")


def helm(release, chart, namespace, *arguments):
    run("helm", "upgrade", "--install", release, chart, "--namespace", namespace, "--create-namespace", *arguments)


def rollout(namespace, deployment=None):
    deployment = deployment or DEPLOYMENTS[namespace]
    run("kubectl", "--namespace", namespace, "rollout", "status", "deployment", deployment, "--timeout", "180s")
    say(f"{deployment} is ready")


def is_available(namespace, deployment):
    return condition("deployment", deployment, "Available", "--namespace", namespace)


def condition(kind, name, wanted, *arguments):
    said = subprocess.run(["kubectl", "get", kind, name, "-o", "json", *arguments], capture_output=True, text=True, check=False)
    conditions = json.loads(said.stdout)["status"].get("conditions", []) if said.returncode == 0 else []
    return any(it["type"] == wanted and it["status"] == "True" for it in conditions)


def quiet(*command):
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Trouble(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout
