from __future__ import annotations

import os
import tempfile
from pathlib import Path

import psycopg2
import pytest

from pathoflow.errors import InputError
from tools.mlflow_server import postgres, postgres_programs

pytestmark = pytest.mark.skipif(postgres_programs() is None, reason="PostgreSQL is not installed")


def test_a_relative_directory_is_as_good_as_any(monkeypatch):
    # PostgreSQL runs as a user of its own, who may not enter pytest's folders.
    with tempfile.TemporaryDirectory(prefix="pathoflow-postgres-") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.chdir(folder)
        with postgres(Path("runs/postgres")) as url:
            socket = url.partition("host=")[2]
            psycopg2.connect(host=socket, user="mlflow", dbname="auth").close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL runs as another user")
def test_a_directory_that_its_user_may_not_enter_is_told(tmp_path):
    tmp_path.chmod(0o700)
    with pytest.raises(InputError, match="May its user"), postgres(tmp_path / "postgres"):
        pass
