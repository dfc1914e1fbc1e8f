"""What a cluster would take amiss although each object is valid by itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest

from shop.cart.v1 import cart_pb2
from shop.checkout.v1 import checkout_pb2
from shop.identity.v1 import identity_pb2
from shop.inventory.v1 import inventory_pb2
from shopmesh.parts import read_settings

Manifest = dict[str, Any]

KUBERNETES = "1.34"
SERVICES = {
    "identity-service": identity_pb2.DESCRIPTOR,
    "inventory-service": inventory_pb2.DESCRIPTOR,
    "cart-service": cart_pb2.DESCRIPTOR,
    "checkout-service": checkout_pb2.DESCRIPTOR,
}
PROCESSES = {*SERVICES, "gateway"}
# These share no secret with the others: they are called by nobody and call nobody as a service.
ALONE = {"gateway", "migrate"}
PRE_STOP_S = 5


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {manifest["metadata"]["name"]: manifest for manifest in manifests if manifest["kind"] == kind}


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The pod template of every workload, by the workload's name."""
    return {m["metadata"]["name"]: m["spec"]["template"] for m in manifests if "template" in m.get("spec", {})}


def containers(manifests: list[Manifest]) -> Iterator[Manifest]:
    for pod in pods(manifests).values():
        yield from pod["spec"].get("initContainers", [])
        yield from pod["spec"]["containers"]


def config(manifests: list[Manifest]) -> dict[str, str]:
    maps = of_kind(manifests, "ConfigMap").items()
    (data,) = [manifest["data"] for name, manifest in maps if name.startswith("shopmesh-config-")]
    return dict(data)


def ours(manifests: list[Manifest]) -> Iterator[Manifest]:
    return (container for container in containers(manifests) if container["image"].startswith("shopmesh:"))


