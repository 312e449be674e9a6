"""Files of texts in every form a user may have, and the one line that says why one cannot be read."""

import csv
import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_r1.errors import InputError, MissingDependencyError
from cluster_r1.reading import Format, ReadTexts, read_texts
from cluster_r1.types import Text


def read(folder: Path, name: str, content: str | bytes, **options: Any) -> ReadTexts:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_texts(path, **options)


def pairs(result: ReadTexts) -> list[tuple[str, str]]:
    return [(text.id, text.text) for text in result.texts]


def parquet(**columns: list[Any]) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "expected", "columns"),
    [
        ("a.csv", "id,text\n7,x\n8,y\n", [("7", "x"), ("8", "y")], ("text", "id")),
        ("a.csv", "ID;Body\r\n7;a, b\r\n", [("7", "a, b")], ("Body", "ID")),
        ("a.csv", "n\ttext\n1\tx", [("1", "x")], ("text", None)),
        ("A.CSV", "n|text\n1|x\n", [("1", "x")], ("text", None)),
        ("a.csv", '"a;b;c",text\n1,"x, y"\n', [("1", "x, y")], ("text", None)),
        ("a.csv", "id\nx\n", [("1", "x")], ("id", None)),
        ("a.csv", '"a\nb";text\n1;x\n', [("1", "x")], ("text", None)),
        ("a.csv", ' id , text \n7,"x\r\n\ny"\n', [("7", "x\r\n\ny")], ("text", "id")),
        ("a.csv", "\n\nid,text,z\n\n7\n\n8,y\n", [("7", ""), ("8", "y")], ("text", "id")),
        ("a.csv", "remark\nx\n", [("1", "x")], ("remark", None)),
        ("a.csv", "z,z,text\n1,2,x\n", [("1", "x")], ("text", None)),
        ("a.csv", "title,comment,text\nt,c,x\n", [("1", "x")], ("text", None)),
        ("a.tsv", "n;m\ttext\n1\ta,b\n", [("1", "a,b")], ("text", None)),
        ("a.txt", "one\r\n\r\n  two\rthree\n", [("1", "one"), ("2", "  two"), ("3", "three")], (None, None)),
        ("a.md", "id,text\n", [("1", "id,text")], (None, None)),
        ("a.txt", "a\u2028b\x0cc\n", [("1", "a\u2028b\x0cc")], (None, None)),
        (
            "a.jsonl",
            '{"id": 7, "text": "x"}\n\n{"id": 8.0, "text": null}\n',
            [("7", "x"), ("8", "")],
            ("text", "id"),
        ),
        ("a.ndjson", '{"n": 1, "text": ""}\n{"text": 3.5}\n', [("1", ""), ("2", "3.5")], ("text", None)),
        ("a.csv", "Customer reviews\nx\n", [("1", "x")], ("Customer reviews", None)),
        ("a.jsonl", '"x"\n"y"\n', [("1", "x"), ("2", "y")], (None, None)),
        ("a.jsonl", '{"text": "a\\ud83d"}\n', [("1", "a\ufffd")], ("text", None)),
        (
            "a.json",
            '[\n{"id": "p", "text": "x"}, {"id": "q", "text": null}]',
            [("p", "x"), ("q", "")],
            ("text", "id"),
        ),
        ("a.json", '["x", "\\ud83d\\ude00"]', [("1", "x"), ("2", "😀")], (None, None)),
        ("a.dat", '\n {"text": "x"}', [("1", "x")], ("text", None)),
        ("noext", ' ["x"]', [("1", "x")], (None, None)),
        ("a.dat", "PAR1 is plain\n", [("1", "PAR1 is plain")], (None, None)),
        ("a.parquet", parquet(id=[7.0, 8.0], text=["x", None]), [("7", "x"), ("8", "")], ("text", "id")),
        ("a.bin", parquet(text=[b"x"], **{"a.b": ["y"]}), [("1", "x")], ("text", None)),
    ],
)
def test_each_form_gives_texts_ids_and_columns(
    tmp_path: Path,
    name: str,
    content: str | bytes,
    expected: list[tuple[str, str]],
    columns: tuple[str | None, str | None],
) -> None:
    result = read(tmp_path, name, content)
    assert pairs(result) == expected
    assert (result.text_column, result.id_column) == columns
    assert result.warnings == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_every_encoding_with_a_mark_reads_the_same_and_the_digest_is_of_the_file(
    tmp_path: Path, encoding: str
) -> None:
    content = "id,text\n1,héé 😀\n".encode(encoding)
    result = read(tmp_path, "a.csv", content, limit=1)
    assert pairs(result) == [("1", "héé 😀")]
    assert (result.warnings, result.sha256) == ([], hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize(
    ("content", "texts", "fragments"),
    [
        (
            "text\na\n“café”\nné\n".encode("cp1252"),
            ["a", "“café”", "né"],
            ["row 3", "Windows-1252", "affected: 2"],
        ),
        (
            "text\nnaïve\n".encode() + b"caf\xe9\n",
            ["naïve", "café"],
            ["row 3", "Windows-1252", "affected: 1"],
        ),
        (b"text\nabc\nd\x00e\nf\x00\x00\n", ["abc", "d e", "f  "], ["row 3", "NUL", "(3 in all)"]),
        (
            "text\nok\nhalf \ud83d!\n".encode("utf-16", "surrogatepass"),
            ["ok", "half \ufffd!"],
            ["UTF-16", "U+FFFD"],
        ),
        (b"id,text\n7,a\n8,b\n7,c\n", ["a", "b", "c"], ["column id is not used", "'7'", "rows 2 and 4"]),
        (b"id,text\n7,a\n ,b\n", ["a", "b"], ["column id is not used", "row 3 has no id"]),
    ],
)
def test_what_is_read_with_a_doubt_is_read_with_one_warning(
    tmp_path: Path, content: bytes, texts: list[str], fragments: list[str]
) -> None:
    result = read(tmp_path, "a.csv", content)
    assert [text.text for text in result.texts] == texts
    assert [text.id for text in result.texts] == [str(number) for number in range(1, len(texts) + 1)]
    assert result.id_column is None
    assert len(result.warnings) == 1
    assert all(fragment in result.warnings[0] for fragment in ["a.csv", *fragments])


@pytest.mark.parametrize("first", ["call me", "refund please!", "My review of the text editor", "x" * 50])
def test_a_first_line_that_looks_like_a_text_is_no_header_without_a_warning(
    tmp_path: Path, first: str
) -> None:
    (warning,) = read(tmp_path, "a.csv", f"{first}\nx\n").warnings
    assert "was read as the header" in warning
    assert "--format lines" in warning
    assert len(read(tmp_path, "a.csv", f"{first}\nx\n", format="lines").texts) == 2
    assert read(tmp_path, "a.csv", f"{first}\nx\n", text_column=first).warnings == []


@pytest.mark.parametrize(
    ("name", "content", "fragments"),
    [
        ("a.jsonl", '{"text": "x"}\n{"n": 8}\n', ["row 2 has no key 'text' (1 row)"]),
        ("a.json", '[{"n": 1}, {"text": "x"}, {"n": 2}]', ["row 1 has no key 'text' (2 rows)"]),
    ],
)
def test_a_record_without_a_text_is_named(
    tmp_path: Path, name: str, content: str, fragments: list[str]
) -> None:
    result = read(tmp_path, name, content)
    (warning,) = result.warnings
    assert all(fragment in warning for fragment in fragments)
    assert "" in [text.text for text in result.texts]


XLSX = b"PK\x03\x04\x14\x00[Content_Types].xml xl/workbook.xml"


@pytest.mark.parametrize(
    ("name", "content", "options", "fragments"),
    [
        ("a.csv", "id,text\n1,x\n\n2,a, b, c\n", {}, ["row 4", "4 fields", "header has 2", "quotes around"]),
        ("a.csv", 'id,text\n1,"x\ny"\n2,"never\n3,z\n', {}, ["row 4", "never closes"]),
        ("a.csv", 'id,text\n1,"open\n2,"z"\n', {}, ["row 2", "in row 3", "close it"]),
        ("a.csv", "a,b\n1,2\n", {}, ["--text COLUMN", "'a', 'b'"]),
        (
            "a.csv",
            "revue,b\n1,2\n",
            {"text_column": "Review"},
            ["no column 'Review'", "did you mean 'revue'", "'b'"],
        ),
        ("a.csv", "Text,b\n1,2\n", {"text_column": "text"}, ["did you mean 'Text'"]),
        ("a.csv", "text,b\n1,2\n", {"id_column": "key"}, ["no column 'key'", "--id COLUMN", "'text', 'b'"]),
        ("a.csv", "a,text,text\n1,2,3\n", {}, ["'text' and 'text'", "rename"]),
        ("a.csv", "a,b,a\n1,2,3\n", {"text_column": "a"}, ["'a' and 'a'", "rename"]),
        ("a.csv", '"a\nb",c\n1,2\n', {}, ["'a\\nb'"]),
        ("a.csv", ",".join(f"c{n}" for n in range(50)) + "\n", {}, ["'c19' and 30 more"]),
        ("a.csv", "k,text\na,x\nb,y\na,z\n", {"id_column": "k"}, ["'a' stands in rows 2 and 4", "--id"]),
        ("a.csv", "k,text\na,x\n,y\n", {"id_column": "k"}, ["row 3 has no id"]),
        ("a.csv", "id,text\n", {}, ["holds no text"]),
        ("a.csv", "\n\n", {}, ["holds no text"]),
        ("a.csv", b"", {}, ["is empty"]),
        ("a.csv", b"text\na\nb\x81\n", {}, ["row 3", "0x81", "save the file as UTF-8"]),
        ("a.csv", parquet(text=["x"]), {}, ["Parquet", "extension .parquet"]),
        ("a.txt", "\n \n", {}, ["holds no text"]),
        ("a.txt", "x\n", {"text_column": "text"}, ["no columns", "'text'", "leave out --text"]),
        ("a.txt", "hello\nworld\n".encode("utf-16-le"), {}, ["binary", "UTF-8"]),
        ("a.txt", b"\x01\x02\xff\x03ab\n" * 9, {}, ["binary", "UTF-8"]),
        ("a.jsonl", '{"text": "x"}\n\n{"text": }\n', {}, ["row 3", "Expecting value", "column 10"]),
        ("a.jsonl", '{"text": "x"}\n"y"\n', {}, ["row 2", "a string where an object is needed"]),
        ("a.jsonl", "3\n", {}, ["row 1", "a number"]),
        ("a.jsonl", '{"text": "x"}\n{"text": ["y"]}\n', {}, ["row 2", "an array", "column of strings"]),
        ("a.jsonl", "[" * 100_000, {}, ["row 1", "nested too deeply"]),
        ("a.jsonl", "9" * 5000, {}, ["row 1", "too many digits"]),
        ("a.json", '["a",\n"b"', {}, ["row 2", "Expecting ',' delimiter"]),
        ("a.json", '{"text": "x"}\n{"text": "y"}', {}, ["row 2", "Extra data", "format jsonl"]),
        ("a.json", '{"text": "x"}', {}, ["an object, not an array"]),
        ("a.json", '["x", null]', {}, ["row 2", "null where a string"]),
        ("a.json", "[]", {}, ["holds no text"]),
        ("a.json", "[{}]", {}, ["holds no text"]),
        ("a.parquet", parquet(text=["x"])[:-9], {}, ["not a readable Parquet", "export it again"]),
        ("a.parquet", parquet(text=[["x"]]), {}, ["row 1", "an array"]),
        ("a.parquet", parquet(text=["x", b"\xff"][1:]), {}, ["row 1", "not UTF-8"]),
        ("a.xlsx", XLSX, {}, ["Excel", "export the sheet as CSV"]),
        ("a.csv", XLSX, {}, ["Excel", "export the sheet as CSV"]),
        ("a.zip", b"PK\x03\x04a.csv", {}, ["zip", "unpack it first"]),
        ("a.csv.gz", b"\x1f\x8b\x08\x00", {}, ["gzip", "unpack it first"]),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", {}, [".xls", "export it as CSV"]),
        ("a.pdf", b"%PDF-1.7\n", {}, ["PDF", ".txt"]),
        ("a.png", b"\x89PNG\r\n\x1a\n", {}, ["PNG"]),
        ("a\nb.txt", b"", {}, ["a\\nb.txt", "is empty"]),
    ],
)
def test_a_refusal_is_one_line_with_file_place_and_remedy(
    tmp_path: Path, name: str, content: str | bytes, options: dict[str, str], fragments: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, name, content, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert [fragment for fragment in [name.split("\n")[0], *fragments] if fragment not in message] == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b'text\nx\ny\nz,z,z\n"open\n\x81'),
        ("a.jsonl", b'{"text": "x"}\n{"text": "y"}\nbroken \x81'),
        ("a.txt", b"x\ny\n\x81"),
        ("a.json", b'["x", "y", 3]'),
        ("a.parquet", parquet(text=["x", "y", "z"])),
    ],
)
def test_nothing_after_the_limit_is_read_or_checked(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert [text.text for text in read(tmp_path, name, content, limit=2).texts] == ["x", "y"]


@pytest.mark.parametrize("options", [{"limit": 0}, {"limit": -1}, {"format": "xml"}])
def test_an_option_that_cannot_be_meant_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"give a number of at least 1|give one of csv"):
        read(tmp_path, "a.txt", "x", **options)


