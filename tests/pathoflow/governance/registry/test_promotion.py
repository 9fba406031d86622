"""Gates, promotion, approval, rollback and demotion on a real registry."""

from __future__ import annotations

import json
import re
from functools import partial

import pytest
from typer.testing import CliRunner

from pathoflow.cli import app
from pathoflow.errors import InputError, RefusedError
from pathoflow.governance.audit import audit
from pathoflow.governance.registry import approvals, promotion
from pathoflow.governance.registry.aliases import aliases_of
from pathoflow.governance.registry.trust import check_trust
from pathoflow.governance.registry.verification import find_version, verified_manifest


def test_a_version_goes_from_dev_to_prod(case):
    registry = case.registry()
    assert case.actions() == ["register"] * 3
    assert aliases_of(registry.client, "toy.dev") == (3, 2)
    outcome = case.promote("toy/3")
    assert [gate.verdict.value for gate in outcome.judgement.gates] == ["PASS"] * len(outcome.judgement.gates)
    assert aliases_of(registry.client, "toy.staging") == (1, None)
    with pytest.raises(RefusedError, match=r"FAIL approval: 0 of 1"):
        case.promote("toy/1", "prod")
    approvals.approve(case.registry(case.approver), "toy/1", "prod", 1, "read it")
    case.promote("toy/1", "prod")
    assert aliases_of(registry.client, "toy.prod") == (1, None)
    assert case.actions()[3:] == ["promote", "refuse", "approve", "promote"]
    served, first = (find_version(registry, asked) for asked in ("toy.prod@champion", "toy.dev/3"))
    assert served.uri == first.uri
    assert verified_manifest(registry, served, with_bytes=True) == verified_manifest(registry, first, with_bytes=True)
    assert registry.log.verify().problems == []


def test_an_audit_tells_the_gates_that_let_the_version_in_and_how_it_came(case):
    case.promote("toy/3")
    with pytest.raises(RefusedError, match="it is the champion already"):
        case.promote("toy/3")
    with pytest.raises(RefusedError, match="FAIL approval"):
        case.promote("toy/1", "prod")
    report = audit("toy.staging@champion", case.registry().places, check_trust=partial(check_trust, case.registry))
    assert {gate["verdict"] for gate in report.gates} == {"PASS"}
    assert [(step.what, step.detail) for step in report.history] == [
        ("register", "toy.dev/3"),
        ("promote", "toy.dev/3 → toy.staging/1"),
        ("refuse", "toy.dev/3 → staging"),
        ("refuse", "toy.staging/1 → prod"),
    ]


def test_a_rollback_serves_exactly_what_was_served_before(case):
    registry = case.registry()
    case.promote("toy/2")
    before = verified_manifest(registry, find_version(registry, "toy.staging@champion"), with_bytes=True)
    case.promote("toy/3")
    assert aliases_of(registry.client, "toy.staging") == (2, 1)
    outcome = promotion.roll_back(case.registry(), "toy", "staging", "worse on frozen sections")
    assert (outcome.state.champion, outcome.state.previous) == (1, None)
    assert aliases_of(registry.client, "toy.staging") == (1, None)
    assert verified_manifest(registry, find_version(registry, "toy.staging@champion"), with_bytes=True) == before
    with pytest.raises(RefusedError, match="no earlier champion"):
        promotion.roll_back(case.registry(), "toy", "staging", "")


def test_the_overview_tells_environment_stage_and_accuracy_by_the_versions_own_records(case):
    case.promote("toy/3")
    asked = ["registry", "--workdir", str(case.workdir.root)]
    rows = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)["versions"]
    assert [(row["environment"], row["version"], row["stage"]) for row in rows] == [
        *(("dev", number, "rl") for number in (1, 2, 3)),
        ("staging", 1, "rl"),
    ]
    shown = CliRunner().invoke(app, asked).stdout
    assert re.search(r"toy\.staging\b.*champion.*\b0\.7\b", shown)
    client = case.registry().client
    client.set_model_version_tag("toy.staging", "1", "pathoflow.identity.rl", "sha256:another")
    assert not re.search(r"toy\.staging\b.*\b0\.7\b", CliRunner().invoke(app, asked).stdout)


def test_a_demotion_leaves_nothing_served_until_a_rollback(case):
    case.promote("toy/2")
    case.promote("toy/3")
    promotion.demote(case.registry(), "toy", "staging", "recalled")
    assert aliases_of(case.registry().client, "toy.staging") == (None, 1)
    with pytest.raises(RefusedError, match="no champion to demote"):
        promotion.demote(case.registry(), "toy", "staging", "")
    promotion.roll_back(case.registry(), "toy", "staging", "the one before was fine")
    assert aliases_of(case.registry().client, "toy.staging") == (1, None)
    assert case.actions()[3:] == ["promote", "promote", "demote", "rollback"]
    assert "version" not in case.registry().log.entries()[-2].details


def test_bad_input_is_told(case):
    for asked, words in (
        ("nothing/1", "There is no model 'nothing.dev'"),
        ("toy/99", r"toy.dev has no version 99. Its versions: 1, 2, 3"),
        ("toy@best", "no alias 'best'"),
        ("toy.staging/1", "toy.dev is needed here"),
        ("toy/x", "is no version"),
    ):
        with pytest.raises(InputError, match=words):
            case.promote(asked)
    with pytest.raises(InputError, match=r"The log knows no nothing\.prod"):
        promotion.roll_back(case.registry(), "nothing", "prod", "")
