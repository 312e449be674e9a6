"""What a run gives back: the clustering with its texts, and how it came about."""

from __future__ import annotations

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cluster_r1.claims import claim, release
from cluster_r1.edits import Edit, apply_edits, cluster_id, resolved
from cluster_r1.errors import InputError, MissingDependencyError
from cluster_r1.graphs.tracing import TraceRecord, write_trace
from cluster_r1.growth import Changes
from cluster_r1.notebook import counted, notebook_table
from cluster_r1.run_folder import (
    ASSIGNMENTS,
    CHANGES,
    CLUSTERS,
    RUN,
    TRACE,
    Row,
    read_json,
    read_rows,
    recorded_lines,
    write_json,
    write_rows,
)
from cluster_r1.run_ids import run_id_of
from cluster_r1.types import (
    Assignment,
    Cluster,
    Clustering,
    CorpusReading,
    Record,
    Round,
    StopReason,
    Text,
    Unassigned,
    Usage,
)

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 3
"""Of the files of a saved run; a folder with a higher one was written by a newer version."""


class RunInfo(Record):
    """How a run was done. Everything but `usage` and `seconds` is the same when it is repeated.

    `corpus` says how texts were read that fit no single context; `passes` is how many were made over the
    texts, and `stability` the mean adjusted Rand index of two of them (None of one); `changes` what new texts
    did to an earlier run; `edits` what people changed afterwards, `taken_out` the ids of texts that they had
    put into no cluster before an update; `input_sha256` is over ids and texts;
    `templates` maps template ids to sha256; `seconds` are per node of the graph, `total` in all.
    """

    format: int = FORMAT
    run_id: str
    instruction: str
    k: str | None
    model: str
    max_rounds: int
    seed: int
    texts: int
    input_sha256: str
    source: str = ""
    versions: dict[str, str]
    templates: dict[str, str]
    rounds: tuple[Round, ...]
    best_round: int
    stop_reason: StopReason
    notes: tuple[str, ...]
    corpus: CorpusReading | None = None
    passes: int = 1
    stability: float | None = None
    changes: Changes | None = None
    edits: tuple[Edit, ...] = ()
    taken_out: tuple[str, ...] = ()
    usage: Usage
    seconds: dict[str, float]


