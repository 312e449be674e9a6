"""Named public sets: which columns of a Hugging Face set are text and labels, and how these are asked for."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import logging
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from itertools import chain, islice
from pathlib import Path
from random import Random
from typing import Any, TextIO, TypeAlias, cast

import yaml
from pydantic import Field

from cluster_r1.columns import without_surrogates
from cluster_r1.errors import InputError, MissingDependencyError
from cluster_r1.json_lines import json_object
from cluster_r1.training.labelled import Attribute, LabelledSet, LabelledText
from cluster_r1.types import Record

Row: TypeAlias = Mapping[str, Any]

_PROBE_SECONDS = 10  # until a hub that does not answer counts as out of reach
_BATCH = 256  # rows of a Parquet file that are held at once
_LONGEST_CELL = 10**9  # characters; what Python allows by itself is shorter than some documents


class HubAttribute(Attribute):
    """An attribute, and where its label stands.

    Attributes:
        label: column, or dotted path into it.
        config: the configuration that has this label, where attributes have one each.
        pattern: a regular expression whose first group is the label; a row that it does not fit has none.
        only_single: the column holds lists, and a list of exactly one is a label.
    """

    instructions: tuple[str, ...] = Field(min_length=3)
    label: str
    config: str | None = None
    pattern: str | None = None
    only_single: bool = False


class HubSet(Record):
    """A set on the hub, and how its rows become labelled texts.

    Attributes:
        name: what it is called here.
        path: its id on the hub.
        config: its configuration there, if it has several.
        revision: branch, tag or commit; the newest without one.
        files: which of its files are meant, if its card does not say (a pattern).
        split: as the hub calls it.
        licence: as its card states it.
        source: address or citation.
        gated: whether the hub wants a login that has accepted its terms.
        text: column, or dotted path into it; a list of strings is joined by newlines.
        expand: columns that hold lists of equal length; each place in them is a row of its own.
        unpivot: columns that hold a text each; each is a row of `text` and `column`, its name.
        filter: the value that a column must have.
        skip: characters passed over at the start, such as a heading that says the label.
        longest: characters kept of a text.
        buffer: rows that are shuffled at a time; they are downloaded before the first is used.
        attributes: what the texts are labelled for.
    """

    name: str
    path: str
    config: str | None = None
    revision: str | None = None
    files: str | None = None
    split: str
    licence: str
    source: str
    gated: bool = False
    text: str
    expand: tuple[str, ...] = ()
    unpivot: tuple[str, ...] = ()
    filter: Mapping[str, Any] = Field(default_factory=dict)
    skip: int = Field(default=0, ge=0)
    longest: int = Field(default=2000, ge=1)
    buffer: int = Field(default=10_000, ge=1)
    attributes: Mapping[str, HubAttribute] = Field(min_length=1)

    @property
    def configs(self) -> list[str | None]:
        """The configurations that its attributes are read from."""
        return list(dict.fromkeys(each.config or self.config for each in self.attributes.values()))

    def of_config(self, config: str | None) -> dict[str, HubAttribute]:
        """The attributes that are read from a configuration."""
        return {
            name: each for name, each in self.attributes.items() if (each.config or self.config) == config
        }


def hub_sets() -> dict[str, HubSet]:
    """The named sets, by name."""
    folder = resources.files("cluster_r1.benchmark").joinpath("hub")
    files = [file for file in folder.iterdir() if file.name.endswith(".yaml")]
    read = [HubSet.model_validate(yaml.safe_load(file.read_text(encoding="utf-8"))) for file in files]
    return {each.name: each for each in sorted(read, key=lambda each: each.name)}


def read_hub_set(hub_set: HubSet, *, rows: int, source: Path | None = None, seed: int = 0) -> LabelledSet:
    """Texts and labels of a set, from the hub or from a copy of its files.

    Rows with the same text are one, so that labels of several configurations come together. A text's id
    follows from the text.

    Args:
        hub_set: what to read.
        rows: how many rows are read of each configuration; filters apply to these.
        source: a downloaded file, or a folder of them (JSONL, JSON, CSV, Parquet; JSON and CSV also gzipped);
            nothing is asked of the network then. Of a folder, the files are read whose path names
            configuration and split, as far as any does.
        seed: which rows are read.

    Raises:
        InputError: the hub or a file cannot be read, a column is missing, or no row has text and label; the
            message names the set, the cause and the remedy.
        MissingDependencyError: what reads the hub, or Parquet files, is not installed.
    """
    labels: dict[str, dict[str, str]] = {}
    for config in hub_set.configs:
        attributes = hub_set.of_config(config)
        raw = (
            _hub_rows(hub_set, config, seed) if source is None else _local_rows(hub_set, config, source, seed)
        )
        for row in islice(_expanded(hub_set, _checked(hub_set, attributes, raw), Random(seed)), rows):
            if _is_meant(hub_set, row) and (text := _text(hub_set, row)):
                found = {name: _label(hub_set, each, row) for name, each in attributes.items()}
                known = labels.setdefault(text, {})
                known.update({name: label for name, label in found.items() if label and name not in known})
    return _labelled(hub_set, labels)


def _labelled(hub_set: HubSet, labels: Mapping[str, Mapping[str, str]]) -> LabelledSet:
    carried = {name for found in labels.values() for name in found}
    if not carried:
        raise InputError(
            f"{hub_set.name}: no row that was read has a text and a label: read more with --rows"
        )
    return LabelledSet(
        corpus=hub_set.name,
        licence=hub_set.licence,
        source=hub_set.source,
        attributes={name: each for name, each in hub_set.attributes.items() if name in carried},
        rows=tuple(
            LabelledText(id=_id(text), text=text, labels=found) for text, found in labels.items() if found
        ),
    )


def _id(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _checked(hub_set: HubSet, attributes: Mapping[str, HubAttribute], rows: Iterable[Row]) -> Iterator[Row]:
    """The rows, once the first shows that the columns are there."""
    made = {"text", "column"} if hub_set.unpivot else set()
    paths = [hub_set.text, *hub_set.filter, *(each.label for each in attributes.values())]
    wanted = {path.partition(".")[0] for path in paths} - made | {*hub_set.expand, *hub_set.unpivot}
    for number, row in enumerate(rows):
        if number == 0 and (missing := sorted(wanted - row.keys())):
            raise InputError(
                f"{hub_set.name}: no column {', '.join(map(repr, missing))}; there are "
                f"{', '.join(map(repr, row))}: is it another set, or another version of {hub_set.path}?"
            )
        yield row


def _expanded(hub_set: HubSet, rows: Iterable[Row], random: Random) -> Iterator[Row]:
    """Rows of one text each: a row may hold as many as its lists or its text columns do."""
    for row in rows:
        if hub_set.unpivot:
            yield from (
                {**row, "column": name, "text": row[name]} for name in hub_set.unpivot if row.get(name)
            )
        else:
            yield from _parts(hub_set, row, random)


def _parts(hub_set: HubSet, row: Row, random: Random) -> list[Row]:
    """The rows in a row's lists, in random order; newer versions of such sets hold no lists any more."""
    lists = {name: row[name] for name in hub_set.expand if isinstance(row.get(name), list)}
    if not lists:
        return [row]
    if len({len(values) for values in lists.values()}) > 1:
        raise InputError(
            f"{hub_set.name}: the lists {', '.join(map(repr, lists))} of a row differ in length: "
            "the file is damaged, download it again"
        )
    parts: list[Row] = [
        {**row, **dict(zip(lists, values, strict=True))} for values in zip(*lists.values(), strict=True)
    ]
    random.shuffle(parts)
    return parts


