"""`pathoflow lineage` and `pathoflow gc` as a user calls them."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from pathoflow.cli import app
from tests.pathoflow.governance.audit.tampering import client


def run(*words: str):
    return CliRunner().invoke(app, list(words))


def test_lineage_forward_and_back(case):
    where = ("--workdir", str(case.workdir.root))
    ahead = run("lineage", "atlas", "--forward", "--json", *where)
    answer = json.loads(ahead.stdout)
    assert [(version["number"], version["use"]) for version in answer["versions"]] == [("1", "trained")]
    assert answer["num_pairs"] == 5
    shown = run("lineage", "atlas", "--forward", *where).stdout
    assert "toy.dev/1" in shown
    back = json.loads(run("lineage", "toy.dev@champion", "--json", *where).stdout)
    [model] = back.values()
    assert model["inputs"][0]["inputs"][0]["stage"] == "textbook_pairs"
    assert "textbook_pairs" in run("lineage", "toy.dev/1", *where).stdout


def test_lineage_of_nothing_known_is_an_input_error(case):
    for words in (("no such thing", "--forward"), ("no such thing",)):
        failed = run("lineage", *words, "--workdir", str(case.workdir.root))
        assert failed.exit_code != 0
        assert "no such thing" in str(failed.exception)


def test_gc_shows_and_keeps(case):
    before = sorted(case.workdir.root.rglob("*.bin"))
    shown = run("gc", "--workdir", str(case.workdir.root), "--older-than", "0")
    assert shown.exit_code == 0
    assert "Nothing was removed" in shown.stdout
    client(case.workdir).delete_model_version_tag("toy.dev", "1", "pathoflow.lineage")
    refused = run("gc", "--workdir", str(case.workdir.root), "--older-than", "0", "--delete")
    assert "toy.dev/1 has no readable lineage" in str(refused.exception)
    assert sorted(case.workdir.root.rglob("*.bin")) == before
