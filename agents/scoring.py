"""What a scorer's states say of texts: who belongs together, in how many groups, under which label.

Everything here is relative to the batch: the mean over its texts is taken away first, since a model likes
some words whatever it reads (contextual calibration after Zhao et al., arXiv 2102.09690, with the batch for
the content-free input).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cluster_r1.agents.models.agglomerative import by_size, cluster_embeddings
from cluster_r1.agents.models.static_embedder import unit_rows

Floats = NDArray[np.float32]
Labels = NDArray[np.intp]

MOST_GROUPS = 25  # that are tried where k is left open

_TOPICAL = 0.3  # correlation of states and words from which on the question seems to be about the topic
_TOPIC_GAIN = 3.0  # how fast the words' weight then rises
# A question counts as one about the topic where words weigh more than the first; then they weigh so much
# more again, and merges stop at this mean cosine.
_ABOUT_TOPIC, _MORE_WORDS, _TOPIC_GAMMA = 0.3, 1.5, 0.08
_PRICE = 0.3  # of a pair in a group, in units of the squared nearness of neighbours
_NEIGHBOURS = 12  # a text is compared with this fraction of the others: its nearest twelfth
_FEWEST_COMPONENTS = 5  # k groups lie in k - 1 dimensions; the rest is mostly noise
_ROUNDS = 10  # of the label model; it hardly moves after five
_RUNS = 5  # of k-means for each k
_SAMPLED = 1_000  # texts whose pairs are compared


def label_scores(states: Floats, labels: Floats, usual: Floats | None = None) -> Floats:
    """How much better each label fits a text than it fits texts at large: shape (texts, labels).

    Args:
        states: shape (texts, width), as of `ScorerModel.states`.
        labels: shape (labels, width), as of `ScorerModel.label_vectors`.
        usual: the state behind texts at large, shape (width,); the mean of these states if not given.
    """
    scores: Floats = (states - (states.mean(axis=0) if usual is None else usual)) @ labels.T
    return scores


def topic_weight(states: Floats, words: Floats) -> float:
    """How much word embeddings should count beside states, in [0, 1].

    Embeddings know topics and nothing else, so they count as far as the states agree with them: where the
    same pairs of texts are alike in both, the question seems to be about the topic.

    Args:
        states: shape (texts, width).
        words: shape (texts, width), as of `embed`.
    """
    agreed = _agreement(_centred(states), _centred(words))
    return min(1.0, max(0.0, _TOPIC_GAIN * (agreed - _TOPICAL)))


def evidence(states: Floats, words: Floats, weight: float) -> Floats:
    """States and word embeddings of the same texts as rows of length 1: shape (texts, widths together)."""
    return _centred(np.hstack([_centred(states), np.float32(weight) * _centred(words)]))


def joined_scores(by_state: Floats, by_word: Floats, weight: float) -> Floats:
    """Scores of labels from both kinds of evidence, each in its standard deviations."""
    return _scaled(by_state) + np.float32(weight) * _scaled(by_word)


def find_groups(states: Floats, words: Floats, k: tuple[int, int] | None) -> tuple[Floats, Labels]:
    """Group texts by their answers: the evidence, shape (texts, width), and labels, 0 the largest group.

    Questions about the topic have many answers, which words tell apart as well: the evidence is agglomerated
    as the embedding baseline does. Other questions have few answers, which are found by `group_rows`.

    Args:
        states, words: of the texts, shape (texts, width).
        k: bounds of the number of groups, both included; None infers it.
    """
    weight = topic_weight(states, words)
    if weight > _ABOUT_TOPIC:
        rows = evidence(states, words, _MORE_WORDS * weight)
        return rows, cluster_embeddings(rows, k, _TOPIC_GAMMA)
    rows = evidence(states, words, weight)
    return rows, group_rows(rows, k)


def group_rows(rows: Floats, k: tuple[int, int] | None) -> Labels:
    """Group rows of length 1 around zero; the number of groups is inferred within bounds.

    For each k, k-means (from several starts) in the space of the first principal components. Of these
    partitions the one is taken that has the highest sum, over pairs of a group, of (cosine - price): the
    constant Potts model of Traag, Van Dooren & Nesterov, Physical Review E 84, 016114 (2011). The price is
    higher the nearer the nearest are: where groups lie well apart, a little likeness does not join two.

    Args:
        rows: shape (texts, width), as of `evidence`.
        k: bounds of the number of groups, both included; None infers it.

    Returns:
        Shape (texts,), labels from 0, the largest group, on without gaps.
    """
    distinct = len(np.unique(rows.round(6), axis=0))
    low, high = k or (2, MOST_GROUPS)
    low, high = min(low, distinct), min(high, distinct)
    if high < 2:
        return np.zeros(len(rows), dtype=np.intp)
    found = [_k_means(rows, count) for count in range(max(low, 1), high + 1)]
    price = _PRICE * _nearness(rows) ** 2
    return by_size(max(found, key=lambda labels: _worth(rows, labels, price)))


def centres(rows: Floats, labels: Labels) -> Floats:
    """The mean direction of each group: shape (groups, width)."""
    return unit_rows(np.vstack([rows[labels == group].mean(axis=0) for group in range(labels.max() + 1)]))


def settle(rows: Floats, scores: Floats) -> Floats:
    """How likely each text has each label, after texts that are alike have been heard: shape (texts, labels).

    What the labels' words say is a start. A label's centre is then the mean of the texts that have it, and a
    text is likely to have a label by its score and by its nearness to that centre, in turn (a mixture of
    von Mises-Fisher distributions, Banerjee et al., JMLR 6, 2005, with each text's scores as its priors).

    Args:
        rows: shape (texts, width), as of `evidence`.
        scores: shape (texts, labels), as of `label_scores` or `joined_scores`.
    """
    said = _scaled(scores)
    space = unit_rows(_components(rows, max(_FEWEST_COMPONENTS, scores.shape[1] - 1)))
    shares = _softmax(said)
    for _ in range(_ROUNDS):
        near = space @ unit_rows(shares.T @ space).T
        shares = _softmax(said + _scaled(near - near.mean(axis=0)))
    return shares


def label_shares(
    states: Floats, words: Floats, labels: tuple[Floats, Floats], usual: Floats | None = None
) -> Floats:
    """How likely each text has each label, by states, words and the texts that are alike.

    Args:
        states, words: of the texts, shape (texts, width).
        labels: as of `ScorerModel.label_vectors`, and the labels' embeddings, shape (labels, width).
        usual: see `label_scores`.
    """
    by_vector, by_meaning = labels
    weight = topic_weight(states, words)
    scores = joined_scores(label_scores(states, by_vector, usual), label_scores(words, by_meaning), weight)
    return settle(evidence(states, words, weight), scores)


def share_of_centre(rows: Floats, middle: Floats, own: Labels) -> Floats:
    """How much nearer each text is to its own centre than to the next: shape (texts,), in [0, 1].

    1 - (1 - own) / (1 - other) of the cosines, clipped (a simplified silhouette).
    """
    if len(middle) == 1:
        return np.ones(len(rows), dtype=np.float32)
    near = rows @ middle.T
    mine = near[np.arange(len(rows)), own]
    near[np.arange(len(rows)), own] = -np.inf
    share: Floats = np.clip(1 - (1 - mine) / np.maximum(1 - near.max(axis=1), 1e-6), 0, 1)
    return share


def _centred(rows: Floats) -> Floats:
    return unit_rows(rows - rows.mean(axis=0, keepdims=True))


def _agreement(left: Floats, right: Floats) -> float:
    """Correlation, over pairs of texts, of their cosines in two spaces; 0 where one is constant."""
    count = min(len(left), _SAMPLED)
    chosen = np.linspace(0, len(left) - 1, count).astype(np.intp)
    pairs = np.triu_indices(count, 1)
    one, other = ((rows[chosen] @ rows[chosen].T)[pairs] for rows in (left, right))
    if len(one) < 2 or min(one.std(), other.std()) < 1e-6:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _components(rows: Floats, most: int) -> Floats:
    """The rows in the space of their first principal components."""
    left, sizes, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    components: Floats = left[:, :most] * sizes[:most]
    return components


def _k_means(rows: Floats, k: int) -> Labels:
    from sklearn.cluster import KMeans

    most = max(_FEWEST_COMPONENTS, k - 1)
    labels: Labels = KMeans(k, n_init=_RUNS, random_state=0).fit_predict(_components(rows, most))
    return labels


def _worth(rows: Floats, labels: Labels, price: float) -> float:
    """The Potts objective; pairs of equal directions are 1, and a text is no pair with itself."""
    total = 0.0
    for group in np.unique(labels):
        inside = rows[labels == group]
        pairs = len(inside) * (len(inside) - 1)
        total += float((inside.sum(axis=0) ** 2).sum()) - len(inside) - price * pairs
    return total


def _nearness(rows: Floats) -> float:
    """Mean cosine of texts to their nearest ones; 0 where these are no nearer than chance."""
    chosen = rows[np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLED)).astype(np.intp)]
    cosines = chosen @ chosen.T
    np.fill_diagonal(cosines, -np.inf)
    count = min(len(chosen) - 1, max(2, len(chosen) // _NEIGHBOURS))
    return max(0.0, float(np.sort(cosines, axis=1)[:, -count:].mean()))


def _scaled(scores: Floats) -> Floats:
    """Scores in standard deviations of them all."""
    deviation = float(scores.std())
    return scores / np.float32(deviation) if deviation > 1e-6 else np.zeros_like(scores)


def _softmax(scores: Floats) -> Floats:
    risen = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Floats = risen / risen.sum(axis=1, keepdims=True)
    return shares
