"""How tasks are made: sizes, bars and shares. What YAML says of a synthesis ends up here."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import yaml
from pydantic import Field, ValidationError, model_validator

from cluster_r1.agents.synthesis.draft import FORMS, Form
from cluster_r1.errors import InputError
from cluster_r1.types import Record

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Split = Literal["train", "validation", "test"]

SPLITS: tuple[Split, ...] = get_args(Split)

# Kinds of properties. One is drawn for each attempt, so that attempts that know nothing of one another do not
# all think of the same.
ANGLES = (
    "what the text is about",
    "what its writer wants to happen",
    "how the writer feels or sounds",
    "the situation or role of whoever speaks",
    "who or what is addressed or affected",
    "the cause of what is told",
    "what follows from it, or what is at stake",
    "how far along something is: its stage or outcome",
    "how certain, strict or conditional the statement is",
    "what kind of evidence, reason or detail is given",
    "when: the time that is spoken of",
    "where: the kind of place or channel",
    "how it is put: form, register, style",
    "how urgent or serious it is",
    "what is missing, wrong or asked for",
    "the attitude to somebody else's position",
)


class Verifying(Record):
    """Blind readings.

    Attributes:
        samples: how many.
        least_ami: AMI of the labels and what most readings say, from which on a draft is trusted.
        least_vote: share of the readings that must agree with a text's label, or the text is dropped.
        most_dropped: share of the texts that may be dropped.
    """

    samples: int = Field(default=3, ge=1)
    least_ami: float = Field(default=0.6, le=1)
    least_vote: Share = 0.5
    most_dropped: Share = 0.3


class Screening(Record):
    """Checks by program.

    Attributes:
        least_evidence: share of the labels whose quotation must stand in its text.
        most_leakage: share of the texts that may hold the words of their own label.
        most_embedding_ami: AMI that grouping by embeddings, told the number of clusters, may reach.
        most_share: share of the texts that the largest cluster may have.
    """

    least_evidence: Share = 0.7
    most_leakage: Share = 0.3
    most_embedding_ami: float = Field(default=0.7, le=1)
    most_share: Share = 0.9


class Critique(Record):
    """The critic.

    Attributes:
        revisions: how often a draft may be written again.
        least_rating: rating, from 1 to 5, that every aspect needs.
    """

    revisions: int = Field(default=1, ge=0)
    least_rating: int = Field(default=3, ge=1, le=5)


class Novelty(Record):
    """What makes two tasks of one corpus the same.

    Attributes:
        most_ami: AMI of their labels on the same texts.
        most_similarity: cosine of their instructions or of their categories' names.
        tasks_a_family: accepted tasks of one corpus that may ask for the same property.
    """

    most_ami: float = Field(default=0.5, le=1)
    most_similarity: float = Field(default=0.7, le=1)
    tasks_a_family: int = Field(default=1, ge=1)


class Distilling(Record):
    """Reasoning traces.

    Attributes:
        samples: how many answers the teacher gives to a task; 0 makes no traces.
        keep: how many of them are kept, the best first.
        least_ami: AMI of the answer and the reference.
        most_singletons: share of the texts that may stand alone in the answer.
        least_mentioned: share of the texts that the reasoning must speak of.
        tokens: fewest of the reasoning, most of reasoning and answer.
        required: traces without which a task is rejected.
    """

    samples: int = Field(default=4, ge=0)
    keep: int = Field(default=2, ge=1)
    least_ami: float = Field(default=0.8, le=1)
    most_singletons: Share = 0.5
    least_mentioned: Share = 0.5
    tokens: tuple[int, int] = (20, 8192)
    required: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.required > min(self.keep, self.samples):
            raise ValueError(
                f"required is {self.required}: at most keep ({self.keep}) and samples ({self.samples})"
            )
        if self.tokens[0] > self.tokens[1]:
            raise ValueError(f"tokens is {list(self.tokens)}: the lower bound first")
        return self


class Splitting(Record):
    """Which part of the tasks is held out. Texts and families of instructions are never shared.

    Attributes:
        validation: share of the slices,
        test: likewise.
        corpora: sources that go to one split as a whole.
    """

    validation: Share = 0.1
    test: Share = 0.1
    corpora: dict[str, Split] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _something_left(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together leave nothing to train on")
        return self


class SynthesisConfig(Record):
    """How tasks are made. Every default is a choice of this project's; the paper publishes none.

    Attributes:
        texts: fewest and most texts of a slice; log-uniform between.
        k: fewest and most clusters that are asked for; log-uniform between, at most half as many as texts.
        skew: concentration of the Dirichlet distribution of the sizes of written clusters; small is uneven.
        diversity: lowest and highest diversity of a slice, in [0, 1]; 0 takes the texts nearest to one of
            them, 1 takes any of the corpus.
        forms: how often instructions are worded in each form, as weights.
        angles: the kinds of properties that are asked for.
        instructions_a_slice: attempts with the texts of one slice.
        lookahead: how many slices are worked on before the first of them is decided; generators know what
            was accepted up to so many slices ago.
        context_tokens: long texts are shortened for this context, as at inference.
        seed: equal seeds draw equal slices.
    """

    texts: tuple[int, int] = (10, 100)
    k: tuple[int, int] = (2, 20)
    skew: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    diversity: tuple[Share, Share] = (0.0, 1.0)
    forms: dict[Form, Weight] = Field(default_factory=lambda: dict.fromkeys(FORMS, 1.0))
    angles: tuple[str, ...] = Field(default=ANGLES, min_length=1)
    instructions_a_slice: int = Field(default=3, ge=1)
    lookahead: int = Field(default=64, ge=1)
    context_tokens: int = Field(default=32_768, ge=1024)
    seed: int = Field(default=0, ge=0)
    verify: Verifying = Verifying()
    screen: Screening = Screening()
    critique: Critique = Critique()
    novelty: Novelty = Novelty()
    distill: Distilling = Distilling()
    split: Splitting = Splitting()

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        if not 4 <= self.texts[0] <= self.texts[1]:
            raise ValueError(f"texts is {list(self.texts)}: at least 4, and the lower bound first")
        if not 2 <= self.k[0] <= self.k[1]:
            raise ValueError(f"k is {list(self.k)}: at least 2, and the lower bound first")
        if self.k[0] > self.texts[0] // 2:
            raise ValueError(
                f"k is at least {self.k[0]}, but a slice may have {self.texts[0]} texts only, and a cluster "
                "needs two"
            )
        if self.diversity[0] > self.diversity[1]:
            raise ValueError(f"diversity is {list(self.diversity)}: the lower bound first")
        if not any(self.forms.values()):
            raise ValueError("forms has no weight above 0")
        return self


def _meant(name: str) -> str:
    parts = (Verifying, Screening, Critique, Novelty, Distilling, Splitting, SynthesisConfig)
    known = {field for part in parts for field in part.model_fields}
    near = difflib.get_close_matches(name, known, n=1)
    return f", did you mean {near[0]}?" if near else ""


def read_config(path: Path | None) -> SynthesisConfig:
    """The configuration in a YAML file; the defaults without one.

    Raises:
        InputError: the file cannot be read, or a value in it cannot be used.
    """
    if path is None:
        return SynthesisConfig()
    try:
        found: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from error
    try:
        return SynthesisConfig.model_validate({} if found is None else found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            said = "there is no such setting" + _meant(str(first["loc"][-1]))
        raise InputError(
            f"{path}: {where + ': ' if where else ''}{said}. docs/synthesis.md lists what can be set"
        ) from error
