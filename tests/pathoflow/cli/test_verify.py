"""`pathoflow verify`: exit 0 if every sealed output is whole, 4 with the file's name if not."""

from __future__ import annotations

import shutil

import pytest

from pathoflow.cli.verify import verify_outputs
from pathoflow.contract.stage import execute
from pathoflow.errors import InputError
from tests.support.toy.config import ToyConfig
from tests.support.toy_model.config import ToyModelConfig


@pytest.fixture
def made(workdir, services):
    execute(ToyConfig(), {}, workdir, services)
    execute(ToyModelConfig(), {"toy": workdir.output("toy")}, workdir, services)
    return workdir


@pytest.fixture
def verify(made, capsys):
    """Exit code and the words that were printed, however they were wrapped."""

    def run() -> tuple[int, str]:
        exit_code = verify_outputs(made.root)
        return exit_code, " ".join(capsys.readouterr().out.split())

    return run


def test_whole_outputs_pass(verify):
    exit_code, printed = verify()
    assert exit_code == 0
    assert printed.count("PASS") == 2
    assert "FAIL" not in printed


@pytest.mark.parametrize("name", ["text.txt", "parts/deep/number.bin", "manifest.json"])
def test_one_flipped_byte_fails_and_the_other_outputs_are_still_looked_at(made, verify, name):
    path = made.output("toy") / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    exit_code, printed = verify()
    assert exit_code == 4
    assert str(path) in printed
    assert printed.count("PASS") == 1


@pytest.mark.parametrize("lost", ["manifest.json", "."])
def test_an_output_whose_manifest_or_folder_is_gone_fails(made, verify, lost):
    path = made.output("toy") / lost
    path.unlink() if path.is_file() else shutil.rmtree(path)
    exit_code, printed = verify()
    assert exit_code == 4
    assert str(made.output("toy")) in printed


def test_an_output_made_from_an_older_input_is_told(made, verify, services):
    execute(ToyConfig(text="newer"), {}, made, services)
    exit_code, printed = verify()
    assert exit_code == 0
    assert "made from an older toy" in printed
    assert printed.count("older") == 1


def test_a_folder_without_outputs_is_told(tmp_path):
    with pytest.raises(InputError, match="holds no sealed output"):
        verify_outputs(tmp_path)
