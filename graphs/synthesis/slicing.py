"""Where slices come from: corpora whose texts are kept apart by split, domains without texts, and drawing."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cluster_r1.agents.models.static_embedder import embed
from cluster_r1.agents.synthesis.draft import Form
from cluster_r1.columns import without_surrogates
from cluster_r1.errors import InputError
from cluster_r1.graphs.synthesis.config import SPLITS, Split, Splitting, SynthesisConfig
from cluster_r1.types import Record, Text

_GOLDEN = (5**0.5 - 1) / 2
_DECIMALS = 5  # of cosines: the last bits of a matrix product decide nothing
MOST_TEXTS = 100_000  # of a corpus that slices are drawn from; their embeddings take 1 kB each


@dataclass(frozen=True)
class Source:
    """A corpus, or a domain in words for which texts are to be written (then there are no texts).

    Attributes:
        name: as tasks call their corpus; unique.
        texts: of the corpus.
        domain: the domain in words; empty for a corpus.
        licence: of the texts; recorded in every task.
        origin: where they come from; recorded in the card.
        sha256: of what was read.
        warnings: about what was read.
    """

    name: str
    texts: tuple[Text, ...] = ()
    domain: str = ""
    licence: str = "unknown"
    origin: str = ""
    sha256: str = ""
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Make the name fit for ids, tables and files."""
        name = re.sub(r"[\s|/\\]+", "-", without_surrogates(self.name).strip()).strip("-")
        object.__setattr__(self, "name", "".join(filter(str.isprintable, name)) or "texts")


class Slice(Record):
    """What one slice is to be: drawn from the source's name, the slice's number and the seed alone.

    Attributes:
        source: name of the source.
        number: of the slice within its source, from 0.
        split: where its tasks go.
        texts: drawn of the corpus; empty where they are to be written.
        size: how many texts are wanted.
        k: how many clusters are asked for.
        angles: a kind of property for each attempt.
        form: how the instructions are worded, for each attempt.
        licence: of the texts.
    """

    source: str
    number: int
    split: Split
    texts: tuple[Text, ...]
    size: int
    k: int
    angles: tuple[str, ...]
    forms: tuple[Form, ...]
    domain: str = ""
    licence: str = "unknown"


@dataclass
class _Pool:
    """The texts of one split of a corpus, and their embeddings once they are needed."""

    texts: tuple[Text, ...]
    _vectors: NDArray[np.float32] | None = field(default=None, repr=False)

    @property
    def vectors(self) -> NDArray[np.float32]:
        if self._vectors is None:
            self._vectors = embed([text.text for text in self.texts])
        return self._vectors


