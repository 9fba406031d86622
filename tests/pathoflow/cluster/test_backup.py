"""Backups of PostgreSQL go to a real S3 endpoint, and are whole or refused."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pathoflow.cluster.backup import CHECKSUMS, back_up, main
from pathoflow.errors import InputError, RegistryError
from tests.support.s3_server import BUCKET, Fault, S3Server, s3_server

NOW = datetime(2026, 3, 4, 2, 17, tzinfo=UTC)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@pytest.fixture
def dumps(tmp_path: Path) -> Path:
    for name in ("mlflow", "auth"):
        (tmp_path / f"{name}.dump").write_bytes(name.encode() * 1000)
    return tmp_path


def test_each_backup_has_a_prefix_of_its_own_and_checksums(s3: S3Server, dumps: Path) -> None:
    url = back_up(dumps, f"s3://{BUCKET}/postgres/", NOW)
    assert url == f"s3://{BUCKET}/postgres/2026-03-04T021700Z"
    kept = s3.folder / BUCKET / "postgres" / "2026-03-04T021700Z"
    assert (kept / "mlflow.dump").read_bytes() == (dumps / "mlflow.dump").read_bytes()
    subprocess.run(["sha256sum", "--check", "--strict", CHECKSUMS], cwd=kept, check=True, capture_output=True)
    assert hashlib.sha256((dumps / "auth.dump").read_bytes()).hexdigest() in (kept / CHECKSUMS).read_text()


def test_the_checksums_are_missing_when_a_dump_is(s3: S3Server, dumps: Path) -> None:
    s3.faults.append(Fault("503", "PUT", "mlflow.dump", count=20))
    with pytest.raises(RegistryError, match=r"(?s)did not take the backup s3://.*bucket exist"):
        back_up(dumps, f"s3://{BUCKET}/broken", NOW)
    s3.faults.clear()
    assert not (s3.folder / BUCKET / "broken" / "2026-03-04T021700Z" / CHECKSUMS).exists()


def test_nothing_is_no_backup(s3: S3Server, dumps: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(InputError, match=r"holds no \*\.dump"):
        back_up(tmp_path_factory.mktemp("empty"), f"s3://{BUCKET}/x", NOW)
    with pytest.raises(InputError, match="names no bucket"):
        back_up(dumps, "postgres", NOW)
    (dumps / "auth.dump").write_bytes(b"")
    with pytest.raises(InputError, match=r"auth\.dump is empty"):
        back_up(dumps, f"s3://{BUCKET}/x", NOW)


def test_the_command_says_where_and_fails_with_the_errors_code(
    s3: S3Server, dumps: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(dumps), f"s3://{BUCKET}/command"])
    assert capsys.readouterr().out.startswith(f"s3://{BUCKET}/command/20")
    with pytest.raises(SystemExit) as ended:
        main([str(dumps), "s3://no-such-bucket/x"])
    assert ended.value.code == RegistryError.exit_code
    assert "no-such-bucket" in capsys.readouterr().err