def _is_meant(hub_set: HubSet, row: Row) -> bool:
    return all(_value(row, path) == wanted for path, wanted in hub_set.filter.items())


def _text(hub_set: HubSet, row: Row) -> str:
    """The text as it is clustered, empty where there is none."""
    value = _value(row, hub_set.text)
    parts = value if isinstance(value, list) else [value]
    text = "\n".join(part for part in parts if isinstance(part, str)).strip()
    if hub_set.skip:
        # What is passed over ends within a word, and a text that is hardly longer says nothing.
        text = text[hub_set.skip :].partition(" ")[2] if len(text) > 2 * hub_set.skip else ""
    return without_surrogates(text[: hub_set.longest].strip())


def _label(hub_set: HubSet, attribute: HubAttribute, row: Row) -> str:
    """The raw label, empty where there is none."""
    value = _value(row, attribute.label)
    if isinstance(value, list):
        if not attribute.only_single:
            raise InputError(f"{hub_set.name}: {attribute.label!r} holds lists: set only_single for it")
        value = value[0] if len(value) == 1 else None
    label = "" if value is None else str(value).strip()
    if attribute.pattern is None:
        return label
    match = re.search(attribute.pattern, label)
    return match[1] if match else ""


def _value(row: Row, path: str) -> Any:
    """What stands at a dotted path such as `conversation.0.content`, None where nothing does."""
    value: Any = row
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def _hub_rows(hub_set: HubSet, config: str | None, seed: int) -> Iterator[Row]:
    """The rows of a configuration, downloaded as they are used, in random order within the buffer.

    Rows that hold whole lists keep their order: few are needed, and a buffer would download them all.
    """
    try:
        import datasets
        import httpx
        from datasets.exceptions import DatasetsError
    except ImportError:
        raise MissingDependencyError(
            f'{hub_set.name}: reading the hub needs datasets: pip install "cluster-r1[bench]"'
        ) from None
    # An empty card, as some sets have, would be reported each time.
    logging.getLogger("huggingface_hub.repocard").setLevel(logging.ERROR)
    try:
        _probe()
        rows = datasets.load_dataset(
            hub_set.path,
            name=config,
            revision=hub_set.revision,
            data_files={hub_set.split: hub_set.files} if hub_set.files else None,
            split=hub_set.split,
            streaming=True,
        )
        yield from rows if hub_set.expand else rows.shuffle(seed=seed, buffer_size=hub_set.buffer)
    except (OSError, ValueError, RuntimeError, DatasetsError, httpx.HTTPError) as error:
        raise InputError(f"{hub_set.name}: {_cause(error)}: {_remedy(hub_set, error)}") from error


