"""Each image by itself: who it runs as, what it may, what it holds, how big it is and how soon it starts."""

from __future__ import annotations

import hashlib
import json
import statistics
import tarfile
import time
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name

from tests.images.containers import build, docker, run

pytestmark = pytest.mark.docker
EACH = pytest.mark.parametrize("image", ["cpu", "train"], indirect=True)

IDENTITY = """
import json, os, pathlib
lines = pathlib.Path("/proc/self/status").read_text().splitlines()
status = dict(line.split(":\\t", 1) for line in lines if ":\\t" in line)
written = []
for folder in ("/", "/app", "/opt", "/opt/venv", "/etc", "/var/tmp", "/work", "/tmp"):
    try:
        pathlib.Path(folder, "probe").write_text("")
        written.append(folder)
    except OSError:
        pass
print(json.dumps({
    "pid": os.getpid(), "user": os.getuid(), "group": os.getgid(), "groups": os.getgroups(), "written": written,
    "capabilities": [status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "no_new_privileges": status["NoNewPrivs"], "commit": os.environ["PATHOFLOW_CODE_COMMIT"],
}))
"""
IMPORT = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    if name.startswith(("components", "pathoflow")):
        for found in pkgutil.walk_packages(package.__path__, f"{name}."):
            if found.name.rpartition(".")[2] not in ("__main__", "agent", "process", "worker"):
                importlib.import_module(found.name)
print("imported")
"""
TOOLS = "cc gcc g++ c++ cpp clang clang++ tcc ld as make cmake ninja nvcc rustc cargo go pip pip3"
# KFP's own way to start a component.
KFP_COMMAND = (
    'program_path=$(mktemp -d)\nprintf "%s" "$0" > "$program_path/ephemeral_component.py"\n'
    "_KFP_RUNTIME=true python3 -m kfp.dsl.executor_main"
    ' --component_module_path "$program_path/ephemeral_component.py" "$@"\n'
)
KFP_COMPONENT = """
import kfp
from kfp import dsl
from kfp.dsl import *

def probe() -> float:
    import time
    from components.data_processing.corpus.config import CorpusConfig
    from pathoflow.contract.entrypoints import run_task
    now = time.time()
    print("user code at", now)
    return now
