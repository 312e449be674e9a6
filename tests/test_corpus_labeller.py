"""The simulated labeller: as noisy as it is asked to be, equal for equal prompts, right without noise."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster_r1 import ClusteringAgent
from cluster_r1.agents.clustering.assigner import Assigner, AssignerInput
from cluster_r1.agents.clustering.critic import Critic, CriticInput
from cluster_r1.agents.clustering.fitting import MARK
from cluster_r1.agents.clustering.grouping_view import Group, GroupingView, NumberedText
from cluster_r1.agents.clustering.proposer import ProposedCluster, Proposer, ProposerInput
from cluster_r1.agents.clustering.reconciler import FoundGroup, Reconciler, ReconcilerInput
from cluster_r1.metrics import adjusted_mutual_info
from cluster_r1.prompts import Message
from cluster_r1.prompts.template import one_line
from tests.fakes.corpus_labeller import CorpusLabeller
from tests.fakes.openai_server import FakeOpenAI

LABELS = ("late", "broken", "billing", "praise", "log in")
INSTRUCTION = "by problem"


def labelled(count: int) -> dict[str, str]:
    """Made-up texts, whose words do not say their label."""
    chance = random.Random(0)
    words = [f"word{number}" for number in range(300)]
    return {f"{' '.join(chance.choices(words, k=9))} {n}": LABELS[n % len(LABELS)] for n in range(count)}


def asked(labeller: CorpusLabeller, role: str, messages: Sequence[Message]) -> dict[str, Any]:
    return labeller(role, {"messages": [{"content": message.content} for message in messages]})


def sorted_by(labeller: CorpusLabeller, texts: Sequence[str]) -> list[str]:
    """The labels that the assigner gives, each under its own cluster."""
    clusters = tuple(ProposedCluster(id=f"C{n}", name=name) for n, name in enumerate(LABELS, 1))
    given = AssignerInput(instruction=INSTRUCTION, clusters=clusters, texts=tuple(texts))
    answer = json.dumps(asked(labeller, "assigner", Assigner().render(given)))
    names = {cluster.id: cluster.name for cluster in clusters}
    return [names.get(placed.cluster, "none") for placed in Assigner().parse(answer, given).placements]


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.15])
@pytest.mark.parametrize("stubborn", [0.0, 0.5, 1.0])
def test_readings_are_as_wrong_as_asked_for(noise: float, stubborn: float) -> None:
    truth = labelled(4000)
    labeller = CorpusLabeller(truth, noise=noise, stubborn=stubborn)
    texts = list(truth)
    batches = [texts[start : start + 100] for start in range(0, len(texts), 100)]
    wrong = [
        said != truth[text]
        for batch in batches
        for text, said in zip(batch, sorted_by(labeller, batch), strict=True)
    ]
    again = {
        text: said != truth[text]
        for batch in batches
        for text, said in zip(batch[::-1], sorted_by(labeller, batch[::-1]), strict=True)
    }
    assert sum(wrong) / len(texts) == pytest.approx(noise, abs=0.015)
    both = sum(one and again[text] for text, one in zip(texts, wrong, strict=True)) / len(texts)
    always = noise * stubborn
    fresh = (noise - always) / (1 - always)
    assert both == pytest.approx(always + (1 - always) * fresh**2, abs=0.012)


def test_the_same_prompt_gets_the_same_answer() -> None:
    truth = labelled(100)
    given = Proposer().render(ProposerInput(instruction=INSTRUCTION, texts=tuple(truth)))
    answers = [asked(CorpusLabeller(truth, noise=0.2), "proposer", given) for _ in range(2)]
    other = asked(CorpusLabeller(truth, noise=0.2, seed=1), "proposer", given)
    assert answers[0] == answers[1] != other


def test_a_proposer_slips_in_some_labels_of_a_batch() -> None:
    truth = labelled(50)
    given = Proposer().render(ProposerInput(instruction=INSTRUCTION, texts=tuple(truth)))
    counts = set()
    for seed in range(40):
        labeller = CorpusLabeller(truth, slips=0.3, seed=seed)
        answer = asked(labeller, "proposer", given)
        counts.add(len(answer["clusters"]))
    assert min(counts) < len(LABELS) < max(counts)


def test_groups_are_joined_by_what_their_names_mean() -> None:
    names = ("late", "about late", "broken matters", "log in / broken", "log in", "Broken, simple cases")
    groups = tuple(FoundGroup(id=f"G{n}", name=name, texts=3) for n, name in enumerate(names, 1))
    given = ReconcilerInput(instruction=INSTRUCTION, groups=groups)
    labeller = CorpusLabeller(labelled(50))
    answer = asked(labeller, "reconciler", Reconciler().render(given))
    joined = Reconciler().parse(json.dumps(answer), given)
    parts = sorted(sorted(set(category.groups) - {"G4"}) for category in joined.categories)
    assert parts == [["G1", "G2"], ["G3", "G6"], ["G5"]]
    noisy = asked(CorpusLabeller(labelled(50), noise=1.0), "reconciler", Reconciler().render(given))
    assert noisy != answer


def test_a_text_without_its_cluster_goes_nowhere() -> None:
    truth = labelled(50)
    clusters = (
        ProposedCluster(id="C1", name="about late"),
        ProposedCluster(id="C2", name="billing / praise"),
    )
    given = AssignerInput(instruction=INSTRUCTION, clusters=clusters, texts=tuple(truth))
    answer = asked(CorpusLabeller(truth), "assigner", Assigner().render(given))
    said = [entry["cluster"] for entry in answer["assignments"]]
    expected = {"late": "C1", "billing": "C2", "praise": "C2"}
    assert said == [expected.get(label, "none") for label in truth.values()]


def test_two_clusters_of_one_label_divide_its_texts_alike_in_any_order() -> None:
    truth = labelled(100)
    texts = tuple(text for text, label in truth.items() if label == "late")
    said = []
    for names in (("late", "about late"), ("about late", "late")):
        clusters = tuple(ProposedCluster(id=f"C{n}", name=name) for n, name in enumerate(names, 1))
        given = AssignerInput(instruction=INSTRUCTION, clusters=clusters, texts=texts)
        answer = asked(CorpusLabeller(truth), "assigner", Assigner().render(given))
        name_of = {cluster.id: cluster.name for cluster in clusters}
        said.append([name_of[entry["cluster"]] for entry in answer["assignments"]])
    assert said[0] == said[1]
    assert set(said[0]) == {"late", "about late"}


def test_a_critic_sees_what_is_twice_there_and_what_is_mixed() -> None:
    texts = list(labelled(50))
    named = {"C1": "late", "C2": "about late", "C3": "broken / billing", "C4": "praise"}
    held = {"C1": texts[0:10:5], "C2": texts[10:20:5], "C3": [*texts[1:30:5], *texts[2:30:5]]}
    held["C4"] = [*texts[3:30:5], *texts[4:30:5]]  # praise, and log in, which has no cluster
    shown = [text for group in held.values() for text in group]
    groups = tuple(
        Group(
            id=id,
            name=named[id],
            description="",
            texts=tuple(NumberedText(number=shown.index(text) + 1, text=text) for text in group),
        )
        for id, group in held.items()
    )
    view = GroupingView(groups=groups, ids=tuple(map(str, range(len(shown)))))
    given = CriticInput(instruction=INSTRUCTION, view=view)
    labeller = CorpusLabeller(labelled(50))
    critique = Critic().parse(json.dumps(asked(labeller, "critic", Critic().render(given))), given)
    found = [(finding.kind, finding.clusters, len(finding.texts)) for finding in critique.findings]
    assert found == [("merge", ("C1", "C2"), 0), ("split", ("C3",), 6), ("split", ("C4",), 6)]
    assert critique.verdict == "revise"
    deaf = CorpusLabeller(labelled(50), noise=1.0)
    assert asked(deaf, "critic", Critic().render(given))["verdict"] == "accept"


def test_shortened_texts_are_known() -> None:
    labeller = CorpusLabeller({one_line("a long complaint about a parcel <b> that never came"): "late"})
    assert labeller.label_of("a long complaint about a parcel <b> that never came") == "late"
    assert labeller.label_of(f"a long compl{MARK}came") == "late"
    assert labeller.label_of("a long comp") == "late"
    assert labeller.label_of("something else") is None


def test_a_corpus_is_grouped_without_noise_as_it_is_labelled(server: FakeOpenAI, tmp_path: Path) -> None:
    truth = labelled(600)
    file = tmp_path / "made_up.jsonl"
    rows = (
        {"id": str(number), "text": text, "labels": {"problem": label}}
        for number, (text, label) in enumerate(truth.items())
    )
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    oracle = {"file": str(file), "attribute": "problem", "noise": 0.0}
    httpx.post(server.url.replace("/v1", "/oracle"), json=oracle).raise_for_status()
    result = ClusteringAgent(server.spec, cache=False).cluster(list(truth), INSTRUCTION)
    assert result.info.corpus is not None
    assert result.n_clusters == len(LABELS)
    assert adjusted_mutual_info(list(truth.values()), result.labels.tolist()) == pytest.approx(1.0)
