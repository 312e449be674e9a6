"""Plays the roles of the clustering graphs, knowing the label of each text, with chosen errors.

What it answers depends on the prompt alone: the same prompt gives the same answer, and another reading of the
same text errs anew, `stubborn` texts aside. Wrong labels are drawn evenly from the others at hand (labels of
the batch, clusters of the taxonomy): a real model mixes up what is alike, which is harder to notice.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cluster_r1.agents.clustering.fitting import MARK
from cluster_r1.prompts.template import one_line
from cluster_r1.training.labelled import read_labelled

_WORDINGS = ("{}", "{} matters", "about {}")
_PARTS = ("{}, simple cases", "{}, other cases")
_BOTH = " / "
_TEXT = re.compile(r"^ *\[(\d+)\] (.*)$", re.MULTILINE)
_CLUSTER = re.compile(r"^(C\d+): (.*)$", re.MULTILINE)
_GROUP = re.compile(r"^(G\d+) \([^)]*\): (.*)$", re.MULTILINE)
_MOST_FINDINGS = 10
_MIXED_SHARE = 0.25  # of a cluster's texts that are read as a label without a cluster of its own,
_MIXED_LEAST = 3  # and how many at least, from which on the critic wants it split

Answer = dict[str, Any]
Meaning = tuple[str, ...]
"""The labels that a name says; none for a name that is not understood."""


@dataclass(frozen=True)
class CorpusLabeller:
    """From role and request to the answer.

    A proposer does not know how many labels there are; it names each in one of three wordings, so that names
    alone do not join the batches. A reconciler joins what means the same. A critic reports clusters that mean
    the same, and those that mix labels. A refiner leaves all as it is.

    Attributes:
        labels: of each text, by its wording.
        noise: share of the readings of texts that are wrong; also of the reconciler's groups that are left
            alone or joined to a wrong one, and of the critic's findings that are missed.
        stubborn: share of the noise that is the same in every reading of a text.
        slips: share of a batch's labels that the proposer splits in two or merges with another; None:
            `noise`.
        seed: of all errors.
    """

    labels: Mapping[str, str]
    noise: float = 0.0
    stubborn: float = 0.5
    slips: float | None = None
    seed: int = 0

    @classmethod
    def of_file(cls, path: Path, attribute: str, **options: Any) -> CorpusLabeller:
        """One that knows an attribute of a labelled file; labels are named as the attribute names them."""
        labelled = read_labelled(path)
        name = labelled.attributes[attribute].name
        rows = [row for row in labelled.rows if attribute in row.labels]
        return cls({one_line(row.text): name(row.labels[attribute]) for row in rows}, **options)

    def __call__(self, role: str, body: dict[str, Any]) -> Answer:
        """The answer of a role to a request."""
        prompt = body["messages"][1]["content"]
        roles = {
            "proposer": self._propose,
            "reconciler": self._reconcile,
            "assigner": self._assign,
            "critic": self._review,
        }
        return roles[role](prompt) if role in roles else {"edits": []}

    def label_of(self, text: str) -> str | None:
        """The true label of a text as prompts show it, shortened perhaps."""
        shown = one_line(text)
        if (label := self.labels.get(shown)) is not None:
            return label
        start = shown.partition(MARK.rstrip())[0]
        place = bisect_left(self._wordings, start)
        if place < len(self._wordings) and self._wordings[place].startswith(start):
            return self.labels[self._wordings[place]]
        return None

    def read(self, text: str, prompt: str, at_hand: Iterable[str]) -> str | None:
        """The label that a text is given in a prompt; None for an unknown text."""
        label = self.label_of(text)
        others = [other for other in at_hand if other != label]
        if label is None or not others:
            return label
        if self._chance("always", text) < self.noise * self.stubborn:
            return min(others, key=lambda other: self._chance("always", text, other))
        if self._chance("once", text, prompt) < self._fresh_noise:
            return min(others, key=lambda other: self._chance("once", text, prompt, other))
        return label

    @cached_property
    def _wordings(self) -> list[str]:
        return sorted(self.labels)

    @cached_property
    def _meanings(self) -> dict[str, str]:
        """The label of each name that one label can have."""
        names = sorted(set(self.labels.values()))
        return {
            wording.format(name).casefold(): name for wording in (*_PARTS, *_WORDINGS[::-1]) for name in names
        }

    @property
    def _fresh_noise(self) -> float:
        """Of the texts that are not always misread, the share that is in one reading."""
        always = self.noise * self.stubborn
        return (self.noise - always) / (1 - always) if always < 1 else 0.0

    def _chance(self, *parts: str) -> float:
        """A number in [0, 1) for these words."""
        words = "\x1f".join((str(self.seed), *parts)).encode()
        return int.from_bytes(hashlib.blake2b(words, digest_size=8).digest()) / 2**64

    def _one(self, options: Sequence[str], *parts: str) -> str:
        return options[int(self._chance("one", *parts) * len(options))]

    def _meaning(self, line: str) -> Meaning:
        """Of the line `name - description` of a cluster."""
        names = line.partition(" - ")[0].strip().casefold().split(_BOTH)
        return tuple(dict.fromkeys(self._meanings[name] for name in names if name in self._meanings))

    def _name(self, meaning: Meaning, prompt: str) -> str:
        if len(meaning) > 1:
            return _BOTH.join(meaning)
        return self._one(_WORDINGS, meaning[0], prompt).format(meaning[0])

    def _propose(self, prompt: str) -> Answer:
        texts = _texts(prompt)
        there = sorted({label for text in texts.values() if (label := self.label_of(text)) is not None})
        named = self._names_in_batch(there, prompt)
        said: dict[int, str] = {}
        for number, text in texts.items():
            if (label := self.read(text, prompt, there)) is not None:
                said[number] = self._one(named[label], text, prompt)
        ids = {name: f"C{number}" for number, name in enumerate(dict.fromkeys(said.values()), 1)}
        return {
            "criterion": "the label",
            "clusters": [{"id": id, "name": name, "description": ""} for name, id in ids.items()],
            "assignments": [_entry(number, ids.get(said.get(number, ""), "none")) for number in texts],
        }

    def _names_in_batch(self, there: Sequence[str], prompt: str) -> dict[str, Sequence[str]]:
        """For each label the names of its clusters: one, two where it is split, another's where merged."""
        slips = self.noise if self.slips is None else self.slips
        named: dict[str, Sequence[str]] = {}
        for label in there:
            if label in named:
                continue
            chance = self._chance("slip", label, prompt)
            whole = [other for other in there if other != label and other not in named]
            if chance < slips / 2:
                named[label] = [part.format(label) for part in _PARTS]
            elif chance < slips and whole:
                other = self._one(whole, "merged", label, prompt)
                named[label] = named[other] = (self._name((label, other), prompt),)
            else:
                named[label] = (self._name((label,), prompt),)
        return named

    def _reconcile(self, prompt: str) -> Answer:
        groups = dict(_GROUP.findall(_data(prompt)))
        meanings = {id: self._meaning(line) for id, line in groups.items()}
        single = {meaning[0] for meaning in meanings.values() if len(meaning) == 1}
        right = {id: self._home(id, meaning, single, prompt) for id, meaning in meanings.items()}
        homes = sorted(set(filter(None, right.values())))
        joined: dict[Meaning, list[str]] = {}
        alone: list[str] = []
        for id, home in right.items():
            chance = self._chance("join", id, prompt)
            others = [other for other in homes if other != home]
            if not home or chance < self.noise / 2:
                alone.append(id)
            elif chance < self.noise and others:
                wrong = others[int(self._chance("wrong", id, prompt) * len(others))]
                joined.setdefault(wrong, []).append(id)
            else:
                joined.setdefault(home, []).append(id)
        categories = [(self._name(home, prompt), ids) for home, ids in joined.items()]
        categories += [(groups[id].partition(" - ")[0], [id]) for id in alone]
        return {
            "reason": "one for each label",
            "categories": [{"name": name, "description": "", "groups": ids} for name, ids in categories],
        }

    def _home(self, id: str, meaning: Meaning, single: set[str], prompt: str) -> Meaning:
        """The category a group belongs in; one of two labels goes to either, if both have groups."""
        if len(meaning) < 2:
            return meaning
        if single.issuperset(meaning):
            return (self._one(meaning, "home", id, prompt),)
        return tuple(sorted(meaning))

    def _assign(self, prompt: str) -> Answer:
        names = dict(_CLUSTER.findall(prompt.partition("<texts>")[0]))
        clusters = self._clusters_by_label(names)
        entries = []
        for number, text in _texts(prompt).items():
            label = self.read(text, prompt, clusters)
            fitting = clusters.get(label or "", ["none"])
            # by name: the same clusters in another order, under other ids, divide the texts alike
            chosen = min(fitting, key=lambda id: self._chance("among", text, names.get(id, "")))
            entries.append(_entry(number, chosen))
        return {"assignments": entries}

    def _clusters_by_label(self, names: Mapping[str, str]) -> dict[str, list[str]]:
        """Clusters that mean each label; those that mean another as well only where there is no other."""
        exact: dict[str, list[str]] = {}
        mixed: dict[str, list[str]] = {}
        for id, line in names.items():
            meaning = self._meaning(line)
            for label in meaning:
                (exact if len(meaning) == 1 else mixed).setdefault(label, []).append(id)
        return mixed | exact

    def _review(self, prompt: str) -> Answer:
        shown = _CLUSTER.split(_data(prompt))[1:]
        clusters = {
            id: (self._meaning(line), _texts_in(texts))
            for id, line, texts in zip(shown[::3], shown[1::3], shown[2::3], strict=True)
        }
        findings = [*self._same(clusters, prompt), *self._mixed(clusters, prompt)]
        seen = [found for found in findings if self._chance("seen", *found["clusters"], prompt) >= self.noise]
        return {
            "findings": seen[:_MOST_FINDINGS],
            "score": 60 if seen else 90,
            "verdict": "revise" if seen else "accept",
        }

    def _same(self, clusters: Mapping[str, tuple[Meaning, dict[int, str]]], prompt: str) -> list[Answer]:
        by_label: dict[str, list[str]] = {}
        for id, (meaning, _) in clusters.items():
            if len(meaning) == 1:
                by_label.setdefault(meaning[0], []).append(id)
        return [
            {"kind": "merge", "clusters": ids, "texts": [], "comment": f"all mean {label}"}
            for label, ids in by_label.items()
            if len(ids) > 1
        ]

    def _mixed(self, clusters: Mapping[str, tuple[Meaning, dict[int, str]]], prompt: str) -> list[Answer]:
        """Clusters whose name says two labels, or that hold many texts of one that has no cluster."""
        single = {meaning[0] for meaning, _ in clusters.values() if len(meaning) == 1}
        known = sorted(set(self.labels.values()))
        findings = []
        for id, (meaning, texts) in clusters.items():
            said = {number: self.read(text, prompt, known) for number, text in texts.items()}
            many = max(_MIXED_LEAST, _MIXED_SHARE * len(texts))
            homeless = [n for n, count in Counter(said.values()).items() if n not in single and count >= many]
            other = [label for label in (*meaning[1:], *homeless) if label is not None][:1]
            if meaning and other and other[0] != meaning[0]:
                numbers = [number for number, label in said.items() if label == other[0]]
                comment = f"{other[0]} is not {meaning[0]}"
                findings.append({"kind": "split", "clusters": [id], "texts": numbers, "comment": comment})
        return findings


def _entry(number: int, cluster: str) -> Answer:
    return {"text": number, "reason": "as it says", "cluster": cluster, "confidence": 0.9}


def _data(prompt: str) -> str:
    return prompt.partition("<texts>")[2].rpartition("</texts>")[0]


def _texts(prompt: str) -> dict[int, str]:
    """Texts by their number."""
    return _texts_in(_data(prompt))


def _texts_in(lines: str) -> dict[int, str]:
    return {int(number): text for number, text in _TEXT.findall(lines)}