"""
KFP_INPUT = {
    "inputs": {},
    "outputs": {"outputFile": "/tmp/out.json", "parameters": {"Output": {"outputFile": "/tmp/value"}}},
}


@EACH
def test_it_runs_as_a_number_without_any_privilege_and_writes_only_where_volumes_are(image) -> None:
    assert docker("image", "inspect", "--format={{.Config.User}}", image).strip() == "10001:10001"
    found = json.loads(run(image, "python", "-c", IDENTITY))
    assert (found["user"], found["group"], found["groups"]) == (10001, 10001, [10001])
    assert found["written"] == ["/work", "/tmp"]
    assert {int(value, 16) for value in found["capabilities"]} == {0}
    assert found["no_new_privileges"] == "1"


@EACH
def test_python_is_process_1_and_the_commit_is_that_of_the_label(image) -> None:
    found = json.loads(run(image, "python", "-c", IDENTITY))
    labels = json.loads(docker("image", "inspect", "--format={{json .Config.Labels}}", image))
    assert found["pid"] == 1
    assert found["commit"] == labels["org.opencontainers.image.revision"]
    assert len(found["commit"]) == 40
    assert docker("image", "inspect", "--format={{json .Config.Entrypoint}}", image).strip() == "null"


@EACH
def test_it_runs_as_the_number_that_openshift_gives_it(image) -> None:
    answer = run(image, "pathoflow", "recipes", more=("--user=1000660000:0",))
    assert "smoke" in answer


@EACH
def test_it_has_no_compiler_no_build_tool_and_no_pip(image) -> None:
    script = (
        f"for tool in {TOOLS}; do command -v $tool; done; find / -xdev -name pip -o -name cc1 -o -name cc1plus; true"
    )
    assert run(image, "sh", "-c", f"{script} 2>/dev/null") == ""


@pytest.mark.parametrize(
    ("image", "packages"),
    [
        ("cpu", "components.data_processing components.deployment pathoflow.cluster cv2 mlflow.server.auth psycopg2"),
        ("train", "components.training components.evaluation pathoflow.training deepspeed"),
    ],
    indirect=["image"],
)
def test_every_module_of_its_stages_can_be_imported(image, packages) -> None:
    assert run(image, "python", "-c", IMPORT, *packages.split()).splitlines()[-1] == "imported"


@EACH
def test_the_bill_of_materials_lists_all_that_is_installed(image) -> None:
    text = run(image, "cat", "/opt/sbom.cdx.json")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    listed = {
        (part["purl"].split("/")[0], canonicalize_name(part["name"]), part["version"]) for part in bill["components"]
    }

    script = "import importlib.metadata as m, json; print(json.dumps([(d.name, d.version) for d in m.distributions()]))"
    installed = {
        ("pkg:pypi", canonicalize_name(name), version)
        for name, version in json.loads(run(image, "python", "-c", script))
    }
    root = bill["metadata"]["component"]
    assert root["name"] == image.rpartition("/")[2].partition(":")[0]
    assert installed - listed == {("pkg:pypi", "pathoflow", root["version"])}

    rows = run(image, "dpkg-query", "--show", "--showformat=${Package}\t${Version}\n").splitlines()
    system = {("pkg:deb", canonicalize_name(name), version) for name, version in (row.split("\t") for row in rows)}
    assert system <= listed


def test_the_cpu_image_is_small(cpu_image) -> None:
    size_bytes = int(docker("image", "inspect", "--format={{.Size}}", cpu_image))
    print(f"{cpu_image}: {size_bytes / 1e9:.2f} GB unpacked")
    assert size_bytes <= 1.6e9


def test_user_code_of_the_cpu_image_starts_soon(cpu_image) -> None:
    arguments = ("--executor_input", json.dumps(KFP_INPUT), "--function_to_execute", "probe")
    seconds = []
    for _ in range(3):
        started = time.time()
        printed = run(cpu_image, "sh", "-ec", KFP_COMMAND, KFP_COMPONENT, *arguments)
        seconds.append(float(printed.partition("user code at ")[2].split()[0]) - started)
    print(f"container start to user code: {statistics.median(seconds):.2f} s")
    assert statistics.median(seconds) <= 3


@pytest.mark.slow
def test_the_same_commit_gives_the_same_layers_but_for_times(cpu_image, tmp_path) -> None:
    again = build("cpu", tmp_path, TAG="test-again", NO_CACHE="1")
    first, second = content(cpu_image, tmp_path / "first.tar"), content(again, tmp_path / "second.tar")
    docker("image", "rm", again)
    assert [len(layer) for layer in first] == [len(layer) for layer in second]
    assert first == second


def content(image: str, archive: Path) -> list[list[tuple[object, ...]]]:
    """All that lies in each layer of an image, but for times."""
    docker("save", "--output", str(archive), image, timeout_s=300)
    layers = []
    with tarfile.open(archive) as saved:
        [manifest] = json.load(saved.extractfile("manifest.json"))
        for name in manifest["Layers"]:
            with tarfile.open(fileobj=saved.extractfile(name)) as layer:
                layers.append([(*identity(member), digest(layer, member)) for member in layer])
    archive.unlink()
    return layers


def identity(member: tarfile.TarInfo) -> tuple[object, ...]:
    return member.name, member.mode, member.uid, member.gid, member.type, member.linkname


def digest(layer: tarfile.TarFile, member: tarfile.TarInfo) -> str | None:
    return hashlib.file_digest(layer.extractfile(member), "sha256").hexdigest() if member.isfile() else None