class SliceStore:
    """Keeps the texts, so that the graph's state need not, and draws slices from them.

    Args:
        sources: corpora and domains.
        config: sizes, shares and seed.

    Raises:
        InputError: two sources share a name, a corpus has too few different texts, or a name is unknown.
    """

    def __init__(self, sources: Sequence[Source], config: SynthesisConfig) -> None:
        repeated = [name for name, count in Counter(source.name for source in sources).items() if count > 1]
        if repeated:
            raise InputError(f"two corpora are called {repeated[0]!r}. Rename one")
        if not sources:
            raise InputError("there is nothing to make tasks of: name a corpus or a domain")
        self.sources = {source.name: source for source in sources}
        if unknown := [name for name in config.split.corpora if name not in self.sources]:
            raise InputError(
                f"split.corpora names {unknown[0]!r}, which is no source: {', '.join(self.sources)}"
            )
        self.notes = [f"{source.name}: {warning}" for source in sources for warning in source.warnings]
        self._config = config
        self._pools: dict[str, dict[Split, _Pool]] = {}
        seen: set[str] = set()
        for source in sources:
            if not source.domain:
                self._pools[source.name] = self._divide(source, seen)

    def slice(self, name: str, number: int) -> Slice:
        """The slice of this number: always the same for the same texts and configuration."""
        config, source = self._config, self.sources[name]
        random = random_of(name, number, config.seed)
        split = self._split_of(name, number)
        pool = self._pools[name][split] if name in self._pools else None
        size = _log_uniform(random, *config.texts)
        if pool is not None:
            size = min(size, len(pool.texts))
        k = _log_uniform(random, config.k[0], max(config.k[0], min(config.k[1], size // 2)))
        texts = () if pool is None else self._draw(pool, size, random)
        count = config.instructions_a_slice
        return Slice(
            source=name,
            number=number,
            split=split,
            texts=texts,
            size=size,
            k=k,
            angles=_angles(config.angles, count, random),
            forms=_forms(config.forms, count, random),
            domain=source.domain,
            licence=source.licence,
        )

    def divided(self) -> Iterator[tuple[Split, Text]]:
        """All texts that slices may be drawn from, with their splits."""
        for pools in self._pools.values():
            for split, pool in pools.items():
                yield from ((split, text) for text in pool.texts)

    def _draw(self, pool: _Pool, size: int, random: np.random.Generator) -> tuple[Text, ...]:
        """Texts around one: of n, the nearest size^(1-d) n^d are drawn from, d being the diversity."""
        total = len(pool.texts)
        diversity = random.uniform(*self._config.diversity)
        around = random.integers(total)
        reach = min(total, max(size, round(size ** (1 - diversity) * total**diversity)))
        near: NDArray[np.intp] = np.arange(total)
        if reach < total:
            closeness = np.round(pool.vectors @ pool.vectors[around], _DECIMALS)
            near = np.argsort(-closeness, kind="stable")[:reach]
        chosen = random.choice(near, size=size, replace=False)
        return tuple(pool.texts[position] for position in chosen)

    def _divide(self, source: Source, seen: set[str]) -> dict[Split, _Pool]:
        """The different texts of a corpus by split; what an earlier corpus had already is left out."""
        if len({text.id for text in source.texts}) < len(source.texts):
            raise InputError(f"several texts of {source.name} have the same id. Give each its own")
        texts = _different(source.texts, seen)
        if left_out := len(source.texts) - len(texts):
            self.notes.append(f"{source.name}: {left_out} empty or repeated texts left out")
        if len(texts) > MOST_TEXTS:
            texts = sorted(texts, key=lambda text: _rank(text, self._config.seed))[:MOST_TEXTS]
            self.notes.append(f"{source.name}: slices are drawn from {MOST_TEXTS:,} of its texts")
        least = self._config.texts[0]
        if len(texts) < least:
            raise InputError(
                f"{source.name} has {len(texts)} different texts, and a slice needs {least}: give more, or "
                "set a lower `texts` in the configuration"
            )
        whole = self._config.split.corpora.get(source.name)
        if whole is not None:
            return {whole: _Pool(tuple(texts))}
        if self._config.split.corpora:
            return {"train": _Pool(tuple(texts))}
        return self._by_share(source.name, texts)

    def _by_share(self, name: str, texts: Sequence[Text]) -> dict[Split, _Pool]:
        shares, least = _shares(self._config.split), self._config.texts[0]
        ranked = sorted(texts, key=lambda text: _rank(text, self._config.seed))
        ends = [round(len(ranked) * sum(list(shares.values())[: place + 1])) for place in range(len(shares))]
        parts = {
            split: ranked[start:end] for split, start, end in zip(shares, [0, *ends[:-1]], ends, strict=True)
        }
        small = [split for split in parts if len(parts[split]) < least]
        if small:
            self.notes.append(
                f"{name} is too small to hold out texts for {' and '.join(small)}: {len(texts)} texts, and a "
                f"slice needs {least}"
            )
        if "train" in small:  # then there is nothing to keep apart
            return {"train": _Pool(tuple(ranked))}
        return {split: _Pool(tuple(part)) for split, part in parts.items() if split not in small}

    def _split_of(self, name: str, number: int) -> Split:
        """The split of a slice. Multiples of the golden ratio spread evenly: shares hold from early on."""
        split = self._config.split
        if split.corpora:
            return split.corpora.get(name, "train")
        there = self._pools.get(name, dict.fromkeys(SPLITS))
        shares = {part: share for part, share in _shares(split).items() if part in there}
        place = (number + 0.5) * _GOLDEN % 1.0 * sum(shares.values())
        for part, share in shares.items():
            place -= share
            if place < 0:
                return part
        return "train"


def _shares(split: Splitting) -> dict[Split, float]:
    shares: dict[Split, float] = {
        "train": 1 - split.validation - split.test,
        "validation": split.validation,
        "test": split.test,
    }
    return {part: share for part, share in shares.items() if share}


def _different(texts: Sequence[Text], seen: set[str]) -> list[Text]:
    """The texts whose wording, white space aside, was not seen before."""
    kept = []
    for text in texts:
        wording = " ".join(text.text.split())
        if wording and wording not in seen:
            seen.add(wording)
            kept.append(text)
    return kept


def _rank(text: Text, seed: int) -> bytes:
    """An order that says nothing of the texts, and does not change when others are added."""
    return hashlib.sha256(f"{seed}\x1f{text.text}".encode("utf-8", "replace")).digest()


def random_of(source: str, number: int, seed: int, purpose: str = "slice") -> np.random.Generator:
    """The random numbers of one slice, whatever else is drawn."""
    named = hashlib.sha256(f"{purpose}\x1f{source}".encode("utf-8", "replace")).digest()
    return np.random.default_rng([seed, int.from_bytes(named[:8]), number])


def _log_uniform(random: np.random.Generator, low: int, high: int) -> int:
    """A whole number from low to high, both included."""
    return min(high, int(math.exp(random.uniform(math.log(low), math.log(high + 1)))))


def _angles(angles: Sequence[str], count: int, random: np.random.Generator) -> tuple[str, ...]:
    """So many kinds, none twice before all were there."""
    order: list[int] = []
    while len(order) < count:
        order += [int(position) for position in random.permutation(len(angles))]
    return tuple(angles[position] for position in order[:count])


def _forms(weights: Mapping[Form, float], count: int, random: np.random.Generator) -> tuple[Form, ...]:
    names = sorted(weights)
    total = sum(weights.values())
    shares = [weights[name] / total for name in names]
    return tuple(names[int(position)] for position in random.choice(len(names), size=count, p=shares))
