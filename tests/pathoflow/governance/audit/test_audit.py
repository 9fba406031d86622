"""The audit of a registered version: what is whole passes, and whatever was touched is named."""

from __future__ import annotations

from pathoflow.governance.audit import Verdict


def test_a_whole_lineage_passes(case):
    report = case.audit(with_md5=True)
    assert [f"{link.subject}: {link.check} {link.detail}" for link in report.problems] == []
    assert report.verdict is Verdict.PASS
    assert {output.stage for output in report.outputs} == {
        "rl", "corpus", "textbook_pairs", "pathoclip", "vqa_benchmarks",
    }  # fmt: skip
    assert set(report.edges) == {
        ("corpus", "rl"),
        ("textbook_pairs", "corpus"),
        ("corpus", "pathoclip"),
        ("corpus", "vqa_benchmarks"),
        ("rl", "vqa_benchmarks"),
    }
