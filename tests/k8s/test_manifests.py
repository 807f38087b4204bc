"""The promises of a Deployment for production, read from what would be applied."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from deploy import __main__ as deploy
from serving.access.rights import OPEN, needed
from serving.settings import PREFIX, Settings
from tests.k8s.rendering import (
    COMPONENTS,
    K8S,
    OVERLAYS,
    SERVER,
    Object,
    compose,
    of_kind,
    one,
    pod_template,
    render,
    rendered,
    workloads,
)

if TYPE_CHECKING:
    from pathlib import Path

OF_KUSTOMIZE = {"kustomization.yaml", "references.yaml"}
EVERYTHING = [*(f"overlays/{name}" for name in OVERLAYS), *(f"components/{name}" for name in COMPONENTS)]


@pytest.fixture(scope="module")
def objects() -> dict[str, list[Object]]:
    """What each overlay applies, and each component on the base."""
    found = {f"overlays/{name}": render(K8S / "overlays" / name) for name in OVERLAYS}
    return found | {f"components/{name}": rendered(name) for name in COMPONENTS}


@pytest.fixture(scope="module")
def base() -> list[Object]:
    return rendered()


@pytest.fixture(scope="module")
def server(base: list[Object]) -> Object:
    return one(base, "Deployment", "okamochi")


@pytest.mark.parametrize("what", EVERYTHING)
def test_it_is_all_in_one_namespace_that_is_restricted(objects: dict[str, list[Object]], what: str) -> None:
    for each in objects[what]:
        if each["kind"] == "Namespace":
            labels = each["metadata"]["labels"]
            assert each["metadata"]["name"] == "okamochi"
            assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
        else:
            assert each["metadata"]["namespace"] == "okamochi", each["metadata"]["name"]
    assert of_kind(objects[what], "Namespace")


@pytest.mark.parametrize(
    "file", [f for f in sorted(K8S.rglob("*.yaml")) if f.name not in OF_KUSTOMIZE],
    ids=lambda file: str(file.relative_to(K8S)),
)  # fmt: skip
def test_a_file_holds_one_object_and_is_named_after_its_kind(file: Path) -> None:
    (found,) = yaml.safe_load_all(file.read_text())
    assert file.stem.partition("-")[0] == found["kind"].lower()


@pytest.mark.parametrize(
    "folder", sorted(f.parent for f in K8S.rglob("kustomization.yaml")), ids=lambda f: str(f.relative_to(K8S))
)
def test_every_file_is_used(folder: Path) -> None:
    """A manifest that no kustomization names is applied by nobody."""
    text = (folder / "kustomization.yaml").read_text()
    for file in folder.iterdir():
        assert file.name == "kustomization.yaml" or file.is_dir() or file.name in text, file


@pytest.mark.parametrize("what", EVERYTHING)
def test_every_pod_keeps_within_restricted(objects: dict[str, list[Object]], what: str) -> None:
    """And more: a root that is read-only, memory that is bounded, no token, nothing of the node."""
    for workload in workloads(objects[what]):
        pod = pod_template(workload)["spec"]
        name = workload["metadata"]["name"]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["enableServiceLinks"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys(), name
        context = pod["securityContext"]
        assert context["runAsNonRoot"], name
        assert context["runAsUser"] >= 999, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for volume in pod["volumes"]:
            assert set(volume) - {"name"} <= {"emptyDir", "configMap", "persistentVolumeClaim", "secret"}, (
                name
            )
            assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"], name
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"], name
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name
            assert "memory" in container["resources"]["limits"], name
            assert container["imagePullPolicy"] == "IfNotPresent", name


def test_a_rolling_restart_never_has_fewer_pods_than_before(server: Object) -> None:
    spec = server["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert spec["minReadySeconds"] > 0
    pod = pod_template(server)["spec"]
    (container,) = pod["containers"]
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pause == 15
    assert pod["terminationGracePeriodSeconds"] == 60
    stalled = container["startupProbe"]["failureThreshold"] * container["startupProbe"]["periodSeconds"]
    assert stalled < spec["progressDeadlineSeconds"], "a pod that may still start would be given up"


def test_a_pod_is_one_worker_on_one_core(server: Object, base: list[Object]) -> None:
    (container,) = pod_template(server)["spec"]["containers"]
    assert {"name": "OMP_NUM_THREADS", "value": "1"} in container["env"]
    (settings,) = of_kind(base, "ConfigMap")
    assert settings["data"]["OKAMOCHI_WORKERS"] == "1"


def test_probes_ask_what_they_are_for(server: Object) -> None:
    (container,) = pod_template(server)["spec"]["containers"]
    paths = {
        kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")
    }
    assert paths == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/livez"}
    assert container["ports"] == [
        {"name": "http", "containerPort": 3000},
        {"name": "grpc", "containerPort": 3001},
    ]
    ready = container["readinessProbe"]
    seconds = ready["failureThreshold"] * max(ready["periodSeconds"], ready["timeoutSeconds"])
    assert seconds <= 5, "whoever is sent to a pod without a worker waits for the next one"


def test_what_is_written_to_is_mounted(server: Object) -> None:
    """The bento lies outside of BENTOML_HOME, which is empty at each start."""
    pod = pod_template(server)["spec"]
    (container,) = pod["containers"]
    mounts = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    home = next(each["value"] for each in container["env"] if each["name"] == "BENTOML_HOME")
    assert mounts.keys() == {home, "/tmp"}  # noqa: S108
    assert not "/bento".startswith(home)


def test_pods_are_spread_over_nodes_and_zones(server: Object) -> None:
    spread = pod_template(server)["spec"]["topologySpreadConstraints"]
    assert {each["topologyKey"] for each in spread} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }
    for each in spread:
        assert (
            each["labelSelector"]["matchLabels"].items() <= pod_template(server)["metadata"]["labels"].items()
        )
        assert each["whenUnsatisfiable"] == "ScheduleAnyway", "one node must do"


def test_the_autoscaler_owns_the_number_of_replicas(server: Object, base: list[Object]) -> None:
    """An apply would put back a number that stands in the Deployment."""
    assert "replicas" not in server["spec"]
    scaler = one(base, "HorizontalPodAutoscaler", "okamochi")["spec"]
    assert scaler["minReplicas"] >= 3
    assert scaler["scaleTargetRef"]["name"] == server["metadata"]["name"]
    (metric,) = scaler["metrics"]
    assert metric["containerResource"]["container"] == pod_template(server)["spec"]["containers"][0]["name"]


def test_a_drain_leaves_pods_that_serve(server: Object, base: list[Object]) -> None:
    budget = one(base, "PodDisruptionBudget", "okamochi")["spec"]
    scaler = one(base, "HorizontalPodAutoscaler", "okamochi")["spec"]
    assert 0 < budget["maxUnavailable"] < scaler["minReplicas"] - 1
    assert budget["selector"]["matchLabels"].items() <= pod_template(server)["metadata"]["labels"].items()


@pytest.mark.parametrize("what", EVERYTHING)
def test_every_service_and_budget_selects_pods_that_are_there(
    objects: dict[str, list[Object]], what: str
) -> None:
    pods = [pod_template(workload)["metadata"]["labels"] for workload in workloads(objects[what])]
    # KServe gives the labels of an InferenceService to its pods.
    pods += [each["metadata"]["labels"] for each in of_kind(objects[what], "InferenceService")]
    for each in of_kind(objects[what], "Service"):
        assert any(each["spec"]["selector"].items() <= labels.items() for labels in pods), each["metadata"][
            "name"
        ]


def test_a_changed_setting_is_a_changed_pod(tmp_path: Path, server: Object) -> None:
    """So `kubectl apply -k` rolls it out, and a rollback brings the old settings back with the old pods."""
    changed = compose(
        tmp_path / "overlay",
        configMapGenerator=[{"name": "okamochi", "behavior": "merge", "literals": ["OKAMOCHI_QUEUE_ROWS=5"]}],
    )
    objects = render(changed)
    (settings,) = of_kind(objects, "ConfigMap")
    assert settings["data"] == {
        "OKAMOCHI_WORKERS": "1",
        "OKAMOCHI_GRPC_PORT": "3001",
        "OKAMOCHI_QUEUE_ROWS": "5",
    }

    def reads(deployment: Object) -> str:
        (container,) = pod_template(deployment)["spec"]["containers"]
        return str(container["envFrom"][0]["configMapRef"]["name"])

    now = one(objects, "Deployment", "okamochi")
    assert reads(now) == settings["metadata"]["name"] != reads(server)


def test_a_changed_setting_of_a_component_reaches_its_pods() -> None:
    """By a patch, as k8s/README.md shows it."""
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "okamochi-tuning"}}
    patch = yaml.safe_dump(config | {"data": {"USECASE": "credit"}})
    plain, changed = rendered("tuning"), rendered("tuning", patches=[{"patch": patch}])
    for objects, use_case in ((plain, "breast_cancer"), (changed, "credit")):
        (settings,) = [each for each in of_kind(objects, "ConfigMap") if "USECASE" in each["data"]]
        assert settings["data"]["USECASE"] == use_case
        assert "STUDY" in settings["data"]
        for job in of_kind(objects, "Job"):
            assert settings["metadata"]["name"] in str(job["spec"])


@pytest.mark.parametrize("what", EVERYTHING)
def test_every_setting_of_a_server_is_one_that_it_reads(objects: dict[str, list[Object]], what: str) -> None:
    known = {PREFIX + name.upper() for name in Settings.__dataclass_fields__}
    for each in of_kind(objects[what], "ConfigMap"):
        if each["metadata"]["name"].startswith("okamochi-") and "OKAMOCHI_WORKERS" not in each["data"]:
            continue
        assert each["data"].keys() <= known


@pytest.mark.parametrize("what", EVERYTHING)
def test_every_config_that_a_pod_takes_is_there(objects: dict[str, list[Object]], what: str) -> None:
    """Secrets are made by hand: their names are in the components' comments."""
    by_hand = {"okamochi-postgres"} | (
        {"okamochi-prediction-log"} if what.endswith("live-quality") else set()
    )
    by_hand |= {"okamochi-mlflow-auth"} if what.endswith("mlflow-auth") else set()
    there = {
        each["metadata"]["name"] for each in of_kind(objects[what], "ConfigMap", "PersistentVolumeClaim")
    }
    for workload in workloads(objects[what]):
        for kind, name in references(pod_template(workload)["spec"]):
            assert name in (there if kind != "secret" else by_hand), workload["metadata"]["name"]