def test_a_path_that_holds_no_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources: list[tuple[Path | str, str]] = [
        (tmp_path, "is a directory"),
        (tmp_path / "b", "no such file"),
        ("a\0", "null byte"),
    ]
    for source, reason in sources:
        with pytest.raises(InputError, match=reason):
            read_texts(source)

    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(InputError, match=r"a\.csv: cannot be read \(Permission denied\)"):
        read(tmp_path, "a.csv", "text\nx\n")


def test_standard_input_is_sniffed_unless_the_format_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"text,id\nx,7\n"
    assert pairs(read_texts("-", stdin=io.BytesIO(content))) == [("7", "x")]
    assert pairs(read_texts("-", stdin=io.BytesIO(content), format="lines")) == [
        ("1", "text,id"),
        ("2", "x,7"),
    ]
    assert pairs(read_texts("-", stdin=io.BytesIO(b"a,b\nx,7\n"), format="csv", text_column="a")) == [
        ("1", "x")
    ]
    assert pairs(read_texts("-", stdin=io.BytesIO(parquet(text=["x"])))) == [("1", "x")]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "x"}')))
    assert pairs(read_texts("-")) == [("1", "x")]
    with pytest.raises(InputError, match="standard input: is empty"):
        read_texts("-", stdin=io.BytesIO(b""))