def _probe() -> None:
    """Ask the hub for any answer: `datasets` would try for half a minute before it says that there is none.

    Raises:
        ConnectionError: it is out of reach, or must not be asked (HF_HUB_OFFLINE).
    """
    import httpx
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise ConnectionError("HF_HUB_OFFLINE is set")
    try:
        httpx.head(constants.ENDPOINT, timeout=_PROBE_SECONDS)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise ConnectionError(f"{constants.ENDPOINT}: {str(error) or type(error).__name__}") from error


def _cause(error: Exception) -> str:
    """Why the hub gave nothing, in a few words."""
    said = " ".join(str(error).split())
    if "gated" in said:
        return "the hub wants a login for it"
    if status := _status(error):
        return f"the hub answers {status}"
    if isinstance(error, ConnectionError) or type(error).__module__.startswith("httpx"):
        return f"the hub cannot be reached ({said[:120]})"
    return said[:160].rstrip(" .:") or type(error).__name__


def _status(error: Exception) -> int | None:
    """The HTTP status that an error speaks of."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _remedy(hub_set: HubSet, error: Exception) -> str:
    download = f"download {hub_set.path} elsewhere and give it with --from FOLDER"
    if hub_set.gated or "gated" in str(error) or _status(error) in (401, 403):
        page = f"https://huggingface.co/datasets/{hub_set.path}"
        return f"accept its terms on {page} and set HF_TOKEN, or {download}"
    return f"try again, or {download}"


def _local_rows(hub_set: HubSet, config: str | None, source: Path, seed: int) -> Iterator[Row]:
    """The rows of a copy, in the order in which those of the hub come: random unless they hold lists."""
    random = Random(seed)
    files = _files(hub_set, config, source)
    rows = chain.from_iterable(_READERS[_form(file)](file) for file in files)
    return rows if hub_set.expand else _shuffled(rows, hub_set.buffer, random)


def _shuffled(rows: Iterable[Row], buffer: int, random: Random) -> Iterator[Row]:
    """The rows in random order, as far as a buffer of so many allows."""
    held: list[Row] = []
    for row in rows:
        if len(held) < buffer:
            held.append(row)
            continue
        at = random.randrange(buffer)
        yield held[at]
        held[at] = row
    random.shuffle(held)
    yield from held


def _files(hub_set: HubSet, config: str | None, source: Path) -> list[Path]:
    """The files of a copy that belong to configuration and split; none if only other configurations have any.

    Raises:
        InputError: there is nothing that can be read, or no file says which configuration it has.
    """
    if not source.exists():
        raise InputError(f"{hub_set.name}: there is no {source}: give with --from where {hub_set.path} lies")
    below = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    files = [path for path in below if _form(path) in _READERS]
    if not files:
        raise InputError(
            f"{hub_set.name}: {source} holds no JSONL, JSON, CSV or Parquet file: give with --from where "
            f"{hub_set.path} lies"
        )
    several = len(hub_set.configs) > 1
    if several and not any(_naming(files, source, each) for each in hub_set.configs):
        raise InputError(
            f"{hub_set.name}: no file of {source} names {' or '.join(map(str, hub_set.configs))}: keep the "
            f"names that the files of {hub_set.path} have"
        )
    files = _naming(files, source, config) or ([] if several else files)
    return _naming(files, source, hub_set.split) or files


def _naming(files: Sequence[Path], source: Path, word: str | None) -> list[Path]:
    """Those whose path within the copy has this word."""
    within = [Path(path.name) if path == source else path.relative_to(source) for path in files]
    return [path for path, part in zip(files, within, strict=True) if word in re.findall(r"\w+", str(part))]


def _form(path: Path) -> str:
    """The extension, with that of what is packed."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    return "".join(suffixes if suffixes[-1:] == [".gz"] else suffixes[-1:])


