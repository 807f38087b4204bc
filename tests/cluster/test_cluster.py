"""What clients notice while a Deployment is restarted, damaged and given wrong models: nothing."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import threading
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from deploy import cluster as clusters
from deploy import rollout
from deploy.cluster import DEPLOYMENT, NAME
from tests.cluster.deployment import (
    CROWN,
    SECONDS,
    Served,
    image_of,
    off_golden,
    quick_to_shrink,
    ready_pods,
    steady,
    wait,
)
from tests.serving import artifacts

if TYPE_CHECKING:
    from collections.abc import Callable

    from deploy.cluster import Cluster
    from tests.cluster.deployment import Site

LOST_AT_MOST = 0.005
"""Of the requests while a server is killed: those that it had begun are gone with it."""
READY_WITHIN_S = 30

WAITED_AT_MOST_S = 10
"""For a new worker: BentoML's own rhythm of looking for dead ones, without the start of one."""

FIND_WORKER = """
import os, signal
from pathlib import Path
others = [each for each in Path('/proc').iterdir() if each.name.isdigit() and int(each.name) != os.getpid()]
(worker,) = [each for each in others if b'_bentoml_impl.worker' in (each / 'cmdline').read_bytes()]
"""
KILL_WORKER = f"""{FIND_WORKER}
os.kill(int(worker.name), signal.SIGKILL)
print('killed', worker.name)
"""
MEET_THE_LIMIT = f"""{FIND_WORKER}
import time
(worker / 'oom_score_adj').write_text('1000')
others = []
try:
    while b'Z (zombie)' not in (worker / 'status').read_bytes():
        if (child := os.fork()) == 0:
            # Until the worker's memory is free the kernel may kill once more: one of these, not the parent.
            Path('/proc/self/oom_score_adj').write_text('1000')
            held = bytearray(b'x' * (32 << 20))  # less than the worker has, so that it is chosen
            time.sleep(60)
            os._exit(0)
        others.append(child)
        time.sleep(0.1)
except OSError:  # the parent has seen that it is gone
    pass
for child in others:
    os.kill(child, signal.SIGKILL)
print('gone', worker.name, len(others))
"""
OOM_KILLS = """
from pathlib import Path
for name in ('memory.events', 'memory/memory.oom_control'):  # of cgroup 2, of cgroup 1
    file = Path('/sys/fs/cgroup', name)
    if file.exists():
        print(next(line.split()[1] for line in file.read_text().splitlines() if line.startswith('oom_kill ')))
"""


def test_make_cluster_has_three_pods_serve_and_prints_a_request_that_works(
    site: Site, cluster: Cluster, started: str, program: Callable[[str], str]
) -> None:
    """And again changes nothing."""
    program("curl")
    (request,) = re.findall(r"^curl .*$", started, flags=re.MULTILINE)
    reply = json.loads(subprocess.run(shlex.split(request), capture_output=True, check=True).stdout)
    steady(cluster)
    again = site.make("cluster")

    assert (reply["model"], reply["version"]) == ("breast_cancer", "1")
    assert reply["prediction"][0] in {"benign", "malignant"}
    assert again.returncode == 0, again.stderr
    assert "deployment.apps/okamochi unchanged" in again.stdout or "configured" not in again.stdout


def test_a_rolling_restart_loses_nothing(served: Served) -> None:
    """0 of at least 10,000."""
    with served.load() as load:
        load.until(500)
        began = time.monotonic()
        served.cluster.kubectl("rollout", "restart", DEPLOYMENT)
        steady(served.cluster)
        seconds = time.monotonic() - began
        load.until(10_000)
    served.figures["rolling_restart"] = {**load.outcome.figures(), "seconds": round(seconds)}

    assert load.outcome.sent >= 10_000
    assert not load.outcome.lost


def test_a_deleted_pod_loses_nothing(served: Served) -> None:
    with served.load() as load:
        load.until(300)
        served.cluster.kubectl("delete", "pod", ready_pods(served.cluster)[0], "--wait=false")
        steady(served.cluster)
    served.figures["pod_deleted"] = load.outcome.figures()

    assert not load.outcome.lost