@pytest.mark.parametrize(
    ("content", "options", "expected", "columns"),
    [
        ('id,text\n7,"x,\ny"\n', {}, [("7", "x,\ny")], ("text", "id")),
        ("ID; Body \r\n7;a, b\r\n", {}, [("7", "a, b")], ("Body", "ID")),
        ("n\ttext\n1\ta, b\n", {}, [("1", "a, b")], ("text", None)),
        ("n|review\n1|x\n", {}, [("1", "x")], ("review", None)),
        ('\n"text","n"\nx,1\n', {}, [("1", "x")], ("text", None)),
        ("a,b,c;text\n1,2,3;x\n", {}, [("1", "x")], ("text", None)),
        ("text\nx\ny\n", {}, [("1", "x"), ("2", "y")], ("text", None)),
        ("titre,clé\nx,7\n", {"text_column": "titre"}, [("1", "x")], ("titre", None)),
        ("titre,clé\nx,7\n", {"text_column": "titre", "id_column": "clé"}, [("7", "x")], ("titre", "clé")),
        ("titre\nx\n", {"text_column": "titre"}, [("1", "x")], ("titre", None)),
        ("key,text\n7,x\n", {"id_column": "key"}, [("7", "x")], ("text", "key")),
    ],
)
def test_a_header_with_a_known_column_makes_a_table_of_what_names_no_format(
    tmp_path: Path,
    content: str,
    options: dict[str, Any],
    expected: list[tuple[str, str]],
    columns: tuple[str | None, str | None],
) -> None:
    piped = read_texts("-", stdin=io.BytesIO(content.encode()), **options)
    assert (pairs(piped), piped.text_column, piped.id_column) == (expected, *columns)
    assert pairs(read(tmp_path, "a.dat", content, **options)) == expected
    assert pairs(read_texts("-", stdin=io.BytesIO(content.encode("utf-16")), **options)) == expected


