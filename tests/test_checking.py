"""Whatever a model proposes or edits, every text stands exactly once, and k is kept where it can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_r1.agents.clustering.partition import Placement
from cluster_r1.agents.clustering.proposer import Proposal, ProposedCluster
from cluster_r1.edits import Edit, apply_edits
from cluster_r1.graphs.clustering.checking import (
    FITS_NONE,
    NOT_PLACED,
    check_clustering,
    check_proposal,
    k_finding,
)
from cluster_r1.graphs.clustering.distinct import EMPTY, distinct_texts, spread
from cluster_r1.graphs.clustering.limits import enforce_k
from cluster_r1.types import Assignment, Cluster, Clustering, KRange, Text, Unassigned

QUICK = settings(max_examples=200, deadline=None)
SLOW = settings(max_examples=40, deadline=None)

IDS = ("p", "q", "r", "s", "t", "u")
WORDING = dict(
    zip(IDS, ("refund me", "my card was charged", "late parcel", "où?", "12:30", "parcel lost"), strict=True)
)


def assert_exact_cover(clustering: Clustering, ids: Sequence[str]) -> None:
    """Each id once, clusters and assignments agree, everything in input order."""
    placed = [assignment.text_id for assignment in clustering.assignments]
    outside = [text.text_id for text in clustering.unassigned]
    order = list(ids)
    assert Counter(placed + outside) == Counter(order)
    assert placed == sorted(placed, key=order.index)
    assert outside == sorted(outside, key=order.index)
    cluster_of = {assignment.text_id: assignment.cluster_id for assignment in clustering.assignments}
    members = [(member, cluster.id) for cluster in clustering.clusters for member in cluster.members]
    assert Counter(members) == Counter(cluster_of.items())
    assert all(cluster.members for cluster in clustering.clusters)
    assert all(list(c.members) == sorted(c.members, key=order.index) for c in clustering.clusters)
    assert len({cluster.id for cluster in clustering.clusters}) == len(clustering.clusters)
    assert all(text.reason for text in clustering.unassigned)


def clustering_of(groups: dict[str, Sequence[str]], outside: Sequence[str] = ()) -> Clustering:
    """Clusters C1, C2 ... with these names and members."""
    clusters = tuple(
        Cluster(id=f"C{n}", name=name, description=f"about {name}", members=tuple(members))
        for n, (name, members) in enumerate(groups.items(), 1)
    )
    cluster_of = {member: cluster.id for cluster in clusters for member in cluster.members}
    return Clustering(
        clusters=clusters,
        assignments=tuple(
            Assignment(text_id=id, cluster_id=cluster_of[id], confidence=0.5, reason=f"why {id}")
            for id in sorted(cluster_of)
        ),
        unassigned=tuple(Unassigned(text_id=id, reason="noise") for id in outside),
        criterion="a criterion",
    )


def proposal(
    clusters: Sequence[tuple[str, str]], placements: Sequence[tuple[Any, ...]], **fields: Any
) -> Proposal:
    return Proposal(
        clusters=tuple(ProposedCluster(id=id, name=name) for id, name in clusters),
        placements=tuple(
            Placement(text=text, cluster=cluster, confidence=rest[0] if rest else None)
            for text, cluster, *rest in placements
        ),
        **fields,
    )


def groups(clustering: Clustering) -> dict[str, tuple[str, ...]]:
    return {cluster.name: cluster.members for cluster in clustering.clusters}


NAMES = [
    "",
    " ",
    "C1",
    "C2",
    "c1",
    "C1.",
    "none",
    "None",
    "NONE.",
    "Billing",
    "billing",
    "billing!",
    "Other",
    "!!",
]
names = st.sampled_from(NAMES) | st.text(max_size=4)
proposals = st.builds(
    Proposal,
    clusters=st.lists(
        st.builds(ProposedCluster, id=names, name=names, description=st.just("d")), max_size=6
    ).map(tuple),
    placements=st.lists(
        st.builds(
            Placement,
            text=st.integers(-1, 8) | st.integers(),
            cluster=names,
            reason=st.sampled_from(["", "because"]),
            confidence=st.none() | st.floats(0, 1),
        ),
        max_size=12,
    ).map(tuple),
)


@QUICK
@given(proposals, st.integers(0, len(IDS)))
def test_any_proposal_becomes_an_exact_cover_with_distinct_names(proposed: Proposal, count: int) -> None:
    ids = IDS[:count]
    checked = check_proposal(proposed, ids, WORDING)
    assert_exact_cover(checked.clustering, ids)
    found = [cluster.name for cluster in checked.clustering.clusters]
    assert all(name.strip() for name in found)
    assert len({name.casefold() for name in found}) == len(found)
    again = check_clustering(checked.clustering, ids, WORDING)
    assert again.clustering == checked.clustering
    assert again.findings == checked.findings
    assert again.repairs == ()


@pytest.mark.parametrize(
    ("clusters", "placements", "expected"),
    [
        ([("C1", "a"), ("C2", "b")], [(1, "C1"), (2, "C2"), (3, "C2")], {"b": ("q", "r"), "a": ("p",)}),
        ([("C1", "a"), ("C2", "b")], [(1, "c2"), (2, "b"), (3, " B. ")], {"b": ("p", "q", "r")}),
        ([("C1", "C2"), ("C2", "C1")], [(1, "C1"), (2, "C1"), (3, "C2")], {"C2": ("p", "q"), "C1": ("r",)}),
        ([], [(1, "x"), (2, "X"), (3, "y")], {"x": ("p", "q"), "y": ("r",)}),
        ([("C1", "a"), ("C1", "b")], [(1, "C1"), (2, "b"), (3, "a")], {"a": ("p", "r"), "b": ("q",)}),
        (
            [("C1", "a"), ("C2", "A"), ("C3", "b")],
            [(1, "C1"), (2, "C2"), (3, "C3")],
            {"a": ("p", "q"), "b": ("r",)},
        ),
        (
            [("C1", "a"), ("C2", "b")],
            [(1, "C2"), (2, "C2"), (3, "C2"), (0, "C1"), (4, "C1")],
            {"b": ("p", "q", "r")},
        ),
    ],
    ids=[
        "by id",
        "by name or other case",
        "id before name",
        "unlisted",
        "id twice",
        "equal names",
        "no such text",
    ],
)
def test_placements_find_their_cluster(
    clusters: list[tuple[str, str]], placements: list[tuple[Any, ...]], expected: dict[str, tuple[str, ...]]
) -> None:
    checked = check_proposal(proposal(clusters, placements, criterion="c"), IDS[:3], WORDING)
    assert groups(checked.clustering) == expected
    assert list(groups(checked.clustering)) == list(expected)
    assert checked.clustering.criterion == "c"
    assert checked.clustering.clusters[0].id == "C1"


@pytest.mark.parametrize(
    ("rivals", "kept"),
    [
        ([("C1", 0.2), ("C2", 0.9)], "C2"),
        ([("C2", 0.9), ("C1", 0.2)], "C2"),
        ([("C2", 0.5), ("C1", 0.5)], "C2"),
        ([("C1", None), ("C2", 0.1)], "C2"),
        ([("C2", None), ("C1", None)], "C2"),
        ([("none", 0.3), ("C2", 0.8), ("C1", 0.7)], "C2"),
    ],
)
def test_of_several_places_the_most_confident_is_kept(
    rivals: list[tuple[str, float | None]], kept: str
) -> None:
    placements = [(1, cluster, confidence) for cluster, confidence in rivals]
    checked = check_proposal(proposal([("C1", "a"), ("C2", "b")], placements), IDS[:1], WORDING)
    assert groups(checked.clustering) == {"b": ("p",)}
    assert any("placed in several clusters" in repair for repair in checked.repairs)


def test_a_text_in_no_cluster_says_why() -> None:
    proposed = Proposal(
        clusters=(ProposedCluster(id="C1", name="a"),),
        placements=(
            Placement(text=1, cluster="none"),
            Placement(text=2, cluster="None.", reason="gibberish"),
            Placement(text=3, cluster="C1"),
        ),
    )
    clustering = check_proposal(proposed, IDS[:4], WORDING).clustering
    reasons = {text.text_id: text.reason for text in clustering.unassigned}
    assert reasons == {"p": FITS_NONE, "q": "gibberish", "s": NOT_PLACED}


def test_every_repair_is_told() -> None:
    proposed = proposal(
        [("C1", "a"), ("C2", "unused"), ("C3", "")], [(1, "C1"), (2, "new"), (3, "C3"), (9, "C1")]
    )
    repairs = check_proposal(proposed, IDS[:3], WORDING).repairs
    for said in (
        "do not exist",
        "'new' was used but not listed",
        "1 clusters without texts",
        "without a name",
    ):
        assert any(said in repair for repair in repairs), said
    assert check_proposal(proposal([("C1", "a")], [(1, "C1")]), IDS[:1], WORDING).repairs == ()


def test_nameless_clusters_are_named_by_their_words_and_never_alike() -> None:
    proposed = proposal([("C1", ""), ("C2", " "), ("C3", "")], [(1, "C1"), (2, "C2"), (3, "C3"), (5, "C3")])
    clustering = check_proposal(proposed, IDS[:5], {**WORDING, "q": "refund me"}).clustering
    found = [cluster.name for cluster in clustering.clusters]
    assert len(set(found)) == len(found) == 3
    assert sum("refund" in name for name in found) == 2
    assert any("parcel" in name for name in found)


def test_a_nameless_cluster_is_not_merged_into_one_that_happens_to_bear_its_words() -> None:
    proposed = proposal([("C1", "Parcel"), ("C2", "")], [(1, "C1"), (3, "C2")])
    clustering = check_proposal(proposed, IDS[:3], {**WORDING, "r": "parcel"}).clustering
    assert len(clustering.clusters) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [("Bug report", "Bug reports"), ("Delivery delay", "delivery delays"), ("Rückfragen!", "rückfrage")],
)
def test_names_that_a_reader_would_confuse_are_found(one: str, other: str) -> None:
    checked = check_clustering(clustering_of({one: "p", other: "qr", "unlike": "s"}), "pqrs", WORDING)
    (finding,) = checked.findings
    assert (finding.kind, finding.clusters, finding.source) == ("merge", ("C1", "C2"), "code")
    assert repr(one) in finding.comment
    assert len(checked.clustering.clusters) == 3


@pytest.mark.parametrize("name", ["Other", "misc.", "Miscellaneous", "GENERAL", "various", "N/A", "unknown"])
def test_a_catch_all_is_found_unless_it_holds_one_text(name: str) -> None:
    (finding,) = check_clustering(clustering_of({name: "pq", "rest of us": "r"}), "pqr", WORDING).findings
    assert (finding.kind, finding.clusters) == ("split", ("C1",))
    assert check_clustering(clustering_of({name: "p", "rest of us": "qr"}), "pqr", WORDING).findings == ()


@pytest.mark.parametrize("name", ["Other people's parcels", "General practitioners", "Otherwise"])
def test_a_name_that_merely_contains_such_a_word_is_no_catch_all(name: str) -> None:
    assert check_clustering(clustering_of({name: "pq", "x": "r"}), "pqr", WORDING).findings == ()


@pytest.mark.parametrize(
    ("k", "kind", "said"),
    [
        (None, None, ""),
        (KRange(low=2, high=2), None, ""),
        (KRange(low=1, high=5), None, ""),
        (KRange(low=1, high=1), "merge", "at most 1"),
        (KRange(low=3, high=4), "split", "at least 3"),
    ],
)
def test_a_number_of_clusters_outside_the_limits_is_a_finding(
    k: KRange | None, kind: str | None, said: str
) -> None:
    finding = k_finding(clustering_of({"a": "p", "b": "q"}), k)
    assert (finding.kind if finding else None) == kind
    if finding:
        assert said in finding.comment
        assert finding.clusters == ("C1", "C2")
        assert finding.source == "code"


edits = st.lists(
    st.builds(
        Edit,
        kind=st.sampled_from(["merge", "split", "move", "rename", "drop"]),
        clusters=st.lists(st.sampled_from(["C1", "C2", "C3", "C4", "none", ""]), max_size=3, unique=True).map(
            tuple
        ),
        texts=st.lists(st.sampled_from([*IDS, "unknown", ""]), max_size=6, unique=True).map(tuple),
        name=st.sampled_from(["", "new", "a"]),
        description=st.sampled_from(["", "said anew"]),
        reason=st.sampled_from(["", "so"]),
    ),
    max_size=8,
)


@QUICK
@given(edits)
def test_any_edits_keep_the_cover_exact(made: list[Edit]) -> None:
    start = clustering_of({"a": "pq", "b": "rs", "c": "t"}, outside="u")
    edited = apply_edits(start, made, IDS)
    assert_exact_cover(edited.clustering, IDS)
    assert len(edited.applied) + len(edited.refused) == len(made)
    assert edited.clustering.criterion == start.criterion
    if not edited.applied:
        assert edited.clustering == start


@pytest.mark.parametrize(
    "edit",
    [
        Edit(kind="drop", texts=("p", "p")),
        Edit(kind="merge", clusters=("C1", "C1")),
        Edit(kind="merge", clusters=("C1", "C2", "C2")),
        Edit(kind="split", clusters=("C1",), texts=("p", "p"), name="new"),
        Edit(kind="split", clusters=("C1",), texts=("p", "q", "p"), name="new"),
    ],
    ids=lambda edit: f"{edit.kind} {' '.join(edit.clusters + edit.texts)}",
)
def test_naming_the_same_thing_twice_is_naming_it_once(edit: Edit) -> None:
    once = edit.model_copy(
        update={"clusters": tuple(dict.fromkeys(edit.clusters)), "texts": tuple(dict.fromkeys(edit.texts))}
    )
    start = clustering_of({"a": "pq", "b": "rs"})
    assert apply_edits(start, [edit], IDS[:4]) == apply_edits(start, [once], IDS[:4])


START = {"a": "pq", "b": "rs", "c": "t"}


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (Edit(kind="merge", clusters=("C2", "C1")), {"b": "pqrs", "c": "t"}),
        (Edit(kind="merge", clusters=("C9", "C1", "C3"), name="n"), {"n": "pqt", "b": "rs"}),
        (
            Edit(kind="split", clusters=("C1",), texts=("q", "r"), name="n"),
            {"a": "p", "b": "rs", "c": "t", "n": "q"},
        ),
        (Edit(kind="move", clusters=("C3",), texts=("p", "u")), {"a": "q", "b": "rs", "c": "ptu"}),
        (Edit(kind="move", clusters=("C2",), texts=("t",)), {"a": "pq", "b": "rst"}),
        (Edit(kind="rename", clusters=("C2",), name="n"), {"a": "pq", "n": "rs", "c": "t"}),
        (Edit(kind="drop", texts=("p", "q", "r")), {"b": "s", "c": "t"}),
    ],
    ids=lambda value: value.kind if isinstance(value, Edit) else "",
)
def test_an_edit_does_what_it_says(edit: Edit, expected: dict[str, str]) -> None:
    edited = apply_edits(clustering_of(START, outside="u"), [edit], IDS)
    assert groups(edited.clustering) == {name: tuple(members) for name, members in expected.items()}
    assert len(edited.applied) == 1


@pytest.mark.parametrize(
    "edit",
    [
        Edit(kind="merge", clusters=("C1",)),
        Edit(kind="merge", clusters=("C1", "C9")),
        Edit(kind="split", clusters=("C1",), texts=("p", "q"), name="all of it"),
        Edit(kind="split", clusters=("C1",), texts=("r",), name="of another"),
        Edit(kind="split", clusters=("C1",), texts=("p",)),
        Edit(kind="move", clusters=("C1",), texts=("p",)),
        Edit(kind="move", texts=("p",)),
        Edit(kind="rename", clusters=("C1",), name="a"),
        Edit(kind="rename", clusters=("C9",), name="n"),
        Edit(kind="drop", texts=("u",)),
        Edit(kind="drop"),
    ],
    ids=lambda edit: f"{edit.kind} {' '.join(edit.clusters + edit.texts)}",
)
def test_an_edit_that_changes_nothing_is_refused_in_words(edit: Edit) -> None:
    start = clustering_of(START, outside="u")
    edited = apply_edits(start, [edit.model_copy(update={"reason": "so"})], IDS)
    assert edited.clustering == start
    assert edited.applied == ()
    assert edited.refused == (f"{edit.kind} could not be carried out: so",)


def test_ids_mean_the_same_cluster_before_and_after_edits() -> None:
    made = [
        Edit(kind="merge", clusters=("C1", "C3")),
        Edit(kind="split", clusters=("C1",), texts=("t",), name="new"),
        Edit(kind="move", clusters=("C4",), texts=("r",)),
    ]
    clustering = apply_edits(clustering_of(START, outside="u"), made, IDS).clustering
    assert {c.id: "".join(c.members) for c in clustering.clusters} == {"C1": "pq", "C2": "s", "C4": "rt"}


def test_every_split_makes_a_cluster_of_its_own() -> None:
    made = [Edit(kind="split", clusters=("C1",), texts=(id,), name=f"only {id}") for id in "pq"]
    clustering = apply_edits(clustering_of({"a": "pqr", "b": "s"}), made, IDS[:4]).clustering
    assert {c.id: "".join(c.members) for c in clustering.clusters} == {
        "C1": "r",
        "C2": "s",
        "C3": "p",
        "C4": "q",
    }


def test_what_was_said_of_a_text_stays_unless_an_edit_says_more() -> None:
    made = [
        Edit(kind="move", clusters=("C3",), texts=("p",)),
        Edit(kind="move", clusters=("C3",), texts=("q", "u"), reason="moved"),
        Edit(kind="drop", texts=("r",), reason="dropped"),
        Edit(kind="drop", texts=("s",)),
    ]
    clustering = apply_edits(clustering_of(START, outside="u"), made, IDS).clustering
    said = {a.text_id: (a.reason, a.confidence) for a in clustering.assignments}
    assert said == {"p": ("why p", 0.5), "q": ("moved", 0.5), "t": ("why t", 0.5), "u": ("moved", None)}
    reasons = {text.text_id: text.reason for text in clustering.unassigned}
    assert reasons["r"] == "dropped"
    assert reasons["s"]


wordings = st.sampled_from(["", " ", "\n\t", "\x00", "same", " same\n", "same\x00", "other", "\u200b", "é"])


@QUICK
@given(st.lists(wordings | st.text(max_size=3), max_size=10), proposals)
def test_empty_and_equal_texts_get_their_place_back(contents: list[str], proposed: Proposal) -> None:
    inputs = [Text(id=f"t{n}", text=content) for n, content in enumerate(contents)]
    distinct = distinct_texts(inputs)
    wording = {text.id: text.text for text in distinct.texts}
    covered = spread(check_proposal(proposed, distinct.ids, wording).clustering, distinct)
    assert_exact_cover(covered, [text.id for text in inputs])
    normal = {text.id: " ".join(text.text.replace("\x00", " ").split()) for text in inputs}
    assert len({normal[id] for id in distinct.ids}) == len(distinct.ids)
    place = {assignment.text_id: assignment.cluster_id for assignment in covered.assignments}
    reason = {text.text_id: text.reason for text in covered.unassigned}
    by_wording: dict[str, set[str | None]] = {}
    for id, content in normal.items():
        by_wording.setdefault(content, set()).add(place.get(id))
        assert (reason.get(id) == EMPTY) == (content == "")
    assert all(len(places) == 1 for places in by_wording.values())


def test_an_equal_text_takes_over_confidence_and_reason() -> None:
    distinct = distinct_texts([Text(id="1", text="x"), Text(id="2", text=""), Text(id="3", text=" x ")])
    assert distinct.ids == ("1",)
    clustering = Clustering(
        clusters=(Cluster(id="C1", name="a", members=("1",)),),
        assignments=(Assignment(text_id="1", cluster_id="C1", confidence=0.7, reason="so"),),
    )
    covered = spread(clustering, distinct)
    assert covered.assignments[1] == Assignment(text_id="3", cluster_id="C1", confidence=0.7, reason="so")
    assert covered.clusters[0].members == ("1", "3")
    assert covered.unassigned == (Unassigned(text_id="2", reason=EMPTY),)


WORDS = ["refund", "parcel", "login", "crash", "thanks", "price", "😀", "12", "שלום", "x"]


@SLOW
@given(st.data())
def test_k_is_kept_wherever_there_are_texts_enough(data: st.DataObject) -> None:
    contents = data.draw(
        st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), min_size=1, max_size=9)
    )
    wording = {f"t{n}": f"{n}. {' '.join(words)}" for n, words in enumerate(contents)}
    ids = list(wording)
    labels = data.draw(st.lists(st.integers(0, 8), min_size=len(ids), max_size=len(ids)))
    start = clustering_of(
        {
            f"n{label}": [id for id, own in zip(ids, labels, strict=True) if own == label]
            for label in set(labels)
        }
    )
    low = data.draw(st.integers(1, len(ids)))
    k = KRange(low=low, high=data.draw(st.integers(low, 10)))
    clustering, notes = enforce_k(start, k, ids, wording)
    assert_exact_cover(clustering, ids)
    assert k.low <= len(clustering.clusters) <= k.high
    assert len(notes) == abs(len(clustering.clusters) - len(start.clusters))
    assert len({cluster.name for cluster in clustering.clusters}) == len(clustering.clusters)
    assert enforce_k(clustering, k, ids, wording) == (clustering, ())


def test_without_k_a_clustering_stays_as_it_is() -> None:
    start = clustering_of(START)
    assert enforce_k(start, None, IDS[:5], WORDING) == (start, ())


def test_texts_too_few_for_k_stay_one_to_a_cluster() -> None:
    start = clustering_of({"a": "p", "b": "q"})
    assert enforce_k(start, KRange(low=3, high=3), IDS[:2], WORDING) == (start, ())


def test_too_many_clusters_merge_by_likeness_and_say_so() -> None:
    wording = {
        "p": "late parcel delivery",
        "q": "parcel never came",
        "r": "cake with butter",
        "s": "bread with salt",
    }
    wording["t"] = "parcel delivery is late"
    start = clustering_of({"parcels": "pq", "baking": "rs", "lone": "t"})
    clustering, (note,) = enforce_k(start, KRange(low=1, high=2), "pqrst", wording)
    assert groups(clustering) == {"parcels": ("p", "q", "t"), "baking": ("r", "s")}
    assert "merged" in note
    assert "to keep k" in note


def test_texts_that_embed_alike_can_still_be_divided() -> None:
    wording = dict.fromkeys("pqr", "the same words")
    clustering, notes = enforce_k(clustering_of({"a": "pqr"}), KRange(low=3, high=3), "pqr", wording)
    assert [len(cluster.members) for cluster in clustering.clusters] == [1, 1, 1]
    assert len(notes) == 2


def test_a_text_moved_to_no_cluster_is_unassigned() -> None:
    start = clustering_of({"a": "pq", "b": "rs"})
    moved = apply_edits(start, [Edit(kind="move", clusters=("none",), texts=("p",))], IDS[:4])
    assert [outside.text_id for outside in moved.clustering.unassigned] == ["p"]