def test_evictions_are_held_back_to_one_at_a_time(served: Served) -> None:
    """As `kubectl drain` asks for them; the second is granted once three serve again."""

    def evict(pod: str) -> str:
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
        path = f"/api/v1/namespaces/{NAME}/pods/{pod}/eviction"
        done = subprocess.run(
            served.cluster.command("create", "--raw", path, "--filename", "-"),
            input=json.dumps(eviction),
            capture_output=True,
            text=True,
            check=False,
        )
        return "" if done.returncode == 0 else done.stderr

    with served.load() as load:
        first, second, _ = ready_pods(served.cluster)
        assert evict(first) == ""
        refused = evict(second)
        seconds = wait(lambda: evict(second) == "", "the second eviction")
        steady(served.cluster)
    served.figures["evictions"] = {**load.outcome.figures(), "second_allowed_after_s": round(seconds)}

    assert "disruption budget" in refused
    assert not load.outcome.lost


@pytest.mark.parametrize("how", ["worker", "pod"])
def test_a_kill_costs_only_what_was_under_way(served: Served, how: str) -> None:
    """SIGKILL of the process that answers in one pod, and of a whole pod; three are ready again soon."""
    with served.load() as load:
        load.until(300)
        pod = ready_pods(served.cluster)[0]
        if how == "worker":
            assert "killed" in served.cluster.kubectl("exec", pod, "--", "python", "-c", KILL_WORKER)
        else:
            served.cluster.kubectl("delete", "pod", pod, "--grace-period=0", "--force")
        seconds = wait(lambda: all_answer(served.cluster, 3), "three pods that answer")
        steady(served.cluster)
        load.until(6_000)
    served.figures[f"sigkill_{how}"] = {
        **load.outcome.figures(),
        "share_ok": round(load.outcome.share, 5),
        "ready_again_s": round(seconds, 1),
    }

    assert load.outcome.share >= 1 - LOST_AT_MOST
    assert seconds < READY_WITHIN_S
    assert load.outcome.slowest_s < WAITED_AT_MOST_S