def settings_of(container: Manifest, manifests: list[Manifest]) -> dict[str, str]:
    """The environment that a container would find; a reference to something that is not there is a KeyError."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= of_kind(manifests, "ConfigMap")[source["configMapRef"]["name"]]["data"]
    for variable in container.get("env", []):
        if "value" in variable:
            found[variable["name"]] = variable["value"]
        else:
            reference = variable["valueFrom"]["secretKeyRef"]
            found[variable["name"]] = of_kind(manifests, "Secret")[reference["name"]]["stringData"][reference["key"]]
    return found


def labels_match(selector: dict[str, str], pod: Manifest) -> bool:
    labels: dict[str, str] = pod["metadata"]["labels"]
    return selector.items() <= labels.items()


def test_every_object_is_valid_and_has_no_unknown_field(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_every_object_stands_in_the_one_namespace_which_is_restricted(manifests: list[Manifest]) -> None:
    (namespace,) = of_kind(manifests, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    places = {m["metadata"].get("namespace") for m in manifests if m is not namespace}
    assert places == {namespace["metadata"]["name"]}


def test_pods_keep_to_the_restricted_profile(manifests: list[Manifest]) -> None:
    for name, pod in pods(manifests).items():
        security = pod["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod["spec"].keys(), name
        kinds = {kind for volume in pod["spec"]["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret"}, name


def test_containers_hold_no_privilege_and_write_only_to_volumes(manifests: list[Manifest]) -> None:
    expected = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for container in containers(manifests):
        assert container["securityContext"] == expected, container["name"]


def test_pods_get_neither_an_api_token_nor_variables_for_every_service(manifests: list[Manifest]) -> None:
    for name, pod in pods(manifests).items():
        assert pod["spec"]["automountServiceAccountToken"] is False, name
        assert pod["spec"]["enableServiceLinks"] is False, name


def test_containers_say_what_they_need_and_take_images_that_were_loaded(manifests: list[Manifest]) -> None:
    for container in containers(manifests):
        assert {"cpu", "memory"} == container["resources"]["requests"].keys(), container["name"]
        assert "memory" in container["resources"]["limits"], container["name"]
        assert container["imagePullPolicy"] == "IfNotPresent", container["name"]


def test_every_mount_has_its_volume(manifests: list[Manifest]) -> None:
    for name, pod in pods(manifests).items():
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        each = [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
        assert {mount["name"] for container in each for mount in container["volumeMounts"]} == volumes, name


def test_selectors_find_their_own_pods_and_no_others(manifests: list[Manifest]) -> None:
    every = pods(manifests)
    for kind in ("Service", "Deployment", "PodDisruptionBudget"):
        assert of_kind(manifests, kind).keys() >= PROCESSES
        for name, manifest in of_kind(manifests, kind).items():
            selector = manifest["spec"]["selector"]
            selector = selector.get("matchLabels", selector)
            assert [pod for pod, template in every.items() if labels_match(selector, template)] == [name], kind


def test_ports_agree_between_settings_containers_and_services(manifests: list[Manifest]) -> None:
    settings = config(manifests)
    every = pods(manifests)
    for name, service in of_kind(manifests, "Service").items():
        (port,) = service["spec"]["ports"]
        (open_port,) = every[name]["spec"]["containers"][0]["ports"]
        assert port["targetPort"] == open_port["name"], name
        if name in SERVICES:
            assert str(open_port["containerPort"]) == settings["SHOP_GRPC_PORT"]
            assert port["port"] == open_port["containerPort"], "a headless Service translates no port"
            address = settings[f"SHOP_{name.removesuffix('-service').upper()}_ADDR"]
            assert address == f"dns:///{name}:{port['port']}"
    (gateway,) = every["gateway"]["spec"]["containers"]
    assert str(gateway["ports"][0]["containerPort"]) == settings["SHOP_HTTP_PORT"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_says_where_its_metrics_are_scraped(manifests: list[Manifest], name: str) -> None:
    annotations = pods(manifests)[name]["metadata"]["annotations"]
    port = config(manifests)["SHOP_METRICS_PORT"]
    assert annotations == {"prometheus.io/scrape": "true", "prometheus.io/port": port}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_grpc_service_is_headless_and_probed_for_life_and_for_readiness(manifests: list[Manifest], name: str) -> None:
    service = of_kind(manifests, "Service")[name]
    assert service["spec"]["clusterIP"] == "None"
    assert not service["spec"].get("publishNotReadyAddresses", False)
    (container,) = pods(manifests)[name]["spec"]["containers"]
    assert container["args"] == ["serve", name.replace("-", "_")]
    for alive in ("startupProbe", "livenessProbe"):
        assert not container[alive]["grpc"].get("service"), "life must not depend on the database"
    package = SERVICES[name].package
    ready = container["readinessProbe"]["grpc"]["service"]
    assert ready in {f"{package}.{service}" for service in SERVICES[name].services_by_name}


def test_the_gateway_is_probed_over_http_and_holds_no_secret(manifests: list[Manifest]) -> None:
    (container,) = pods(manifests)["gateway"]["spec"]["containers"]
    assert container["args"] == ["serve", "gateway"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["startupProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert "env" not in container


def test_a_roll_never_takes_the_last_ready_pod_and_a_drain_one_at_a_time(manifests: list[Manifest]) -> None:
    for name in PROCESSES:
        deployment = of_kind(manifests, "Deployment")[name]["spec"]
        assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        assert deployment["replicas"] > of_kind(manifests, "PodDisruptionBudget")[name]["spec"]["maxUnavailable"]


def test_a_leaving_pod_serves_until_it_is_known_to_leave_and_has_time_to_drain(manifests: list[Manifest]) -> None:
    drain_s = float(config(manifests)["SHOP_DRAIN_S"])
    for name in PROCESSES:
        pod = pods(manifests)[name]["spec"]
        (container,) = pod["containers"]
        assert container["lifecycle"]["preStop"] == {"sleep": {"seconds": PRE_STOP_S}}
        assert pod["terminationGracePeriodSeconds"] > PRE_STOP_S + drain_s


def test_jobs_end_take_themselves_away_and_follow_no_name_that_changes(manifests: list[Manifest]) -> None:
    for name, job in of_kind(manifests, "Job").items():
        assert job["spec"]["ttlSecondsAfterFinished"] > 0, name
        assert job["spec"]["template"]["spec"]["restartPolicy"] == "OnFailure", name
        each = [*job["spec"]["template"]["spec"].get("initContainers", []), *pods([job])[name]["spec"]["containers"]]
        assert not any("envFrom" in container for container in each), name


def test_every_process_takes_the_settings_that_the_overlay_gives_it(
    local: list[Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    for container in ours(local):
        with monkeypatch.context() as environment:
            for name, value in settings_of(container, local).items():
                environment.setenv(name, value)

            settings = read_settings(apart=container["name"] not in ALONE)

            assert settings.common.data_dir == Path("/tmp/shopmesh"), container["name"]  # noqa: S108 - the pod's own


def test_services_share_one_secret_and_the_gateway_has_none(local: list[Manifest]) -> None:
    given = {container["name"]: settings_of(container, local).get("SHOP_SERVICE_SECRET") for container in ours(local)}
    assert {name for name, secret in given.items() if secret is None} == ALONE
    assert len(set(given.values())) == 2


def test_only_checkout_knows_how_webhooks_are_signed(local: list[Manifest]) -> None:
    knowing = {c["name"] for c in ours(local) if "SHOP_WEBHOOK_SECRETS" in settings_of(c, local)}
    assert knowing == {"checkout-service"}


def test_the_overlay_brings_the_servers_that_the_settings_name(local: list[Manifest]) -> None:
    (checkout,) = [container for container in ours(local) if container["name"] == "checkout-service"]
    settings = settings_of(checkout, local)
    for url, name in ((settings["SHOP_DB_URL"], "mariadb"), (settings["SHOP_REDIS_URL"], "redis")):
        (port,) = of_kind(local, "Service")[name]["spec"]["ports"]
        assert (urlsplit(url).hostname, urlsplit(url).port) == (name, port["port"])
        deployment = of_kind(local, "Deployment")[name]["spec"]
        assert deployment["replicas"] == 1
        assert deployment["strategy"] == {"type": "Recreate"}


def test_the_database_knows_the_user_that_the_services_sign_in_as(local: list[Manifest]) -> None:
    (mariadb,) = [container for container in containers(local) if container["name"] == "mariadb"]
    (checkout,) = [container for container in ours(local) if container["name"] == "checkout-service"]
    url = urlsplit(settings_of(checkout, local)["SHOP_DB_URL"])
    told = settings_of(mariadb, local)
    assert (url.username, url.password) == (told["MARIADB_USER"], told["MARIADB_PASSWORD"])
