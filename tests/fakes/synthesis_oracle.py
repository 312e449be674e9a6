"""Plays the roles of the synthesis graph, knowing the labels of a set, with chosen noise and manners.

It recognises a text by its wording and an instruction by being one of its attributes' own. What it answers
depends on the request alone (and the sample's seed), so that a run that is repeated comes to the same.
The criterion of each draft ends with `#good`, `#mislabelled`, `#leaking`, `#trivial` or `#duplicate`: what it
is in truth, for whoever counts; no check of the graph looks at it.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster_r1.metrics import adjusted_mutual_info
from cluster_r1.prompts.template import one_line
from cluster_r1.training.labelled import LabelledSet, read_labelled

_LINE = re.compile(r"^\[(\d+)\] (.*)$", re.MULTILINE)
_ORDER = re.compile(r"^\[(\d+)\]$", re.MULTILINE)
_QUOTED_WORDS = 4
_UNRELATED = 0.2  # AMI below which labels of one attribute are wrong for another

Answer = dict[str, Any]


@dataclass(frozen=True)
class SynthesisOracle:
    """From role and request to the answer.

    Attributes:
        labels: of each wording, by attribute.
        wordings: instructions of each attribute, none of which names its categories.
        topical: attributes that are what the texts are about.
        noise: share of the generator's labels that are wrong.
        reader_noise: share of the labels of blind readers and of the teacher that are.
        bad: share of the drafts that are of the manner's bad kind.
        manner: `mislabelled` (labels of another attribute), `leaking` (the instruction names its categories,
            written texts name their label), `trivial` (what texts are about), `duplicate` (the same again).
        least, most: clusters of a draft.
    """

    labels: Mapping[str, Mapping[str, str]]
    wordings: Mapping[str, Sequence[str]]
    topical: frozenset[str] = frozenset()
    noise: float = 0.0
    reader_noise: float = 0.0
    bad: float = 0.0
    manner: str = "mislabelled"
    least: int = 2
    most: int = 20

    @classmethod
    def of_file(cls, path: Path, **options: Any) -> SynthesisOracle:
        """An oracle that knows a labelled file."""
        return cls.of_set(read_labelled(path), **options)

    @classmethod
    def of_set(cls, labelled: LabelledSet, **options: Any) -> SynthesisOracle:
        """An oracle that knows a labelled set; labels are named as the set's attributes name them."""
        attributes = labelled.attributes
        return cls(
            labels={
                one_line(row.text): {name: attributes[name].name(label) for name, label in row.labels.items()}
                for row in labelled.rows
            },
            wordings={name: attribute.instructions for name, attribute in attributes.items()},
            topical=frozenset(name for name, attribute in attributes.items() if attribute.topical),
            **options,
        )

    def __call__(self, role: str, body: dict[str, Any]) -> Answer:
        """The answer of a role to a request."""
        prompt = body["messages"][1]["content"]
        seed = hashlib.sha256(json.dumps([prompt, body.get("seed", 0)]).encode()).digest()
        chance = random.Random(seed)
        roles = {
            "generator": self._generate,
            "designer": self._design,
            "writer": self._write,
            "verifier": self._read,
            "proposer": self._teach,
        }
        if role in roles:
            return roles[role](prompt, chance)
        verdict = {"findings": [], "same_as": 0, "harmful": False, "personal": False, "verdict": "accept"}
        return dict.fromkeys(("clarity", "ambiguity", "leakage", "triviality", "usefulness"), 5) | verdict

    def _generate(self, prompt: str, chance: random.Random) -> Answer:
        texts = _texts(prompt)
        kind = self.manner if chance.random() < self.bad else "good"
        attribute = self._choose(kind, texts, prompt, chance)
        named = {number: self.labels[text][attribute] for number, text in texts.items()}
        instruction = chance.choice(list(self.wordings[attribute]))
        if kind == "mislabelled":
            named = self._of_another(attribute, texts, chance)
        if kind == "leaking":
            instruction = f"{instruction.rstrip('.?')}: {', '.join(sorted(set(named.values())))}"
        named = _blurred(named, self.noise, chance)
        ids = {name: f"C{number}" for number, name in enumerate(dict.fromkeys(named.values()), 1)}
        return {
            "instruction": instruction,
            "criterion": f"{attribute.replace('_', ' ')} #{kind}",
            "categories": [{"id": id, "name": name, "definition": ""} for name, id in ids.items()],
            "labels": [
                {"text": n, "evidence": " ".join(texts[n].split()[:_QUOTED_WORDS]), "category": ids[name]}
                for n, name in named.items()
            ],
        }

    def _choose(self, kind: str, texts: Mapping[int, str], prompt: str, chance: random.Random) -> str:
        """An attribute that divides the texts and was not asked for yet, if there is one."""
        asked = prompt.partition("Not again")[2]
        dividing = [name for name in self.wordings if self._divides(name, texts.values())]
        fresh = [name for name in dividing if not any(wording in asked for wording in self.wordings[name])]
        if kind == "duplicate":
            return (sorted(set(dividing) - self.topical) or sorted(dividing) or list(self.wordings))[0]
        if kind == "trivial":
            dividing = fresh = [name for name in dividing if name in self.topical]
        else:
            fresh = [name for name in fresh if name not in self.topical] or fresh
        return chance.choice(fresh or dividing or list(self.wordings))

    def _divides(self, attribute: str, texts: Any) -> bool:
        found = Counter(self.labels[text].get(attribute) for text in texts)
        return None not in found and self.least <= len(found) <= min(self.most, len(list(texts)) // 2)

    def _of_another(self, attribute: str, texts: Mapping[int, str], chance: random.Random) -> dict[int, str]:
        right = [self.labels[text][attribute] for text in texts.values()]
        others = [
            name
            for name in self.wordings
            if name != attribute
            and self._divides(name, texts.values())
            and adjusted_mutual_info(right, [self.labels[t][name] for t in texts.values()]) < _UNRELATED
        ]
        if others:
            other = chance.choice(others)
            return {number: self.labels[text][other] for number, text in texts.items()}
        chance.shuffle(right)
        return dict(zip(texts, right, strict=True))

    def _read(self, prompt: str, chance: random.Random) -> Answer:
        named = self._blind(prompt, chance)
        ids = {name: f"G{number}" for number, name in enumerate(dict.fromkeys(named.values()), 1)}
        return {
            "groups": [{"id": id, "name": f"group {id}"} for id in ids.values()],
            "labels": [{"text": n, "group": ids[name], "doubtful": False} for n, name in named.items()],
        }

    def _teach(self, prompt: str, chance: random.Random) -> Answer:
        named, texts = self._blind(prompt, chance), _texts(prompt)
        ids = {name: f"C{number}" for number, name in enumerate(dict.fromkeys(named.values()), 1)}
        lines = (f"[{n}] {' '.join(texts[n].split()[:_QUOTED_WORDS])}: {name}" for n, name in named.items())
        return {
            "reasoning": "Each text for itself.\n" + "\n".join(lines),
            "criterion": "what is asked",
            "clusters": [{"id": id, "name": name, "description": ""} for name, id in ids.items()],
            "assignments": [
                {"text": n, "reason": "as it says", "cluster": ids[name], "confidence": 0.9}
                for n, name in named.items()
            ],
        }

    def _blind(self, prompt: str, chance: random.Random) -> dict[int, str]:
        """What a reader who knows the instruction alone says; of an unknown one nothing but chance."""
        texts = _texts(prompt)
        asked = prompt.partition("Instruction: ")[2].partition("\n")[0]
        attribute = next(
            (name for name, known in self.wordings.items() if any(w.rstrip(".?") in asked for w in known)),
            None,
        )
        if attribute is None:
            return {number: chance.choice("abc") for number in texts}
        named = {number: self.labels[text].get(attribute, "unlabelled") for number, text in texts.items()}
        return _blurred(named, self.reader_noise, chance)

    def _design(self, prompt: str, chance: random.Random) -> Answer:
        """Attributes whose combinations there are texts for."""
        wanted = int(re.findall(r"Plan (\d+) properties", prompt)[0])
        names = sorted(set(self.wordings) - self.topical) or sorted(self.wordings)
        chosen = chance.sample(names, min(wanted, len(names)))
        kind = self.manner if self.manner == "leaking" and chance.random() < self.bad else "good"
        properties = []
        for name in chosen:
            values = sorted({labels[name] for labels in self.labels.values() if name in labels})
            properties.append(
                {
                    "instruction": chance.choice(list(self.wordings[name])),
                    "criterion": f"{name.replace('_', ' ')} #{kind}",
                    "categories": [{"name": value, "definition": ""} for value in values],
                }
            )
        return {"properties": properties}

    def _write(self, prompt: str, chance: random.Random) -> Answer:
        """Texts of the set that have the first value; leaking ones name their values."""
        orders = _ORDER.split(prompt)[1:]
        texts = []
        for number, order in zip(orders[::2], orders[1::2], strict=True):
            values = re.findall(r"^  (.+?) #(\w+): (.+)$", order, re.MULTILINE)
            wanted = {criterion.replace(" ", "_"): value for criterion, _, value in values}
            text = self._with(wanted, chance)
            if any(kind == "leaking" for _, kind, _ in values):
                text = f"{text} ({', '.join(wanted.values())})"
            texts.append({"number": int(number), "text": text})
        return {"texts": texts}

    def _with(self, wanted: Mapping[str, str], chance: random.Random) -> str:
        """A text that has as many of the values as can be had."""
        known = list(self.labels)
        chance.shuffle(known)
        return max(known, key=lambda text: sum(self.labels[text].get(n) == v for n, v in wanted.items()))


def _texts(prompt: str) -> dict[int, str]:
    """Texts by their number."""
    block = prompt.partition("<texts>")[2].rpartition("</texts>")[0]
    return {int(number): text for number, text in _LINE.findall(block)}


def _blurred(named: Mapping[int, str], noise: float, chance: random.Random) -> dict[int, str]:
    """Labels of which a share is another of the same labels, drawn at random."""
    names = sorted(set(named.values()))
    return {
        number: chance.choice([other for other in names if other != name] or [name])
        if chance.random() < noise
        else name
        for number, name in named.items()
    }
