"""Who may talk to whom, read from the NetworkPolicies; whether they are enforced is the cluster's affair."""

from __future__ import annotations

import pytest

from tests.k8s.policies import OUTSIDE, Pod, allowed
from tests.k8s.rendering import COMPONENTS, K8S, SERVER, Object, of_kind, render, rendered


def ours(component: str, **ports: int) -> Pod:
    return Pod({**SERVER, "app.kubernetes.io/component": component}, ports=ports)


SERVING = ours("server", http=3000, grpc=3001)
MLFLOW = ours("mlflow", http=5000)
POSTGRES = ours("postgres", postgres=5432)
TRAINING, BACKUP, LOADTEST = ours("training"), ours("backup"), ours("loadtest")
NEIGHBOUR = Pod({"app": "curl"})
DNS = Pod({"k8s-app": "kube-dns"}, namespace="kube-system")
OTHER_SYSTEM = Pod({"k8s-app": "metrics-server"}, namespace="kube-system")
STRANGER = Pod({"app": "curl"}, namespace="shop")
CLIENT = Pod({"app": "shop"}, namespace="shop", namespace_labels={"okamochi/client": "true"})
PROMETHEUS = Pod({"app.kubernetes.io/name": "prometheus"}, namespace="monitoring")
GRAFANA = Pod({"app.kubernetes.io/name": "grafana"}, namespace="monitoring")


@pytest.fixture(scope="module")
def everything() -> list[Object]:
    """All components at once but those that replace a part of the base or let the server out."""
    left = {"keda", "canary", "follow", "kserve", "live-quality"}
    return of_kind(rendered(*[c for c in COMPONENTS if c not in left]), "NetworkPolicy")


@pytest.fixture(scope="module")
def base() -> list[Object]:
    return of_kind(rendered(), "NetworkPolicy")


def test_whatever_is_not_named_is_denied(base: list[Object]) -> None:
    (found,) = [each for each in base if each["metadata"]["name"] == "default-deny"]
    assert found["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    new = Pod({"app": "new"})
    assert not allowed(base, STRANGER, new, 80)
    assert not allowed(base, new, STRANGER, 80)
    assert not allowed(base, new, OUTSIDE, 443)


@pytest.mark.parametrize(
    ("source", "target", "port", "protocol"),
    [
        pytest.param(SERVING, DNS, 53, "UDP", id="server-dns"),
        pytest.param(SERVING, DNS, 53, "TCP", id="server-dns-tcp"),
        pytest.param(CLIENT, SERVING, 3000, "TCP", id="client-server"),
        pytest.param(CLIENT, SERVING, 3001, "TCP", id="client-server-grpc"),
        pytest.param(PROMETHEUS, SERVING, 3000, "TCP", id="prometheus-server"),
        pytest.param(LOADTEST, SERVING, 3000, "TCP", id="loadtest-server"),
        pytest.param(LOADTEST, LOADTEST, 5557, "TCP", id="loadtest-master"),
        pytest.param(TRAINING, MLFLOW, 5000, "TCP", id="training-mlflow"),
        pytest.param(TRAINING, POSTGRES, 5432, "TCP", id="training-study"),
        pytest.param(MLFLOW, POSTGRES, 5432, "TCP", id="mlflow-postgres"),
        pytest.param(BACKUP, POSTGRES, 5432, "TCP", id="backup-postgres"),
        pytest.param(TRAINING, DNS, 53, "UDP", id="training-dns"),
    ],
)
def test_what_is_needed_gets_through(
    everything: list[Object], source: Pod, target: Pod, port: int, protocol: str
) -> None:
    assert allowed(everything, source, target, port, protocol)


@pytest.mark.parametrize(
    ("source", "target", "port"),
    [
        pytest.param(STRANGER, SERVING, 3000, id="stranger-server"),
        pytest.param(STRANGER, SERVING, 3001, id="stranger-server-grpc"),
        pytest.param(PROMETHEUS, SERVING, 3001, id="prometheus-server-grpc"),
        pytest.param(OUTSIDE, SERVING, 3000, id="outside-server"),
        pytest.param(CLIENT, SERVING, 9000, id="another-port"),
        pytest.param(GRAFANA, SERVING, 3000, id="monitoring-but-not-prometheus"),
        pytest.param(SERVING, OUTSIDE, 443, id="server-outside"),
        pytest.param(SERVING, OTHER_SYSTEM, 53, id="dns-port-of-another-pod"),
        pytest.param(SERVING, POSTGRES, 5432, id="server-postgres"),
        pytest.param(SERVING, MLFLOW, 5000, id="server-mlflow"),
        pytest.param(CLIENT, MLFLOW, 5000, id="client-mlflow"),
        pytest.param(NEIGHBOUR, POSTGRES, 5432, id="neighbour-postgres"),
        pytest.param(MLFLOW, OUTSIDE, 443, id="mlflow-outside"),
        pytest.param(BACKUP, MLFLOW, 5000, id="backup-mlflow"),
        pytest.param(STRANGER, LOADTEST, 5557, id="stranger-loadtest"),
    ],
)
def test_what_is_not_needed_does_not(everything: list[Object], source: Pod, target: Pod, port: int) -> None:
    assert not allowed(everything, source, target, port)


def test_servers_that_log_predictions_reach_the_database_and_nothing_else() -> None:
    found = of_kind(rendered("live-quality"), "NetworkPolicy")
    assert allowed(found, SERVING, POSTGRES, 5432)
    assert allowed(found, MLFLOW, POSTGRES, 5432)
    assert not allowed(found, SERVING, MLFLOW, 5000)
    assert not allowed(found, SERVING, OUTSIDE, 5432)


def test_without_monitoring_prometheus_is_a_stranger(base: list[Object]) -> None:
    assert not allowed(base, PROMETHEUS, SERVING, 3000)


def test_the_local_nodeport_is_open_to_all() -> None:
    """Whoever comes through a NodePort comes from outside; and only to that port."""
    local = of_kind(render(K8S / "overlays" / "local"), "NetworkPolicy")
    assert allowed(local, OUTSIDE, SERVING, 3000)
    assert not allowed(local, OUTSIDE, SERVING, 22)