def test_a_pod_at_its_memory_limit_costs_only_what_was_under_way(served: Served) -> None:
    """The kernel kills its worker, the largest there; the others serve, and three are ready again soon.

    Processes in the container take memory until then. Where nodes have cgroup 2 and the kubelet's default,
    the whole container is killed and started again.
    """
    pod = ready_pods(served.cluster)[0]

    def within(code: str) -> str:
        return served.cluster.kubectl("exec", pod, "--", "python", "-c", code)

    with served.load() as load:
        load.until(300)
        kills = int(within(OOM_KILLS))
        met = subprocess.run(
            served.cluster.command("exec", pod, "--", "python", "-c", MEET_THE_LIMIT),
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = wait(lambda: all_answer(served.cluster, 3), "three pods that answer")
        load.until(6_000)
    steady(served.cluster)
    (container,) = next(
        found["status"]["containerStatuses"]
        for found in clusters.pods(served.cluster)
        if found["metadata"]["name"] == pod
    )
    whole = container.get("lastState", {}).get("terminated", {}).get("reason") == "OOMKilled"
    served.figures["memory_limit"] = {
        **load.outcome.figures(),
        "share_ok": round(load.outcome.share, 5),
        "ready_again_s": round(seconds, 1),
        "whole_container": whole,
    }

    assert whole or (met.stdout.startswith("gone") and int(within(OOM_KILLS)) > kills), met.stderr
    assert load.outcome.share >= 1 - LOST_AT_MOST
    assert seconds < READY_WITHIN_S


def all_answer(cluster: Cluster, pods: int) -> bool:
    """Whether so many pods are ready by their own word, which the cluster hears with a delay."""
    found = ready_pods(cluster)
    probe = "from urllib.request import urlopen; urlopen('http://127.0.0.1:3000/readyz', timeout=2)"
    return len(found) == pods and all(
        subprocess.run(
            cluster.command("exec", pod, "--", "python", "-c", probe), capture_output=True, check=False
        ).returncode
        == 0
        for pod in found
    )


def test_an_image_that_is_never_ready_is_undone(served: Served, docker: Callable[[str, str], None]) -> None:
    """`make rollout` ends with 1 and says which pod; the old pods have served all the while."""
    docker("okamochi:never-ready", f'FROM {served.image}\nCMD ["sleep", "600"]\n')
    with served.load() as load:
        done = served.site.make("rollout", "IMAGE=okamochi:never-ready", "TIMEOUT=20")
        image = image_of(served.cluster)
        steady(served.cluster)
    served.figures["never_ready"] = load.outcome.figures()

    assert done.returncode == 2, done.stdout  # make's own code for a recipe that failed
    assert "Error 1" in done.stderr
    assert "did not become ready" in done.stderr
    assert f"The rollout was undone: {served.image} serves again." in done.stderr
    assert image == served.image
    assert not load.outcome.lost
    assert load.outcome.answered_by.keys() == {"1"}


def test_a_model_whose_golden_rows_fail_is_refused_and_undone(served: Served, tmp_path: Path) -> None:
    """Its pod says why and is never ready, so nobody is sent to it."""
    wrong = off_golden(served.made, tmp_path / "wrong")
    served.bundle(wrong, "7")
    built = served.site.make("image", "IMAGE=okamochi:wrong-model")
    assert built.returncode == 0, built.stdout + built.stderr
    with served.load() as load:
        done = served.site.make("rollout", "IMAGE=okamochi:wrong-model", "TIMEOUT=20")
        image = image_of(served.cluster)
        steady(served.cluster)
    served.figures["golden_rows_fail"] = load.outcome.figures()

    assert "Error 1" in done.stderr, done.stdout
    assert re.search(r"is refused: golden rows .*: a score differs", done.stderr)
    assert image == served.image
    assert not load.outcome.lost
    assert load.outcome.answered_by.keys() == {"1"}


def test_an_image_of_another_version_than_expected_is_undone(served: Served, tmp_path: Path) -> None:
    """Its pods are ready and its model is whole; only the golden rows through the Service tell."""
    built = served.site.make("image", "IMAGE=okamochi:version-1")
    assert built.returncode == 0, built.stderr
    other = artifacts.breast_cancer(tmp_path / "other")
    served.bundle(other.path, "8")

    done = served.site.make("rollout", "IMAGE=okamochi:version-1")

    assert "Error 1" in done.stderr, done.stdout
    assert "breast_cancer, golden row 0: version 1 answered, expected 8" in done.stderr
    assert image_of(served.cluster) == served.image


def test_a_new_champion_is_rolled_out_and_taken_back(served: Served, tmp_path: Path) -> None:
    """By `make rollout` alone: bundled, built, brought, checked; nothing is lost there and back."""
    newer = artifacts.breast_cancer(tmp_path / "newer")
    served.site.run(CROWN, "breast_cancer", str(newer.path))
    with served.load() as load:
        began = time.monotonic()
        done = served.site.make("rollout", "USECASES=breast_cancer")
        seconds = time.monotonic() - began
        with clusters.addresses(served.cluster) as (url, *_):
            version = clusters.fetch(f"{url}/models/breast_cancer")["version"]
        served.cluster.kubectl("rollout", "undo", DEPLOYMENT)
        steady(served.cluster)
    served.figures["new_champion"] = {**load.outcome.figures(), "make_rollout_s": round(seconds)}

    assert done.returncode == 0, done.stdout + done.stderr
    assert version.isdecimal()
    assert version != "1"
    assert f"Rolled out: breast_cancer version {version}" in done.stdout
    assert not load.outcome.lost
    assert load.outcome.answered_by.keys() == {"1", version}


def test_golden_rows_are_asked_pod_by_pod_without_a_node_port(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through `kubectl port-forward`, as from a laptop to a cloud."""
    monkeypatch.setattr(clusters, "ready", lambda url: False)
    expected = served.site.run(
        "from artifact import manifest, store\n"
        "from deploy.image import bundled\n"
        "for tag in bundled().values(): print(store.path_of(tag)[0])"
    ).strip()
    model = rollout.Expected("breast_cancer", "1", rollout.manifest.load(Path(expected)))

    with clusters.addresses(served.cluster) as urls:
        wrong = [rollout.ask(url, model) for url in urls]

    assert wrong == [[], [], []]
    assert served.url not in urls


def test_the_autoscaler_adds_pods_under_load_and_takes_them_away(served: Served) -> None:
    """From 3 and back; how long it waits before it takes one away is shortened.

    How many rows keep three pods busy depends on the machine, so each step of the load doubles them.
    """
    quick_to_shrink(served.cluster, maxReplicas=5)
    most = 3

    def more() -> bool:
        nonlocal most
        most = max(most, len(ready_pods(served.cluster)))
        return most > 3

    began = time.monotonic()
    for rows in (1000, 2000, 4000):
        with served.load(rows=rows, rate=150) as load:
            until = time.monotonic() + 75
            wait(lambda until=until: more() or time.monotonic() > until, "a fourth pod or the next step")
            up = time.monotonic() - began
            if most > 3:
                settled = time.monotonic() + 20
                wait(lambda settled=settled: time.monotonic() > settled, "some more load")
                more()
        assert not load.outcome.lost
        if most > 3:
            break
    assert most > 3, f"three pods at {rows} rows a request: {served.cluster.get('hpa')['items']}"
    down = wait(lambda: len(ready_pods(served.cluster)) == 3, "three pods again", 2 * SECONDS)
    quick_to_shrink(served.cluster, maxReplicas=12)
    served.figures["autoscaler"] = {
        **load.outcome.figures(),
        "rows": rows,
        "most_pods": most,
        "fourth_ready_s": round(up),
        "three_again_s": round(down),
    }


def test_a_changed_setting_is_rolled_out(served: Served) -> None:
    """A line in the ConfigMap's file and `make cluster`; nothing is lost, and the line is heeded."""
    settings = served.site.folder / "k8s" / "base" / "configmap.env"
    before = settings.read_text()
    larger = json.dumps(served.body(rows=20)).encode()
    with served.load() as load:
        settings.write_text(before.rstrip("\n") + "\nOKAMOCHI_MAX_BODY_BYTES=2048\n")
        try:
            done = served.site.make("cluster")
            steady(served.cluster)
            refused = status_of(served.url, larger)
        finally:
            settings.write_text(before)
        back = served.site.make("cluster")
        steady(served.cluster)
    served.figures["setting_changed"] = load.outcome.figures()

    assert done.returncode == 0, done.stdout + done.stderr
    assert back.returncode == 0, back.stdout + back.stderr
    assert refused == 413
    assert status_of(served.url, larger) == 200
    assert not load.outcome.lost


def status_of(url: str, body: bytes) -> int:
    request = urllib.request.Request(f"{url}/predict", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_large_bodies_at_one_pod_are_refused_while_the_others_serve(served: Served) -> None:
    """Twelve of 15 MB at once, with a limit of 768 MiB: the worker outlives them."""
    pod = ready_pods(served.cluster)[0]
    worst = b'{"features": [' + b",".join([b"[]"] * 5_000_000) + b"]}"
    answers: list[str] = []

    def send(url: str) -> None:
        try:
            answers.append(str(status_of(url, worst)))
        except (OSError, HTTPException) as error:
            answers.append(type(error).__name__)

    with served.load() as load, clusters.forwarded(served.cluster, f"pod/{pod}") as url:
        load.until(300)
        before = clusters.process_of(url)
        senders = [threading.Thread(target=send, args=(url,)) for _ in range(12)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        seconds = wait(lambda: all_answer(served.cluster, 3), "three pods that answer")
        load.until(6_000)
    steady(served.cluster)
    with clusters.forwarded(served.cluster, f"pod/{pod}") as url:
        after = clusters.process_of(url)
    restarts = next(
        found["status"]["containerStatuses"][0]["restartCount"]
        for found in clusters.pods(served.cluster)
        if found["metadata"]["name"] == pod
    )
    served.figures["large_bodies"] = {
        **load.outcome.figures(),
        "share_ok": round(load.outcome.share, 5),
        "answers": sorted(answers),
        "container_restarts": restarts,
        "ready_again_s": round(seconds, 1),
    }

    assert len(answers) == 12
    assert set(answers) <= {"413", "429"}  # 429 beyond a caller's part of OKAMOCHI_BODIES_BYTES
    assert after == before
    assert load.outcome.share >= 1 - LOST_AT_MOST
