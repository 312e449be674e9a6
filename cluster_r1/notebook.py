"""How a result shows itself in Python: in one line, and as a table in a notebook."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster_r1.result import ClusteringResult


def counted(result: ClusteringResult) -> str:
    """`14 clusters of 180 texts`."""
    clusters, texts = result.n_clusters, len(result.texts)
    return f"{clusters} cluster{'' if clusters == 1 else 's'} of {texts} text{'' if texts == 1 else 's'}"


def notebook_table(result: ClusteringResult) -> str:
    """HTML: size, name and description of each cluster; whatever models and users wrote is escaped."""
    rows = [(len(cluster.members), cluster.name, cluster.description) for cluster in result.clusters]
    if result.unassigned:
        rows.append((len(result.unassigned), "in no cluster", ""))
    body = "".join(
        f"<tr><td>{size}</td><td>{escape(name)}</td><td>{escape(description)}</td></tr>"
        for size, name, description in rows
    )
    title = escape(f"{result.info.instruction}: {counted(result)}, {result.info.model}")
    return (
        f"<table><caption>{title}</caption><thead><tr><th>texts</th><th>cluster</th>"
        f"<th>what belongs in it</th></tr></thead><tbody>{body}</tbody></table>"
    )