def references(node: Any) -> list[tuple[str, str]]:
    """Names of config maps, claims and secrets that a pod cannot start without, wherever they stand in it."""
    kinds = {
        "configMapRef": "config",
        "configMap": "config",
        "persistentVolumeClaim": "claim",
        "secretKeyRef": "secret",
    }
    if isinstance(node, list):
        return [found for each in node for found in references(each)]
    if not isinstance(node, dict):
        return []
    found = [
        (kind, node[key].get("claimName") or node[key]["name"])
        for key, kind in kinds.items()
        if key in node and not node[key].get("optional")
    ]
    return found + [each for value in node.values() for each in references(value)]


def test_production_takes_every_image_by_digest(objects: dict[str, list[Object]]) -> None:
    for workload in workloads(objects["overlays/production"]):
        for container in pod_template(workload)["spec"]["containers"]:
            assert re.fullmatch(r"[\w./-]+@sha256:[0-9a-f]{64}", container["image"]), container["image"]


def test_no_image_floats(objects: dict[str, list[Object]]) -> None:
    """A tag that names a version, or the one that was built here."""
    for found in objects.values():
        for workload in workloads(found):
            for container in pod_template(workload)["spec"]["containers"]:
                assert re.search(r"(:local|:\d[\w.-]*|@sha256:\w+)$", container["image"]), container["image"]


