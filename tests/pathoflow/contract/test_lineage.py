"""From sealed outputs to the references of all that they stand on, by MLflow's records alone."""

from __future__ import annotations

import shutil

import pytest
from mlflow import MlflowClient

from pathoflow.contract.lineage import ancestors, read_references, write_references
from pathoflow.contract.sealing import read_manifest
from pathoflow.contract.stage import Services, execute
from pathoflow.errors import SealError
from tests.support.toy.config import ToyConfig
from tests.support.toy_model.config import ToyModelConfig


@pytest.fixture
def published(workdir):
    services = Services.from_environment(workdir)
    data = execute(ToyConfig(), {}, workdir, services)
    return [execute(ToyModelConfig(), {"toy": workdir.output("toy")}, workdir, services), data]


def test_the_walk_finds_every_reference(workdir, published):
    manifest = read_manifest(workdir.output("toy_model"))
    shutil.rmtree(workdir.output("toy"))
    found, unknown = ancestors(MlflowClient(workdir.tracking_uri), [manifest])
    assert (found, unknown) == (published, [])
    assert read_references(write_references(found)) == tuple(published)


def test_an_output_whose_run_is_gone_is_told(workdir, published):
    client = MlflowClient(workdir.tracking_uri)
    client.delete_run(published[1].run_id)
    found, unknown = ancestors(client, [read_manifest(workdir.output("toy_model"))])
    assert found == published[:1]
    assert unknown == [f"toy {published[1].identity}"]


def test_a_damaged_tag_is_told():
    with pytest.raises(SealError, match=r"pathoflow\.lineage is damaged"):
        read_references('[{"stage": "toy"')
