"""Files that drifted from what generates them are named, and written on demand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import drift


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[Path, str]:
    monkeypatch.setattr(drift, "REPOSITORY", tmp_path)
    (tmp_path / "same.md").write_text("same\n")
    (tmp_path / "changed.md").write_text("by hand\n")
    return {tmp_path / "same.md": "same\n", tmp_path / "changed.md": "new\n", tmp_path / "new" / "file.md": "new\n"}


def test_check_names_what_drifted_and_writes_nothing(
    files: dict[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["generator", "--check"])
    with pytest.raises(SystemExit) as ended:
        drift.main(files, "python -m generator")
    assert "2 generated files are out of date. Run: python -m generator" in str(ended.value.code)
    assert capsys.readouterr().out.splitlines() == ["changed.md: out of date", "new/file.md: out of date"]
    assert len(drift.drifted(files)) == 2


def test_without_check_the_files_are_written(files: dict[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["generator"])
    with pytest.raises(SystemExit) as ended:
        drift.main(files, "python -m generator")
    assert ended.value.code == 0
    assert drift.drifted(files) == []


def test_an_unknown_option_is_refused(files: dict[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["generator", "--chek"])
    with pytest.raises(SystemExit) as ended:
        drift.main(files, "python -m generator")
    assert "usage" in str(ended.value.code)
    assert len(drift.drifted(files)) == 2