@pytest.mark.parametrize(
    "first",
    [
        "The text of this comment is short",
        "The text, as printed, is short",
        "text messages, mostly",
        'He wrote "text", then left',
        '"text" is what he wrote',
        '"text',
        "id,title",
        "id",
        "text: a, b",
        "| a | b |",
    ],
)
def test_prose_that_merely_mentions_a_column_stays_lines(tmp_path: Path, first: str) -> None:
    content = f"{first}\na, b and c\n"
    expected = [("1", first), ("2", "a, b and c")]
    assert pairs(read_texts("-", stdin=io.BytesIO(content.encode()))) == expected
    assert pairs(read(tmp_path, "notes", content)) == expected
    assert pairs(read(tmp_path, "a.txt", f"id,text\n{content}"))[0] == ("1", "id,text")


def test_a_doubt_about_the_first_line_is_counted_once() -> None:
    result = read_texts("-", stdin=io.BytesIO(b"text,caf\xe9\nx,1\n"))
    assert pairs(result) == [("1", "x")]
    assert [warning for warning in result.warnings if "rows affected: 1" in warning] == result.warnings != []


@pytest.mark.parametrize("content", ["Post, or not\nOne, two, three\n", 'text\n"open\n', 'text\n"a" b\n'])
def test_what_was_taken_for_a_table_is_refused_with_the_way_to_read_it_as_lines(content: str) -> None:
    with pytest.raises(InputError, match=r"plain text: the format lines"):
        read_texts("-", stdin=io.BytesIO(content.encode()))
    assert len(read_texts("-", stdin=io.BytesIO(content.encode()), format="lines").texts) == 2