def test_local_is_reached_from_this_machine(objects: dict[str, list[Object]]) -> None:
    service = one(objects["overlays/local"], "Service", "okamochi")["spec"]
    assert (service["type"], service["ports"][0]["nodePort"]) == ("NodePort", 30300)
    assert service["selector"] == SERVER


def test_production_needs_keys_and_its_clients_have_theirs(objects: dict[str, list[Object]]) -> None:
    """Prometheus by the PodMonitor, Locust by its Jobs; probes ask open routes."""
    found = objects["overlays/production"]
    pod = pod_template(one(found, "Deployment", "okamochi"))["spec"]
    (container,) = pod["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    (volume,) = (each for each in pod["volumes"] if "secret" in each)
    (mount,) = (each for each in container["volumeMounts"] if each["name"] == volume["name"])
    assert environment["OKAMOCHI_KEYS"] == f"{mount['mountPath']}/keys.json"
    assert "subPath" not in mount, "a subPath never changes in a running pod"
    assert mount["readOnly"]
    assert volume["secret"] == {"secretName": "okamochi-keys", "defaultMode": 0o440}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert needed("GET", container[probe]["httpGet"]["path"]).right == OPEN
    (endpoint,) = one(found, "PodMonitor", "okamochi")["spec"]["podMetricsEndpoints"]
    assert endpoint["authorization"] == {
        "type": "Bearer",
        "credentials": {"name": "okamochi-clients", "key": "prometheus"},
    }
    for job in of_kind(rendered("loadtest", "keys"), "Job"):
        (locust,) = pod_template(job)["spec"]["containers"]
        (variable,) = locust["env"]
        assert variable["name"] == "OKAMOCHI_CLIENT_KEY"
        assert variable["valueFrom"]["secretKeyRef"] == {"name": "okamochi-clients", "key": "loadtest"}
    assert "OKAMOCHI_KEYS" not in str(objects["overlays/local"])


def test_the_edge_has_tls_and_publishes_no_metrics(objects: dict[str, list[Object]]) -> None:
    found = objects["components/tls"]
    listeners = {each["name"]: each for each in one(found, "Gateway", "okamochi")["spec"]["listeners"]}
    assert listeners["https"]["tls"]["certificateRefs"] == [{"kind": "Secret", "name": "okamochi-tls"}]
    route = one(found, "HTTPRoute", "okamochi-tls")["spec"]
    assert [each["sectionName"] for each in route["parentRefs"]] == ["https"]
    (rule,) = route["rules"]
    prefixes = [each["path"]["value"] for each in rule["matches"]]
    for private in ("/metrics", "/docs", "/console", "/openapi.json", "/livez", "/readyz", "/"):
        assert not any(private == prefix or private.startswith(f"{prefix}/") for prefix in prefixes)
    (redirect,) = one(found, "HTTPRoute", "okamochi-redirect")["spec"]["rules"]
    assert redirect["filters"][0]["requestRedirect"]["scheme"] == "https"
    assert "backendRefs" not in redirect


def test_production_opens_no_port_of_the_nodes(objects: dict[str, list[Object]]) -> None:
    for service in of_kind(objects["overlays/production"], "Service"):
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP"


def test_no_secret_is_in_the_manifests(objects: dict[str, list[Object]]) -> None:
    for found in objects.values():
        assert not of_kind(found, "Secret")
        for workload in workloads(found):
            for container in pod_template(workload)["spec"]["containers"]:
                for each in container.get("env", []):
                    assert not ("PASSWORD" in each["name"] and "value" in each), each["name"]


def test_one_autoscaler_at_a_time(objects: dict[str, list[Object]]) -> None:
    """KEDA makes its own under the base's name; a canary's belongs to the Rollout."""
    assert not of_kind(objects["components/keda"], "HorizontalPodAutoscaler")
    (scaled,) = of_kind(objects["components/keda"], "ScaledObject")
    assert scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["name"] == "okamochi"
    (scaler,) = of_kind(objects["components/canary"], "HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"]["kind"] == "Rollout"


def test_kserve_runs_the_pods_of_the_base(objects: dict[str, list[Object]]) -> None:
    """Instead of the Deployment; the Service, the policies and the disruption budget select them."""
    found = objects["components/kserve"]
    assert not of_kind(found, "Deployment", "HorizontalPodAutoscaler")
    base = one(objects["components/monitoring"], "Deployment", "okamochi")
    pod = pod_template(base)["spec"]
    (container,) = pod.pop("containers")
    runtime = one(found, "ServingRuntime", "okamochi")["spec"]
    (own,) = runtime["containers"]
    assert own.pop("name") == "kserve-container"
    assert own == {key: value for key, value in container.items() if key != "name"}
    assert runtime["volumes"] == pod.pop("volumes")
    del pod["topologySpreadConstraints"]  # by a label that only a Deployment's pods have
    service = one(found, "InferenceService", "okamochi")
    predictor = service["spec"]["predictor"]
    assert {key: predictor[key] for key in pod} == pod
    assert predictor["model"]["runtime"] == "okamochi"
    assert predictor["model"]["modelFormat"]["name"] == runtime["supportedModelFormats"][0]["name"]
    assert predictor["model"]["protocolVersion"] in runtime["protocolVersions"]
    for kind in ("Service", "PodDisruptionBudget"):
        selector = one(found, kind, "okamochi")["spec"]["selector"]
        assert selector.get("matchLabels", selector).items() <= service["metadata"]["labels"].items()


def test_a_canary_without_requests_is_no_error(objects: dict[str, list[Object]]) -> None:
    """No sample has no first one; Argo Rollouts would count an error, and go back after five."""
    (template,) = of_kind(objects["components/canary"], "AnalysisTemplate")
    for metric in template["spec"]["metrics"]:
        for condition in (metric["successCondition"], metric["failureCondition"]):
            assert condition.startswith("len(result) > 0 && result[0] "), condition
        assert metric["inconclusiveLimit"] < metric["count"]


def test_mlflow_knows_every_name_it_is_called_by(objects: dict[str, list[Object]]) -> None:
    """To another it answers 403 while /health is fine, so its probe asks the API by the Service's name."""
    found = objects["components/mlflow"]
    (container,) = pod_template(one(found, "Deployment", "okamochi-mlflow"))["spec"]["containers"]
    (hosts,) = [each.partition("=")[2] for each in container["args"] if each.startswith("--allowed-hosts=")]
    service = one(found, "Service", "okamochi-mlflow")
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]["port"]
    named = "$(NAMESPACE)"
    for suffix in ("", f".{named}", f".{named}.svc", f".{named}.svc.cluster.local"):
        assert f"{name}{suffix}:{port}" in hosts.split(",")
    for probe in ("startupProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["path"].startswith("/api/")
        assert asked["httpHeaders"] == [{"name": "Host", "value": f"{name}:{port}"}]


def test_with_passwords_mlflow_has_them_from_secrets_and_so_have_all_who_ask_it() -> None:
    """Whatever the order of the components; a probe has no password, so it asks a path that is open."""
    asking = ("retraining", "tuning", "live-quality", "follow")
    found = rendered("mlflow", "mlflow-auth", *asking)
    (container,) = pod_template(one(found, "Deployment", "okamochi-mlflow"))["spec"]["containers"]
    assert "--app-name=basic-auth" in container["args"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] == "/health"
    env = {each["name"]: each for each in container["env"]}
    for name in ("MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"):
        assert env[name]["valueFrom"]["secretKeyRef"]["name"] == "okamochi-mlflow-auth"
    folder, _, file = env["MLFLOW_AUTH_CONFIG_PATH"]["value"].rpartition("/")
    (mount,) = [each for each in container["volumeMounts"] if each["mountPath"] == folder]
    (volume,) = [
        each
        for each in pod_template(one(found, "Deployment", "okamochi-mlflow"))["spec"]["volumes"]
        if each["name"] == mount["name"]
    ]
    config = one(found, "ConfigMap", volume["configMap"]["name"])
    assert "default_permission = READ" in config["data"][file]

    asked = 0
    for workload in workloads(found):
        pod = pod_template(workload)["spec"]
        for each in [*pod["containers"], *pod.get("initContainers", [])]:
            if "training" in each["image"] and each["name"] != "mlflow" and "backup" not in str(each):
                sent = {one["name"]: one.get("valueFrom") for one in each["env"]}
                for name in ("USERNAME", "PASSWORD"):
                    secret = sent[f"MLFLOW_TRACKING_{name}"]["secretKeyRef"]
                    assert secret == {
                        "name": "okamochi-mlflow-clients",
                        "key": name.lower(),
                        "optional": True,
                    }, workload["metadata"]["name"]
                asked += 1
    assert asked == 6  # two of `follow`, two of `tuning`, a CronJob each


def test_those_who_ask_mlflow_ask_it_where_it_is(objects: dict[str, list[Object]]) -> None:
    for what in ("components/retraining", "components/tuning", "components/live-quality"):
        service = one(objects[what], "Service", "okamochi-mlflow")
        uri = f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
        assert uri in yaml.safe_dump(objects[what])


def test_tuning_shares_one_study(objects: dict[str, list[Object]]) -> None:
    found = objects["components/tuning"]
    workers = one(found, "Job", "okamochi-tuning-workers")["spec"]
    assert workers["completionMode"] == "Indexed"
    assert workers["completions"] == workers["parallelism"] > 1
    run = one(found, "Job", "okamochi-tuning-run")
    reads = [
        pod_template(job)["spec"]["containers"][0]["envFrom"]
        for job in (run, one(found, "Job", "okamochi-tuning-workers"))
    ]
    assert reads[0] == reads[1]


def test_scoring_goes_on_where_a_pod_was_and_its_command_is_one(objects: dict[str, list[Object]]) -> None:
    """What is done is on the volume of the output, and the command's options exist."""
    found = objects["components/score"]
    job = one(found, "Job", "okamochi-score")
    (container,) = pod_template(job)["spec"]["containers"]
    (settings,) = (
        each["data"]
        for each in of_kind(found, "ConfigMap")
        if each["metadata"]["name"] == container["envFrom"][0]["configMapRef"]["name"]
    )
    (mount,) = (each for each in container["volumeMounts"] if each["name"] == "tables")
    assert settings["TABLE"].startswith(mount["mountPath"] + "/")
    assert settings["OUTPUT"].startswith(mount["mountPath"] + "/")
    words = [re.sub(r"\$\((\w+)\)", lambda name: settings[name[1]], word) for word in container["args"]]
    assert words[:3] == ["python", "-m", "deploy"]
    parser = argparse.ArgumentParser()
    deploy.add_commands(parser.add_subparsers())
    options = parser.parse_args(words[3:])
    assert (options.table, options.output, options.jobs) == ("/tables/in.parquet", "/tables/out.parquet", 1)
    assert job["spec"]["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2]


def test_as_many_workers_load_as_the_master_waits_for(objects: dict[str, list[Object]]) -> None:
    found = objects["components/loadtest"]
    (settings,) = [each for each in of_kind(found, "ConfigMap") if "WORKERS" in each["data"]]
    workers = one(found, "Job", "okamochi-loadtest-workers")["spec"]
    assert int(settings["data"]["WORKERS"]) == workers["parallelism"] == workers["completions"]
    assert one(found, "Job", "okamochi-loadtest")["spec"]["backoffLimit"] == 0, "a verdict is given once"


def test_what_pods_log_is_where_the_judge_looks(objects: dict[str, list[Object]]) -> None:
    found = objects["components/live-quality"]
    said = [
        {each["name"]: each for each in pod_template(one(found, *which))["spec"]["containers"][0]["env"]}
        for which in (("Deployment", "okamochi"), ("CronJob", "okamochi-live-quality"))
    ]
    assert said[0]["OKAMOCHI_PREDICTION_LOG"] == said[1]["OKAMOCHI_PREDICTION_LOG"]
    assert said[0]["BENTOML_HOME"], "what the base has is still there"


@pytest.mark.parametrize(
    ("live", "run", "expected", "trained"),
    [(0, 9, 0, False), (2, 9, 0, False), (3, 0, 0, True), (3, 3, 0, True), (3, 1, 1, True), (4, 9, 4, False)],
)
def test_the_judge_retrains_where_a_promise_is_broken(
    objects: dict[str, list[Object]], tmp_path: Path, live: int, run: int, expected: int, *, trained: bool
) -> None:
    """By exit codes of `training live` and `training run`, which another program of that name plays."""
    job = one(objects["components/live-quality"], "CronJob", "okamochi-live-quality")
    command = pod_template(job)["spec"]["containers"][0]["command"]
    plays = tmp_path / "python"
    plays.write_text(f"#!/bin/sh\necho $3 >> {tmp_path}/done\n[ $3 = live ] && exit {live}\nexit {run}\n")
    plays.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    ended = subprocess.run(command, env={"PATH": path, "USECASE": "iris", "TRIALS": "3"}, check=False)
    assert ended.returncode == expected
    assert (tmp_path / "done").read_text().split() == (["live", "run"] if trained else ["live"])
