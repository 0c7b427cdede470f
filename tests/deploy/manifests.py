"""The Kubernetes manifests, and their containers run as they stand: with the installed program, on this machine."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "deploy" / "kubernetes"
PROGRAM: Final = Path(sys.executable).parent / "tierloom"
SCRATCH: Final = "/scratch"
# What `kubectl create secret` would have been given.
SECRETS: Final = {"openai-api-key": "sk-of-the-cluster", "query-token": "a-token-of-the-cluster"}


def documents() -> list[tuple[str, dict[str, Any]]]:
    """Every object of every file, with a name for people."""
    files = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
    found = [document for path in files for document in yaml.safe_load_all(path.read_text())]
    return [(f"{document['kind']}/{document['metadata']['name']}", document) for document in found]


def kustomization() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    return read


def settings() -> dict[str, str]:
    """What the ConfigMap says."""
    found: dict[str, str] = next(document["data"] for _, document in documents() if document["kind"] == "ConfigMap")
    return found


def pod_of(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """The specification of the pods that an object makes, if it makes any."""
    spec = document.get("spec", {})
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    pod: dict[str, Any] | None = spec.get("template", {}).get("spec")
    return pod


@dataclass(frozen=True)
class Container:
    """The one container of an object's pods. `values` take the place of those of its ConfigMap, and `scratch` is the
    folder that is mounted."""

    name: str
    spec: Mapping[str, Any]

    @property
    def command(self) -> str:
        return str(self.spec["args"][0])

    def environment(self, values: Mapping[str, str]) -> dict[str, str]:
        """As the kubelet makes it, of `values` in place of the settings'; an `env` with a value of its own can be
        replaced as well."""
        found = settings() if {"configMapRef": {"name": "tierloom"}} in self.spec.get("envFrom", []) else {}
        for one in self.spec.get("env", []):
            source = one.get("valueFrom", {}).get("secretKeyRef")
            found[one["name"]] = SECRETS[source["key"]] if source else one["value"]
        return {name: values.get(name, value) for name, value in found.items()}

    def expanded(self, words: Sequence[str], values: Mapping[str, str], scratch: Path) -> list[str]:
        """Words with `$(NAME)` as the kubelet fills it in. A name that is none would stay as it is: an error here."""
        environment = self.environment(values)
        filled = [re.sub(r"\$\((\w+)\)", lambda name: environment[name[1]], word) for word in words]
        assert [mount["mountPath"] for mount in self.spec["volumeMounts"]] == [SCRATCH]
        return [word.replace(SCRATCH, str(scratch)) for word in filled]

    def start(self, values: Mapping[str, str], scratch: Path) -> "subprocess.Popen[str]":
        """What the cluster would start, with the environment that the image has."""
        assert self.spec.get("command") is None, "the image's own entry point is meant"
        environment = image_environment(scratch) | self.environment(values)
        return subprocess.Popen(
            [str(PROGRAM), *self.expanded(self.spec["args"], values, scratch)],
            env={"PATH": os.environ["PATH"], **environment},
            cwd=scratch,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def probe(self, name: str, values: Mapping[str, str], scratch: Path) -> bool:
        """Whether a probe that is a command succeeds."""
        words = self.expanded(self.spec[name]["exec"]["command"], values, scratch)
        return subprocess.run(words, capture_output=True).returncode == 0


def containers() -> Iterator[Container]:
    for name, document in documents():
        if (pod := pod_of(document)) is not None:
            (spec,) = pod["containers"]
            yield Container(name, spec)


def container(command: str) -> Container:
    """The container that runs a command."""
    (found,) = (one for one in containers() if one.command == command)
    return found


def image_environment(scratch: Path) -> dict[str, str]:
    """The variables that the image sets for files that are written."""
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text()
    pairs = re.findall(rf"(\w+)=({SCRATCH}\S*)", dockerfile)
    return {name: value.replace(SCRATCH, str(scratch)) for name, value in pairs}
