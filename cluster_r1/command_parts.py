"""What several commands share: their options, the agent they ask, what they say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast, get_args

import typer

from cluster_r1.errors import InputError

if TYPE_CHECKING:
    from cluster_r1.agent import ClusteringAgent
    from cluster_r1.reading import Format, ReadTexts
    from cluster_r1.result import ClusteringResult

EPILOG = "Exit codes: 0 done, 2 bad input, 3 model failure, 4 budget too small, 130 stopped by Ctrl-C."

TextColumn = Annotated[str | None, typer.Option("--text", help="Column of the texts.")]
IdColumn = Annotated[str | None, typer.Option("--id", help="Column of the ids.")]
FormatName = Annotated[
    str | None, typer.Option(help="csv, tsv, jsonl, json, parquet or lines, if the name does not say.")
]
Out = Annotated[Path | None, typer.Option(help="Folder for the results.  [default: out/...]")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace another run in that folder.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Read only the first N texts.")]
EffortName = Annotated[
    Literal["economy", "thorough"] | None,
    typer.Option(help="Of many texts, the model reads all or a part.  [default: economy above 2,000]"),
]
Seed = Annotated[int, typer.Option(help="Another number asks the model anew.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
BudgetTokens = Annotated[int | None, typer.Option(min=1, help="Spend at most this many tokens.")]
BudgetUsd = Annotated[float | None, typer.Option(help="Spend at most so many US dollars, at --price.")]
PriceOption = Annotated[
    str | None,
    typer.Option("--price", help="USD per million tokens as input/output or input/output/cached input."),
]
Concurrency = Annotated[int, typer.Option(min=1, help="Calls under way at once.")]
Timeout = Annotated[float, typer.Option(min=1, help="Seconds that one call may take.")]
RequestsPerMinute = Annotated[int | None, typer.Option(min=1, help="Begin at most so many calls a minute.")]
TokensPerMinute = Annotated[int | None, typer.Option(min=1, help="Send and get at most so many a minute.")]


def open_agent(model: str, options: dict[str, Any]) -> ClusteringAgent:
    """The agent that a command asks."""
    from cluster_r1.agent import ClusteringAgent

    return ClusteringAgent(model, **options)


def read_file(
    file: str, text: str | None, id: str | None, format: str | None, limit: int | None
) -> ReadTexts:
    """The texts of a file, with warnings said.

    Raises:
        InputError: it cannot be read.
    """
    from cluster_r1.reading import read_texts

    read = read_texts(file, text_column=text, id_column=id, limit=limit, format=_format(format))
    for warning in read.warnings:
        say(f"warning: {warning}")
    return read


def source_name(file: str) -> str:
    """How results name the file that texts are from."""
    return Path(file).name if file != "-" else "standard input"


def default_folder(file: str, instruction: str) -> Path:
    """Where results go that are given no folder."""
    return Path("out") / f"{slug(Path(file).stem if file != '-' else 'stdin')}-by-{slug(instruction)}"


def show(result: ClusteringResult, folder: Path, column: str | None, as_json: bool) -> None:
    """The result on standard output."""
    if as_json:
        typer.echo(json.dumps(result.to_json(), ensure_ascii=False))
        return
    from cluster_r1.display import show_result

    show_result(result, folder, column)


def slug(text: str) -> str:
    """A name of a folder made of words."""
    words = re.findall(r"\w+", text.casefold())
    return "-".join(words)[:48].rstrip("-") or "texts"


def say(line: str) -> None:
    """A line on standard error."""
    typer.echo(line if line.startswith(("error", "warning")) else f"cluster-r1: {line}", err=True)


def _format(name: str | None) -> Format | None:
    from cluster_r1.reading import Format

    known = get_args(Format)
    if name is not None and name not in known:
        raise InputError(f"--format is {name!r}: choose one of {', '.join(known)}")
    return cast("Format | None", name)