def test_a_csv_piped_into_the_command_is_read_as_csv(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('id,text\n7,"one, two"\n8,three\n')
    command = [sys.executable, "-m", "cluster_r1", "cluster", "-", "--by", "topic", "--model", "embedding"]
    with (tmp_path / "x.csv").open("rb") as piped:
        done = subprocess.run(
            [*command, "--dry-run"], stdin=piped, cwd=tmp_path, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    assert "2 texts (2 different, from column 'text')" in done.stdout


def test_a_column_named_by_the_caller_wins_over_the_usual_ones(tmp_path: Path) -> None:
    content = "id,text,title,key\n1,x,t,k\n2,y,u,l\n"
    result = read(tmp_path, "a.csv", content, text_column="title", id_column="key")
    assert (pairs(result), result.text_column, result.id_column) == ([("k", "t"), ("l", "u")], "title", "key")


@pytest.mark.parametrize(
    ("name", "form"), [("a.csv", "text\n{}\n"), ("a.txt", "{}\n"), ("a.jsonl", '"{}"\n')]
)
def test_a_text_of_two_megabytes_is_read_whole(tmp_path: Path, name: str, form: str) -> None:
    long = "word " * 400_000 + "end"
    assert [text.text for text in read(tmp_path, name, form.format(long)).texts] == [long]


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "cluster-r1\[data\]"'):
        read(tmp_path, "a.parquet", b"PAR1")


def test_reading_loads_no_data_library() -> None:
    code = "import sys, cluster_r1.python_input; print({'pandas', 'pyarrow'} & {*sys.modules})"
    root = Path(__file__).parents[1]
    output = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == "set()"


TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=1)


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.sampled_from(",;\t|"), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]))
def test_what_a_csv_writer_wrote_is_read_back(texts: list[str], delimiter: str, encoding: str) -> None:
    written = io.StringIO(newline="")
    writer = csv.writer(written, delimiter=delimiter)
    writer.writerows([("id", "text"), *enumerate(texts)])
    result = read_texts("-", stdin=io.BytesIO(written.getvalue().encode(encoding)), format="csv")
    assert pairs(result) == [(str(at), text) for at, text in enumerate(texts)]
    assert result.warnings == []


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.booleans())
def test_what_a_json_writer_wrote_is_read_back(texts: list[str], ascii_only: bool) -> None:
    lines = "\n".join(json.dumps({"text": text}, ensure_ascii=ascii_only) for text in texts).encode()
    array = json.dumps(texts, ensure_ascii=ascii_only).encode()
    assert [text.text for text in read_texts("-", stdin=io.BytesIO(lines)).texts] == texts
    assert [text.text for text in read_texts("-", stdin=io.BytesIO(array)).texts] == texts


PIECES = [
    b'"',
    b",",
    b";",
    b"\n",
    b"\r",
    b"{",
    b"}",
    b"[",
    b"]",
    b':"',
    b'"text"',
    b"text",
    b"id",
    b"\x00",
    b"1e999",
]
PIECES += [
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xe9",
    b"\x81",
    b"\xed\xa0\x80",
    b"\\ud800",
    b"PAR1",
    b"NaN",
    b" ",
    b"7",
]
BYTES = st.binary() | st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)


@settings(max_examples=400, deadline=None)
@given(
    BYTES,
    st.sampled_from([None, "csv", "tsv", "jsonl", "json", "lines", "parquet"]),
    st.sampled_from([None, 1]),
)
def test_any_bytes_give_texts_or_a_refusal_of_one_line(
    content: bytes, form: Format | None, limit: int | None
) -> None:
    refusal: str | None = None
    texts: list[Text] = []
    try:
        texts = read_texts("-", stdin=io.BytesIO(content), format=form, limit=limit).texts
    except InputError as error:
        refusal = str(error)
    assert bool(texts) != bool(refusal)
    assert refusal is None or (refusal.startswith("standard input") and refusal.isprintable())
    assert len({text.id for text in texts}) == len(texts)
    assert all(text.text.encode().decode() == text.text for text in texts)  # no half characters
