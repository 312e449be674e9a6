"""The scikit-learn estimator does what scikit-learn expects of one."""

from __future__ import annotations

import numpy as np
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from cluster_r1 import InstructionClusterer
from tests.fakes.openai_server import FakeOpenAI

TEXTS = ["late: a", "broken: b", "late: c", ""]


def test_fit_predict_gives_labels_aligned_with_the_texts(server: FakeOpenAI) -> None:
    clusterer = InstructionClusterer("by problem", model=server.spec)
    labels = clusterer.fit_predict(TEXTS)
    assert labels.tolist() == clusterer.labels_.tolist() == [0, 1, 0, -1]
    assert clusterer.n_clusters_ == 2
    assert clusterer.cluster_names_.tolist() == ["late", "broken"]
    assert clusterer.result_.rows()[0].reason == "says late"


def test_clone_and_set_params_keep_every_parameter(server: FakeOpenAI) -> None:
    clusterer = InstructionClusterer("by problem", model=server.spec, n_clusters=(2, 3), rounds=0)
    copy = clone(clusterer).set_params(instruction="by tone")
    assert copy.get_params() == {**clusterer.get_params(), "instruction": "by tone"}
    assert not hasattr(copy, "labels_")


def test_it_is_the_last_step_of_a_pipeline(server: FakeOpenAI) -> None:
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = make_pipeline(lower, InstructionClusterer("by problem", model=server.spec))
    assert pipeline.fit_predict([text.upper() for text in TEXTS]).tolist() == [0, 1, 0, -1]
    assert "late: a" in server.requests[0]["messages"][1]["content"]


def test_a_column_of_texts_is_taken_as_texts() -> None:
    column = np.array(["parcel late", "parcel lost", "wrong invoice", "invoice twice"]).reshape(-1, 1)
    clusterer = InstructionClusterer("by words", model="embedding", n_clusters=2).fit(column)
    assert clusterer.n_clusters_ == 2
    assert clusterer.labels_.shape == (4,)
