"""What tasks are made of: files, Python objects, or domains in words, as sources with names and licences."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster_r1.errors import InputError
from cluster_r1.graphs.synthesis.slicing import Source
from cluster_r1.python_input import texts_from_python
from cluster_r1.reading import read_texts
from cluster_r1.training.labelled import attribute_file
from cluster_r1.types import Text

_UNKNOWN = "unknown"
_LONGEST_NAME = 40


def all_sources(
    corpora: Any,
    domains: Sequence[str] = (),
    *,
    text_column: str | None = None,
    id_column: str | None = None,
    licence: str = "",
) -> list[Source]:
    """Corpora, then domains; see `sources_from_python` and `source_of_domain`."""
    return [
        *sources_from_python(corpora, text_column=text_column, id_column=id_column, licence=licence),
        *(source_of_domain(domain, licence) for domain in domains),
    ]


def source_of_file(
    path: Path | str, *, text_column: str | None = None, id_column: str | None = None, licence: str = ""
) -> Source:
    """A file of texts, of any form that `cluster-r1 cluster` reads.

    Name, licence and origin are taken from `<stem>.attributes.yaml` beside it, if there is one, or from those
    of public sets that are shipped; else the name is the file's.

    Raises:
        InputError: the file cannot be read.
    """
    read = read_texts(path, text_column=text_column, id_column=id_column)
    known = attribute_file(Path(path))
    return Source(
        name=known.corpus,
        texts=tuple(read.texts),
        licence=known.licence if known.licence != _UNKNOWN else licence or _UNKNOWN,
        origin=known.source or Path(path).name,
        sha256=read.sha256,
        warnings=tuple(read.warnings),
    )


def source_of_domain(domain: str, licence: str = "") -> Source:
    """A domain in words, e.g. "chat messages to the support of a bank"; its name is made of its words.

    Raises:
        InputError: there are no words.
    """
    words = "".join(letter if letter.isalnum() else " " for letter in domain.casefold()).split()
    if not words:
        raise InputError('the domain is empty: say what the texts are, e.g. "chats with a bank\'s support"')
    digest = hashlib.sha256(domain.encode("utf-8", "replace")).hexdigest()
    return Source(
        name=_short_name("-".join(words), digest),
        domain=domain,
        licence=licence or _UNKNOWN,
        origin="written by the generator",
        sha256=digest,
    )


def _short_name(name: str, digest: str) -> str:
    """A name of at most 40 letters; one that is cut ends with what tells it from others."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 7].rstrip('-')}-{digest[:6]}"


def sources_from_python(
    corpora: Any, *, text_column: str | None = None, id_column: str | None = None, licence: str = ""
) -> list[Source]:
    """Sources of what a Python caller passes: a path or several, or a mapping of names to texts.

    Raises:
        InputError: it is neither, or texts cannot be read.
    """
    if isinstance(corpora, str | Path):
        corpora = [corpora]
    if isinstance(corpora, Mapping):
        return [
            _source_of_texts(str(name), texts, text_column, id_column, licence)
            for name, texts in corpora.items()
        ]
    if isinstance(corpora, Sequence) and all(isinstance(path, str | Path) for path in corpora):
        return [
            source_of_file(path, text_column=text_column, id_column=id_column, licence=licence)
            for path in corpora
        ]
    raise InputError("corpora are paths of files, or a dict of names and their texts")


def _source_of_texts(
    name: str, data: Any, text_column: str | None, id_column: str | None, licence: str
) -> Source:
    texts, _ = texts_from_python(data, text_column=text_column, id_column=id_column)
    return Source(
        name=name,
        texts=tuple(texts),
        licence=licence or _UNKNOWN,
        origin="passed from Python",
        sha256=_digest(texts),
    )


def _digest(texts: Sequence[Text]) -> str:
    content = json.dumps([[text.id, text.text] for text in texts], ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()
