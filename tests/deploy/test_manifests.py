"""The manifests are such as a cluster takes, and ask for no more than they need."""

import copy
import shutil
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pipelines.cli import COMMANDS
from pipelines.exit_codes import ExitCode
from tests.deploy.manifests import FOLDER, Container, container, containers, documents, kustomization, pod_of, settings
from tests.engines.builds import refuse

# The oldest that is looked after, and the newest that the schemas are of.
VERSIONS = ("1.31", "1.37")
DOCUMENTS = documents()
PODS = [(name, pod) for name, document in DOCUMENTS if (pod := pod_of(document)) is not None]
JOBS = [(name, document) for name, document in DOCUMENTS if document["kind"] == "CronJob"]

of_documents = pytest.mark.parametrize(
    "document", [document for _, document in DOCUMENTS], ids=[name for name, _ in DOCUMENTS]
)
of_pods = pytest.mark.parametrize("pod", [pod for _, pod in PODS], ids=[name for name, _ in PODS])
of_jobs = pytest.mark.parametrize("job", [job for _, job in JOBS], ids=[name for name, _ in JOBS])


@pytest.mark.parametrize("version", VERSIONS)
@of_documents
def test_each_object_is_as_its_schema_says(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where objects lie in an object."""
    found = [at] if isinstance(value, dict) else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [path for key, inner in items for path in paths(inner, (*at, key))]


# What any name may be in.
_FREE = {"labels", "matchLabels", "annotations", "data", "selector", "limits", "requests"}


@of_documents
def test_a_slip_of_the_pen_is_found_wherever_it_is(document: dict[str, Any]) -> None:
    """Of the check itself: a member that there is not is refused at every place."""
    for path in paths(document):
        if path and path[-1] in _FREE:
            continue
        slip = copy.deepcopy(document)
        place = slip
        for key in path:
            place = place[key]
        place["noSuchMember"] = "x"
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(slip, VERSIONS[-1], strict=True)


def test_the_kustomization_names_every_file() -> None:
    there = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert sorted(kustomization()["resources"]) == sorted(there)


@pytest.mark.engine
def test_kustomize_builds_them_all() -> None:
    if shutil.which("kubectl") is None:
        refuse("no kubectl on PATH to build the kustomization")
    built = subprocess.run(["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True, check=True).stdout
    objects = list(yaml.safe_load_all(built))
    assert len(objects) == len(DOCUMENTS)
    for built_object in objects:
        assert built_object["metadata"]["namespace"] == "tierloom"
        kubernetes_validate.validate(built_object, VERSIONS[-1], strict=True)


@of_pods
def test_nobody_is_root_and_nothing_is_written_but_scratch(pod: dict[str, Any]) -> None:
    (one,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert one["volumeMounts"] == [{"name": "scratch", "mountPath": "/scratch"}]
    (volume,) = pod["volumes"]
    limit = one["resources"]["limits"]["ephemeral-storage"]
    assert volume == {"name": "scratch", "emptyDir": {"sizeLimit": limit}}
    assert one["resources"]["limits"]["memory"] == one["resources"]["requests"]["memory"]
    assert one["resources"]["requests"]["cpu"]


@of_pods
def test_secrets_are_named_and_not_told(pod: dict[str, Any]) -> None:
    (one,) = pod["containers"]
    for variable in one.get("env", []):
        if variable["name"].endswith(("KEY", "TOKEN")):
            assert set(variable) == {"name", "valueFrom"}
            assert variable["valueFrom"]["secretKeyRef"]["name"] == "tierloom"


def test_who_needs_no_model_gets_no_key() -> None:
    keys = {one.command: "OPENAI_API_KEY" in one.environment({}) for one in containers()}
    assert {command for command, has in keys.items() if not has} == {"compact", "gc", "verify"}


def test_images_have_a_version_and_kustomize_knows_them() -> None:
    known = {image["name"]: image["newTag"] for image in kustomization()["images"]}
    used = {tuple(one.spec["image"].split(":")) for one in containers()}
    assert used == set(known.items())
    assert container("serve").spec["image"].startswith("tierloom-reader:")


def test_what_a_container_is_told_is_known() -> None:
    names = {name for one in containers() for name in one.environment({}) if "valueFrom" not in str(one.spec)}
    assert set(settings()) >= {"STORE", "SOURCE", "TOPIC"}
    assert names <= {*settings(), "PORT"}


@of_jobs
def test_no_job_is_started_twice_and_failures_are_told_apart(job: dict[str, Any]) -> None:
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    assert job["spec"]["timeZone"] == "Etc/UTC"
    spec = job["spec"]["jobTemplate"]["spec"]
    (one,) = spec["template"]["spec"]["containers"]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["backoffLimit"] > 0
    evicted, looked_at = spec["podFailurePolicy"]["rules"]
    assert (evicted["action"], evicted["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert looked_at["action"] == "FailJob"
    assert looked_at["onExitCodes"]["containerName"] == one["name"]
    for_people = sorted(map(int, set(ExitCode) - {ExitCode.DONE, ExitCode.LATER}))
    assert looked_at["onExitCodes"]["values"] == for_people


def test_what_runs_on_a_schedule_has_its_job() -> None:
    commands = {Container(name, pod["containers"][0]).command for name, pod in PODS if name.startswith("CronJob")}
    assert commands == {"ingest", "compact", "gc", "verify", "canary", "reembed"}
    assert container("ingest").spec["args"].count("--sync") == 1
    suspended = [job["metadata"]["name"] for _, job in JOBS if job["spec"].get("suspend")]
    assert suspended == ["tierloom-reembed"]


def test_the_service_finds_its_pods() -> None:
    objects = dict(DOCUMENTS)
    labels = objects["Deployment/tierloom-serve"]["spec"]["template"]["metadata"]["labels"]
    assert objects["Service/tierloom-serve"]["spec"]["selector"].items() <= labels.items()
    assert objects["PodDisruptionBudget/tierloom-serve"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    ports = {port["name"]: port["containerPort"] for port in container("serve").spec["ports"]}
    assert objects["Service/tierloom-serve"]["spec"]["ports"][0]["targetPort"] in ports
    assert str(ports["http"]) == container("serve").environment({})["PORT"]


def test_a_pod_has_time_to_end() -> None:
    """As the server's own `--drain` and `--grace` want."""
    arguments = container("serve").spec["args"]
    drain = float(arguments[arguments.index("--drain") + 1])
    (pod,) = (pod for name, pod in PODS if name == "Deployment/tierloom-serve")
    assert pod["terminationGracePeriodSeconds"] > drain + 30


def test_every_command_is_one() -> None:
    """They are run by the tests beside this one."""
    assert {one.command for one in containers()} <= set(COMMANDS)
