"""Run the server on a cluster: load the image, apply the manifests, print a request that works."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy import image as images
from deploy.image import CHECKOUT, Built, CannotDeploy, DeployFailed
from deploy.serve import curl, key_header

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "okamochi"
"""The name of the namespace, the Deployment, its container, the Service and the autoscaler."""
OVERLAY = CHECKOUT / "k8s" / "overlays" / "local"
DEPLOYMENT = f"deployment/{NAME}"
VERSION_ANNOTATION = "okamochi/image-version"
NODE_PORT = 30300
PORT = 3000  # the container's
MAX_FORWARDED = 12
MAX_NODES = 3
PATIENCE_S = 20
"""How long an address of the Service may refuse connections, as it does briefly after a rollout."""

direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Nodes and forwarded ports are local, so requests to them use no proxy."""

KIND_CONFIG = f"""
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
  - role: control-plane
    extraPortMappings:
      - {{containerPort: {NODE_PORT}, hostPort: {NODE_PORT}, listenAddress: 127.0.0.1}}
"""


@dataclass(frozen=True)
class Cluster:
    """A cluster that the user named or that `find` made.

    Parameters
    ----------
    context
        The name of the kubeconfig's context.
    loader
        The command that brings an image to the nodes, its last argument being the image; without it, the
        nodes pull the image.
    """

    context: str
    loader: tuple[str, ...] = ()

    def command(self, *arguments: str) -> list[str]:
        return ["kubectl", "--context", self.context, "--namespace", NAME, *arguments]

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl; return its output.

        Raises
        ------
        DeployFailed
            The message has the last line of its output.
        """
        done = subprocess.run(self.command(*arguments), capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "it printed no reason").splitlines()[-1]
            raise DeployFailed(f"kubectl {' '.join(arguments[:2])} failed: {said}")
        return done.stdout

    def get(self, *arguments: str) -> Any:
        return json.loads(self.kubectl("get", *arguments, "--output", "json"))

    def load(self, image: str) -> None:
        """Bring a local image to the nodes."""
        if self.loader and subprocess.run([*self.loader, image], check=False).returncode:
            raise DeployFailed(f"IMAGE_LOADER could not bring {image} to the cluster; its reason is above.")


def find(context: str, loader: str, *, create: bool) -> Cluster:
    """The cluster of the context, or the kind cluster okamochi, which `create` lets it make.

    Without a name, no other cluster is used, not even that of the current context.

    Raises
    ------
    CannotDeploy
        There is no such cluster, or it does not answer.
    """
    if not shutil.which("kubectl"):
        raise CannotDeploy("kubectl is not installed; install it (kubernetes.io/docs/tasks/tools).")
    command = loader_of(loader)
    if context:
        known = contexts()
        if context not in known:
            raise CannotDeploy(
                f"There is no context {context!r}; {there_are(known)} (KUBECONFIG names its file)."
            )
        if not command and context.startswith("kind-") and shutil.which("kind"):
            command = kind_loader(context.removeprefix("kind-"))
        return answering(Cluster(context, command))
    if not shutil.which("kind"):
        raise CannotDeploy(
            "No cluster is named, and kind, which could make one, is not installed. Install kind, or name a "
            f"context by CONTEXT=NAME; {there_are(contexts())}."
        )
    cluster = Cluster(f"kind-{NAME}", command or kind_loader(NAME))
    existing = subprocess.run(["kind", "get", "clusters"], capture_output=True, text=True, check=False)
    if NAME not in existing.stdout.split():
        if not create:
            raise CannotDeploy(
                f"There is no kind cluster {NAME!r}. Make it (make cluster), or name one by CONTEXT=NAME."
            )
        making = ["kind", "create", "cluster", "--name", NAME, "--config", "-"]
        if subprocess.run(making, input=KIND_CONFIG, text=True, check=False).returncode:
            raise DeployFailed("kind could not make the cluster; its reason is above.")
    return answering(cluster)


def loader_of(text: str) -> tuple[str, ...]:
    command = tuple(shlex.split(text))
    if command and not shutil.which(command[0]):
        raise CannotDeploy(f"IMAGE_LOADER={text} cannot be run: the program {command[0]!r} is not installed.")
    return command


def kind_loader(name: str) -> tuple[str, ...]:
    return ("kind", "load", "docker-image", "--name", name)


def contexts() -> list[str]:
    listing = ["kubectl", "config", "get-contexts", "--output", "name"]
    return subprocess.run(listing, capture_output=True, text=True, check=False).stdout.split()


def there_are(known: list[str]) -> str:
    return f"the kubeconfig has {', '.join(known) or 'no context'}"


def answering(cluster: Cluster) -> Cluster:
    probe = cluster.command("get", "--raw", "/readyz", "--request-timeout=10s")
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or "no answer").splitlines()[-1]
        raise CannotDeploy(f"The cluster of context {cluster.context!r} does not answer: {said}")
    return cluster


def up(cluster: Cluster, image: str, *, base: str, options: str, timeout_s: int) -> int:
    """Serve the bundled models on the cluster by `k8s/overlays/local`; returns 0.

    Raises
    ------
    CannotDeploy
    """
    built = provide(cluster, image, base=base, options=options)
    apply(cluster, built)
    status = cluster.command("rollout", "status", DEPLOYMENT, f"--timeout={timeout_s}s")
    if subprocess.run(status, check=False).returncode:
        raise DeployFailed(f"{built.image} did not become ready on {cluster.context}. {reasons(cluster)}")
    wait_for_replicas(cluster, timeout_s)
    with addresses(cluster) as found:
        url = found[0]
        models = models_of(url)
        if not url.endswith(f":{NODE_PORT}"):
            url = f"http://127.0.0.1:{PORT}"
            forward = ["port-forward", f"service/{NAME}", f"{PORT}:80"]
            print(f"\nIn one terminal:\n\n{shlex.join(cluster.command(*forward))}\n\nin another:")
        for number, model in enumerate(models):
            path = "/predict" if number == 0 else f"/models/{model['name']}/predict"
            print(f"\n{curl(url + path, model['example'])}")
    print("\nTo roll out a new champion: make rollout   To delete all: kubectl delete namespace okamochi")
    return 0


def provide(cluster: Cluster, image: str, *, base: str, options: str) -> Built:
    """Build the image and bring it to the nodes; without a loader, the nodes pull the image by its name.

    Raises
    ------
    CannotDeploy
    """
    if not cluster.loader:
        if "/" not in image:
            raise CannotDeploy(
                f"{image} is on this machine only. Name the command that brings it to the nodes of "
                f'{cluster.context} by IMAGE_LOADER= ("minikube image load"; "docker push", with '
                "IMAGE=registry/name:tag), or name an IMAGE=registry/name:tag that they can pull."
            )
        return Built(image, "")
    built = images.build(image, base=base, options=options)
    cluster.load(built.image)
    return built


def apply(cluster: Cluster, built: Built, overlay: Path = OVERLAY) -> None:
    """Apply the overlay with this image.

    The version in the pods' annotations makes a new build under the same name roll out.
    """
    name, tag, digest = parts(built.image)
    kustomization: dict[str, Any] = {
        "resources": [],
        "images": [{"name": NAME, "newName": name, **({"digest": digest} if digest else {"newTag": tag})}],
    }
    if built.version:
        annotation = {"metadata": {"annotations": {VERSION_ANNOTATION: built.version}}}
        patch = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME}}
        kustomization["patches"] = [{"patch": json.dumps(patch | {"spec": {"template": annotation}})}]
    with tempfile.TemporaryDirectory(prefix="okamochi-apply-") as temporary:
        folder = Path(temporary).resolve()
        # kustomize takes relative paths only
        kustomization["resources"] = [os.path.relpath(overlay.resolve(), folder)]
        (folder / "kustomization.yaml").write_text(json.dumps(kustomization))
        print(cluster.kubectl("apply", "--kustomize", str(folder)), end="", flush=True)


def parts(image: str) -> tuple[str, str, str]:
    """Name, tag and digest of an image; the port of a registry is not a tag."""
    found = re.fullmatch(
        r"(?P<name>(?:[^/@]+/)*[^/@:]+)(?::(?P<tag>[^/@:]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?", image
    )
    if found is None:
        raise CannotDeploy(f"IMAGE={image} is not the name of an image; expected [REGISTRY/]NAME:TAG.")
    return found["name"], found["tag"] or "latest", found["digest"] or ""


def wait_for_replicas(cluster: Cluster, timeout_s: int) -> None:
    """Wait until the minimum number of pods of the autoscaler is ready.

    Raises
    ------
    DeployFailed
    """
    wanted = cluster.get("horizontalpodautoscaler", NAME)["spec"]["minReplicas"]
    end = time.monotonic() + timeout_s
    while (available := cluster.get(DEPLOYMENT)["status"].get("availableReplicas", 0)) < wanted:
        if time.monotonic() > end:
            raise DeployFailed(f"Only {available} of {wanted} pods are ready. {reasons(cluster)}")
        time.sleep(1)
    print(f"{available} pods are ready", flush=True)


def reasons(cluster: Cluster) -> str:
    """Why the newest pod is not ready: the reasons in its status, and the errors in its log."""
    waiting = [pod for pod in pods(cluster) if not is_ready(pod)]
    if not waiting:
        return "No such pod was created; see kubectl describe."
    pod = max(waiting, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))
    name = pod["metadata"]["name"]
    status = pod["status"]
    said = [
        f"{kind['reason']}: {kind.get('message', '')}".strip(": ")
        for container in status.get("containerStatuses", [])
        for kind in (*container["state"].values(), *container.get("lastState", {}).values())
        if "reason" in kind
    ] or [condition["message"] for condition in status.get("conditions", []) if condition.get("message")]
    log = subprocess.run(
        cluster.command("logs", name, "--tail=50"), capture_output=True, text=True, check=False
    ).stdout
    said += [line.strip() for line in log.splitlines() if re.search(r"is refused|Error|Exception", line)][-2:]
    return f"Pod {name}: {' | '.join(said) or 'it has no reason in its status'}"


def pods(cluster: Cluster) -> list[dict[str, Any]]:
    """The server's pods, without those that are being deleted."""
    selector = f"--selector=app.kubernetes.io/name={NAME},app.kubernetes.io/component=server"
    found: list[dict[str, Any]] = cluster.get("pods", selector)["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(found["type"] == "Ready" and found["status"] == "True" for found in conditions)


@contextlib.contextmanager
def addresses(cluster: Cluster) -> Iterator[list[str]]:
    """URLs of the server: the Service's NodePort if it can be reached, else a port-forward to each ready pod.

    The process behind the NodePort is checked, since another program may listen on that port here.
    """
    with contextlib.ExitStack() as stack:
        names = [pod["metadata"]["name"] for pod in pods(cluster) if is_ready(pod)][:MAX_FORWARDED]
        forwards = [stack.enter_context(forwarded(cluster, f"pod/{name}")) for name in names]
        ours = {process_of(url) for url in forwards}
        reached = (url for url in node_ports(cluster) if ready(url) and process_of(url) in ours)
        url = next(reached, None)
        yield [url] if url else forwards


def node_ports(cluster: Cluster) -> list[str]:
    """URLs of the Service's NodePort, if it has one."""
    ports = cluster.get("service", NAME)["spec"]["ports"]
    port = next((found["nodePort"] for found in ports if "nodePort" in found), None)
    if port is None:
        return []
    nodes = cluster.get("nodes")["items"][:MAX_NODES]
    hosts = [found["address"] for node in nodes for found in node["status"]["addresses"]]
    return [f"http://{host}:{port}" for host in ("127.0.0.1", *hosts)]


def process_of(url: str) -> str:
    """The prefix of the ids that the server process behind a URL makes."""
    example = models_of(url)[0]["example"]
    return str(fetch(f"{url}/predict", {"records": [example]})["id"]).partition("-")[0]


def ready(url: str) -> bool:
    try:
        with direct.open(f"{url}/readyz", timeout=2) as reply:
            return bool(reply.status == 200)
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def forwarded(cluster: Cluster, what: str) -> Iterator[str]:
    """Forward a free port of 127.0.0.1 to a pod; yields its URL."""
    command = cluster.command("port-forward", what, f":{PORT}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None  # noqa: S101 - PIPE was asked for
            port = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
            if port is None:
                raise DeployFailed(f"kubectl port-forward {what} did not start; its reason is above.")
            yield f"http://127.0.0.1:{port[1]}"
        finally:
            process.terminate()


def models_of(url: str) -> list[dict[str, Any]]:
    """The live models that a server describes.

    Raises
    ------
    DeployFailed
        It needs another key.
    """
    found = fetch(f"{url}/models")
    if "models" not in found:
        raise DeployFailed(
            f"{url}/models answers {found.get('status')}: {found.get('detail')} Set OKAMOCHI_CLIENT_KEY to a "
            "key with the roles predict and observe."
        )
    models: list[dict[str, Any]] = found["models"]
    return models


def fetch(url: str, body: dict[str, Any] | None = None) -> Any:
    """The server's reply, also an error reply; tries again while nothing answers."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **key_header()}
    request = urllib.request.Request(url, data, headers)  # noqa: S310 - always http
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            with direct.open(request, timeout=10) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                return {"status": error.code, "detail": error.read()[:300].decode(errors="replace")}
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
