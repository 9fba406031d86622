"""A CSV that is partly bad: each bad line is told, and every other line is read."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data_processing.public_pairs import table as table_module
from components.data_processing.public_pairs.rows import BadRow
from components.data_processing.public_pairs.table import Record, read_table
from pathoflow.errors import InputError

REQUIRED = ("caption", "image_path")


def read(path: Path, content: bytes, encoding: str = "utf-8-sig") -> list[Record | BadRow]:
    path.write_bytes(content)
    return list(read_table(path, REQUIRED, encoding))


def captions(records: list[Record | BadRow]) -> list[str]:
    return [record.reason if isinstance(record, BadRow) else record.cells["caption"] for record in records]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.csv"


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_any_line_ending_and_a_byte_order_mark(path, newline):
    lines = [b"\xef\xbb\xbfcaption,image_path", b"A,1.jpg", '"B, ""é""",2.jpg'.encode()]
    assert captions(read(path, newline.join(lines) + newline)) == ["A", 'B, "é"']


def test_an_open_quotation_mark_costs_its_own_line_alone(path):
    content = b'caption,image_path\nA,1.jpg\n"B,2.jpg\nC,3.jpg\n"D, and more",4.jpg\nE,5.jpg\n"F'
    records = read(path, content)
    assert captions(records) == ["A", "bad_quoting", "C", "D, and more", "E", "bad_quoting"]
    assert [bad.item for bad in records if isinstance(bad, BadRow)] == ["t.csv:3", "t.csv:7"]
    assert [good.line for good in records if isinstance(good, Record)] == [2, 4, 5, 6]


def test_an_open_quotation_mark_before_a_long_table_without_any(path, monkeypatch):
    monkeypatch.setattr(table_module, "MAX_RECORD_LINES", 20)
    content = b'caption,image_path\n"A,1.jpg\n' + b"B,2.jpg\n" * 100
    assert captions(read(path, content)) == ["bad_quoting"] + ["B"] * 100


def test_captions_of_several_lines_are_one_record(path):
    records = read(path, b'caption,image_path\n"A\nB",1.jpg\nC,2.jpg\n')
    assert captions(records) == ["A\nB", "C"]
    assert [record.line for record in records if isinstance(record, Record)] == [2, 4]


def test_cells_that_are_missing_are_empty_and_cells_too_many_are_told(path):
    records = read(path, b"image_path,caption,split\n1.jpg,A\n\n2.jpg,B,train,more\n3.jpg,C,val\n")
    assert captions(records) == ["A", "too_many_cells", "C"]
    assert isinstance(records[0], Record)
    assert records[0].cells["split"] == ""


def test_latin_1_is_read_where_it_is_named_and_marks_its_cells_where_not(path):
    content = "caption,image_path\nSjögren,1.jpg\nB,2.jpg\n".encode("latin-1")
    assert captions(read(path, content, "latin-1")) == ["Sjögren", "B"]
    assert captions(read(path, content)) == ["Sj\udcf6gren", "B"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"caption;image_path\n", "has no column caption"),
        ("caption,image_path\nA,1.jpg\n".encode("utf-16"), "set the file's encoding"),
        (b"caption,image_path,caption\nA,1.jpg,B\n", "two columns caption"),
        (b'"caption,image_path\nA,1.jpg\n', "first line has no end"),
    ],
)
def test_what_is_no_table_is_an_input_error(path, content, words):
    with pytest.raises(InputError, match=words):
        read(path, content)


def test_an_unknown_encoding_is_an_input_error(path):
    with pytest.raises(InputError, match="Correct its encoding"):
        read(path, b"caption,image_path\n", "utf-9")


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(rows=st.lists(st.tuples(texts, texts), max_size=20))
def test_what_a_csv_writer_writes_is_read_back(rows, tmp_path_factory):
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([REQUIRED, *rows])
    path = tmp_path_factory.getbasetemp() / "written.csv"
    records = read(path, buffer.getvalue().encode())
    assert [tuple(record.cells.values()) for record in records if isinstance(record, Record)] == rows


@given(content=st.binary(max_size=300), quotes=st.lists(st.integers(0, 300), max_size=5))
def test_no_bytes_end_the_reading(content, quotes, tmp_path_factory):
    for at in quotes:
        content = content[:at] + b'"' + content[at:]
    path = tmp_path_factory.getbasetemp() / "arbitrary.csv"
    lines = content.replace(b"\r", b"\n").split(b"\n")
    records = read(path, b"caption,image_path\n" + b"\n".join(lines))
    seen = sum(1 if isinstance(record, BadRow) else record.cells["caption"].count("\n") + 1 for record in records)
    assert seen <= len(lines) + content.count(b"\n")