def _json_line_rows(path: Path) -> Iterator[Row]:
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield json_object(path, number, line)


def _json_rows(path: Path) -> Iterator[Row]:
    """The objects of an array; many a `.json` holds one object a line instead."""
    with _opened(path) as file:
        text = file.read()
    if not text.lstrip().startswith("["):
        yield from _json_line_rows(path)
        return
    try:
        values = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path}: no JSON ({error}): download it again") from error
    for number, value in enumerate(values, 1):
        if not isinstance(value, dict):
            raise InputError(f"{path}, value {number}: an object is expected, not {type(value).__name__}")
        yield value


def _csv_rows(path: Path) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_CELL)
    with _opened(path) as file:
        yield from csv.DictReader(file)


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingDependencyError(
            f'{path}: Parquet needs pyarrow, which is not installed: pip install "cluster-r1[data]"'
        ) from None
    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=_BATCH):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({_short(error)}): download it again") from error


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """A text file, packed or not; what shows while it is read that it cannot be is an InputError."""
    try:
        if path.suffix.lower() == ".gz":
            with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as file:
                yield cast(TextIO, file)
        else:
            with path.open(encoding="utf-8-sig", newline="") as file:
                yield file
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({_short(error)}): download it again") from error


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


_READERS: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _json_line_rows,
    ".jsonl.gz": _json_line_rows,
    ".json": _json_rows,
    ".json.gz": _json_rows,
    ".csv": _csv_rows,
    ".csv.gz": _csv_rows,
    ".parquet": _parquet_rows,
}