@dataclass(frozen=True, repr=False)
class ClusteringResult:
    """An instruction's clustering of some texts.

    Attributes:
        texts: the input, in its order.
        clustering: the partition: clusters, assignments, unassigned; an exact cover of `texts`.
        info: how it came about.
        trace: the records of the run's trace, in the order they ended.
        index: the caller's own keys of the texts (a pandas index, the keys of a dict), if there were any.
    """

    texts: Sequence[Text]
    clustering: Clustering
    info: RunInfo
    trace: Sequence[TraceRecord] = field(default=(), repr=False)
    index: Sequence[Hashable] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return f"ClusteringResult({counted(self)}, model={self.info.model!r})"

    def _repr_html_(self) -> str:
        """A table of the clusters, for notebooks."""
        return notebook_table(self)

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        """The clusters, the largest first."""
        return tuple(sorted(self.clustering.clusters, key=lambda cluster: -len(cluster.members)))

    @property
    def assignments(self) -> tuple[Assignment, ...]:
        """Cluster, confidence and reason of every assigned text, in input order."""
        return self.clustering.assignments

    @property
    def unassigned(self) -> tuple[Unassigned, ...]:
        """The texts in no cluster, each with its reason."""
        return self.clustering.unassigned

    @cached_property
    def labels(self) -> NDArray[np.intp]:
        """Shape (n,): for each input text the position of its cluster in `clusters`, -1 if unassigned."""
        position = {cluster.id: number for number, cluster in enumerate(self.clusters)}
        place = {assignment.text_id: position[assignment.cluster_id] for assignment in self.assignments}
        return np.array([place.get(text.id, -1) for text in self.texts], dtype=np.intp)

    @property
    def n_clusters(self) -> int:
        """How many clusters there are."""
        return len(self.clustering.clusters)

    @property
    def usage(self) -> Usage:
        """Calls and tokens spent and saved."""
        return self.info.usage

    @property
    def rounds(self) -> tuple[Round, ...]:
        """The rounds of the graph, with their scores and findings."""
        return self.info.rounds

    @property
    def stop_reason(self) -> StopReason:
        """Why the graph stopped."""
        return self.info.stop_reason

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the result should know."""
        return self.info.notes

    def rows(self) -> list[Row]:
        """One row for every input text, in input order."""
        cluster_of = {cluster.id: cluster for cluster in self.clusters}
        placed = {assignment.text_id: assignment for assignment in self.assignments}
        outside = {text.text_id: text.reason for text in self.unassigned}
        rows = []
        for text in self.texts:
            place = placed.get(text.id)
            rows.append(
                Row(
                    id=text.id,
                    text=text.text,
                    cluster_id=place.cluster_id if place else "",
                    cluster=cluster_of[place.cluster_id].name if place else "",
                    confidence=place.confidence if place else None,
                    reason=place.reason if place else outside[text.id],
                )
            )
        return rows

    def cluster_named(self, named: str) -> Cluster:
        """The cluster of this id or name.

        Raises:
            InputError: there is none.
        """
        id = cluster_id(named, self.clustering)
        found = next((cluster for cluster in self.clusters if cluster.id == id), None)
        if found is None:
            raise InputError(f"{named!r} is no cluster")
        return found

    def edit(self, *edits: Edit) -> ClusteringResult:
        """The result after changes by hand, which are recorded in `info.edits` in the order they were made.

        Clusters may be named by id or by name. Other clusters keep their ids, names and texts.

        Raises:
            InputError: an edit names what does not exist, or would change nothing.
        """
        clustering, run_id = self.clustering, self.info.run_id
        done = list(self.info.edits)
        order = [text.id for text in self.texts]
        for number, edit in enumerate(edits, 1):
            try:
                clear = resolved(edit, clustering, order)
            except InputError as error:
                if len(edits) == 1:
                    raise
                said = f"change {number} of {len(edits)} ({edit.kind} {', '.join(edit.clusters)})"
                raise InputError(f"{said}: {error}. Nothing was changed") from error
            clustering = apply_edits(clustering, [clear], order).clustering
            run_id = run_id_of("edit", run_id, clear.model_dump_json())
            done.append(clear)
        changed = {"edits": tuple(done), "run_id": run_id}
        return replace(self, clustering=clustering, info=self.info.model_copy(update=changed))

    def to_frame(self) -> pd.DataFrame:
        """A pandas DataFrame of `rows()`, with the caller's index if there was one.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingDependencyError(
                'to_frame() needs pandas. Install it: pip install "cluster-r1[data]"'
            ) from error
        index = pd.Index(list(self.index)) if self.index is not None else None
        frame = pd.DataFrame([row.model_dump() for row in self.rows()], columns=list(Row.model_fields))
        return frame if index is None else frame.set_axis(index, axis=0)

    def to_json(self) -> dict[str, Any]:
        """Clusters, rows and run, as plain data."""
        return {
            "clusters": self._clusters_json(),
            "assignments": [row.model_dump() for row in self.rows()],
            "run": self.info.model_dump(mode="json"),
        }

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write assignments.csv, clusters.json, run.json and trace.jsonl into a folder, made if need be.

        Of an update also changes.json.

        Raises:
            InputError: the folder cannot be made or written, or holds another run (without `overwrite`).
        """
        folder = Path(folder)
        claim(folder, self.info.run_id, overwrite=overwrite)
        if self.trace:
            write_trace(folder / TRACE, self.trace)
        else:
            (folder / TRACE).unlink(missing_ok=True)  # it would be that of another run
        self.write(folder)
        release(folder)
        return folder

    def write(self, folder: Path) -> None:
        """Write the files of `save` but the trace into a folder that is the run's already.

        Raises:
            InputError: it cannot be written.
        """
        write_rows(folder / ASSIGNMENTS, self.rows())
        write_json(folder / CLUSTERS, self._clusters_json())
        if self.info.changes is not None:
            write_json(folder / CHANGES, self.info.changes.model_dump(mode="json"))
        else:
            (folder / CHANGES).unlink(missing_ok=True)  # it would be that of another run
        write_json(folder / RUN, self.info.model_dump(mode="json"))  # last: its presence says all is there

    @classmethod
    def load(cls, folder: str | Path) -> ClusteringResult:
        """Read what `save` wrote.

        Raises:
            InputError: the folder holds no finished run, one of a newer version, or one whose last edit was
                recorded but not carried out.
        """
        folder = Path(folder)
        if not (folder / RUN).is_file():
            raise InputError(f"{folder} holds no finished run: there is no {RUN}. Name the folder of one")
        run = read_json(folder / RUN)
        written = run.get("format") if isinstance(run, dict) else None
        if not isinstance(written, int):
            raise InputError(f"{folder / RUN} is no record of a run")
        if written > FORMAT:
            raise InputError(f"{folder / RUN} was written by a newer version. Upgrade cluster-r1")
        _refuse_unfinished_edit(folder, run)
        rows = read_rows(folder / ASSIGNMENTS)
        try:
            info = RunInfo.model_validate(run)
            clustering = _clustering(read_json(folder / CLUSTERS), rows)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{folder} holds no run that can be read: {error}") from error
        _refuse_contradictions(folder, info, clustering, rows)
        return cls(
            texts=tuple(Text(id=row.id, text=row.text) for row in rows), clustering=clustering, info=info
        )

    def _clusters_json(self) -> dict[str, Any]:
        return {
            "instruction": self.info.instruction,
            "criterion": self.clustering.criterion,
            "clusters": [
                {**cluster.model_dump(exclude={"members"}), "size": len(cluster.members)}
                | {"members": list(cluster.members)}
                for cluster in self.clusters
            ],
            "unassigned": [text.model_dump() for text in self.unassigned],
        }


def _clustering(clusters: dict[str, Any], rows: Sequence[Row]) -> Clustering:
    return Clustering(
        criterion=clusters["criterion"],
        clusters=tuple(
            Cluster(**{key: value for key, value in entry.items() if key != "size"})
            for entry in clusters["clusters"]
        ),
        assignments=tuple(
            Assignment(
                text_id=row.id, cluster_id=row.cluster_id, confidence=row.confidence, reason=row.reason
            )
            for row in rows
            if row.cluster_id
        ),
        unassigned=tuple(Unassigned(text_id=row.id, reason=row.reason) for row in rows if not row.cluster_id),
    )


def _refuse_unfinished_edit(folder: Path, run: dict[str, Any]) -> None:
    """Raise an InputError when an edit was recorded that the files do not show."""
    recorded = recorded_lines(folder)
    if not recorded:
        return
    shown = run.get("edits") or []
    if [json.loads(line) for line in recorded] != shown[len(shown) - len(recorded) :]:
        raise InputError(
            f"{folder}: an edit was stopped before it was carried out. `cluster-r1 edit {folder} log` does it"
        )


def _refuse_contradictions(folder: Path, info: RunInfo, clustering: Clustering, rows: Sequence[Row]) -> None:
    """Raise an InputError when the files of a folder do not speak of the same texts and clusters."""
    members: dict[str, list[str]] = {cluster.id: [] for cluster in clustering.clusters}
    for row in rows:
        if row.cluster_id:
            members.setdefault(row.cluster_id, []).append(row.id)
    agree = members == {cluster.id: list(cluster.members) for cluster in clustering.clusters}
    if not agree or len({row.id for row in rows}) != len(rows) or len(rows) != info.texts:
        raise InputError(
            f"{folder}: {ASSIGNMENTS}, {CLUSTERS} and {RUN} are not of the same run. Run it again"
        )
