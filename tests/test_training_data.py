"""From labelled sets to the rows that are trained on: episodes, traces, files, filters, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster_r1.agents.clustering.proposer import Proposer, ProposerInput
from cluster_r1.errors import InputError
from cluster_r1.json_lines import read_json_lines, write_json_lines
from cluster_r1.prompts import load_template
from cluster_r1.task import Task, read_tasks
from cluster_r1.training.data_check import check_file
from cluster_r1.training.episode_files import split_families, write_episodes, write_rows_of_tasks
from cluster_r1.training.episodes import EpisodeSettings, draw_episodes
from cluster_r1.training.examples import RlExample, SftExample, read_examples, rl_example
from cluster_r1.training.labelled import read_labelled
from cluster_r1.training.recipe import GrpoRecipe, ScorerRecipe, SftRecipe, load_recipe, shipped_recipes
from cluster_r1.training.rewards import judge
from cluster_r1.training.row_filters import by_growing_size, within_difficulty, within_length
from cluster_r1.training.sizes import weights_dtype
from cluster_r1.training.toy_set import toy_set
from cluster_r1.training.traces import write_trace
from cluster_r1.types import Text
from tests.conftest import EXAMPLES

SETTINGS = EpisodeSettings(texts=(4, 9), k=(2, 4), seed=3)


def draw(count: int, settings: EpisodeSettings = SETTINGS) -> list[Task]:
    return list(draw_episodes([toy_set()], count, settings))


def test_episodes_keep_to_the_ranges_and_are_informative() -> None:
    for task in draw(200):
        assert 4 <= len(task.texts) <= 9
        assert 2 <= task.k <= 4
        assert task.k < len(task.texts)
        assert len({text.id for text in task.texts}) == len(task.texts)


def test_an_episode_is_labelled_by_the_attribute_that_its_instruction_asks_for() -> None:
    labels = {row.id: row.labels for row in toy_set().rows}
    for task in draw(50):
        attribute = task.meta["attribute"]
        assert attribute in task.instruction
        assert all(task.reference[text.id] == labels[text.id][attribute] for text in task.texts)


def test_equal_seeds_draw_equal_episodes_and_others_do_not() -> None:
    assert draw(20) == draw(20)
    assert draw(20) != draw(20, SETTINGS.model_copy(update={"seed": 4}))


def test_the_same_texts_are_asked_for_by_other_attributes() -> None:
    tasks = draw(50, SETTINGS.model_copy(update={"again": 0.9}))
    asked: dict[frozenset[str], set[str]] = {}
    for task in tasks:
        asked.setdefault(frozenset(task.reference), set()).add(task.meta["attribute"])
    assert max(map(len, asked.values())) >= 2


def test_impossible_ranges_are_refused() -> None:
    with pytest.raises(InputError, match="no episode of"):
        draw(1, EpisodeSettings(texts=(10, 20), k=(9, 9), again=0))
    with pytest.raises(ValueError, match="lower bound first"):
        EpisodeSettings(texts=(9, 4))
    with pytest.raises(InputError, match="no attribute 'toy/smell'"):
        draw(1, EpisodeSettings(attributes=("toy/smell",)))


def test_a_written_trace_earns_the_full_reward_and_speaks_of_every_text() -> None:
    for task in draw(50):
        trace = write_trace(task)
        assert judge(trace, task.labels).reward == 1
        assert all(f"[{number}] " in trace for number in range(1, len(task.texts) + 1))


def test_prompts_are_those_of_inference_byte_for_byte() -> None:
    task = draw(1)[0]
    asked = Proposer().render(
        ProposerInput(instruction=task.instruction, texts=tuple(t.text for t in task.texts))
    )
    row = rl_example(task)
    assert [(turn.role, turn.content) for turn in row.prompt] == [tuple(message) for message in asked]
    assert row.template_sha256 == load_template("clustering/proposer").sha256


@pytest.mark.parametrize("labels", [["a", "a", "a"], ["a", "b", "c"]])
def test_references_on_which_every_answer_scores_alike_are_refused(labels: list[str]) -> None:
    texts = tuple(Text(id=str(number), text="t") for number in range(3))
    task = Task(
        id="t", corpus="c", instruction="by x", texts=texts, reference=dict(zip("012", labels, strict=True))
    )
    with pytest.raises(InputError, match="every answer would score alike"):
        rl_example(task)


def episodes(folder: Path) -> Path:
    write_episodes([toy_set()], folder, train=12, validation=4, settings=SETTINGS, hold_out=["toy/place"])
    return folder


def test_held_out_instructions_occur_in_no_training_row(tmp_path: Path) -> None:
    folder = episodes(tmp_path / "e")
    trained = {row.family for row in read_examples(folder / "train" / "sft.jsonl", SftExample)}
    held_out = {row.family for row in read_examples(folder / "validation" / "rl.jsonl", RlExample)}
    assert held_out == {"place"}
    assert not trained & held_out
    card = (folder / "card.md").read_text(encoding="utf-8")
    assert "CC0-1.0" in card
    assert "Families held out: toy/place" in card


def test_without_a_choice_a_fifth_of_the_families_is_held_out() -> None:
    split = split_families([toy_set()], [], seed=0)
    assert len(split.held_out) == 1
    assert not set(split.train) & set(split.held_out)
    with pytest.raises(InputError, match="nothing to hold out is called 'nix'"):
        split_families([toy_set()], ["nix"], seed=0)
    with pytest.raises(InputError, match="nothing is left to train on"):
        split_families([toy_set()], ["toy"], seed=0)


def test_files_are_described_and_their_faults_named(tmp_path: Path) -> None:
    folder = episodes(tmp_path / "e") / "train"
    assert check_file(folder / "sft.jsonl").startswith("12 SFT rows of")
    assert check_file(folder / "rl.jsonl").startswith("12 RL rows of")
    assert check_file(folder / "tasks.jsonl").startswith("12 tasks of")
    rows = [row for _, row in read_json_lines(folder / "sft.jsonl")]
    rows[3]["completion"][0]["content"] = "I group nothing."
    write_json_lines(folder / "broken.jsonl", rows)
    with pytest.raises(InputError, match=f"the completion of {rows[3]['id']}.* no exact cover"):
        check_file(folder / "broken.jsonl")


def test_a_file_that_was_cut_off_is_refused_with_its_line(tmp_path: Path) -> None:
    whole = (episodes(tmp_path / "e") / "train" / "sft.jsonl").read_text(encoding="utf-8")
    cut = tmp_path / "cut.jsonl"
    cut.write_text(whole[: len(whole) // 2], encoding="utf-8")
    with pytest.raises(InputError, match=r"cut\.jsonl, line \d+: no JSON.*cut off"):
        read_examples(cut, SftExample)


def test_rows_made_with_another_template_are_refused(tmp_path: Path) -> None:
    source = episodes(tmp_path / "e") / "train" / "rl.jsonl"
    rows = [row | {"template_sha256": "0" * 64} for _, row in read_json_lines(source)]
    write_json_lines(tmp_path / "old.jsonl", rows)
    with pytest.raises(InputError, match="line 1: made with template clustering/proposer@00000000"):
        read_examples(tmp_path / "old.jsonl", RlExample)


def test_an_uninformative_row_is_refused_with_its_line(tmp_path: Path) -> None:
    source = episodes(tmp_path / "e") / "train" / "rl.jsonl"
    rows = [row for _, row in read_json_lines(source)]
    rows[1]["reference"] = ["same"] * len(rows[1]["reference"])
    write_json_lines(tmp_path / "flat.jsonl", rows)
    with pytest.raises(InputError, match=r"line 2: .*every answer would score alike"):
        read_examples(tmp_path / "flat.jsonl", RlExample)


def test_tasks_may_name_a_corpus_file_beside_them(tmp_path: Path) -> None:
    write_json_lines(tmp_path / "corpus.jsonl", [{"id": str(n), "text": f"text {n}"} for n in range(5)])
    task = {"id": "t", "corpus": "c", "instruction": "by x", "texts": "corpus.jsonl"}
    (tmp_path / "task.json").write_text(json.dumps(task | {"reference": {"1": "a", "3": "b"}}))
    (read,) = read_tasks(tmp_path / "task.json")
    assert [text.text for text in read.texts] == ["text 1", "text 3"]
    assert read.labels == ["a", "b"]


def test_labelled_files_are_read_with_the_wordings_beside_them(tmp_path: Path) -> None:
    write_json_lines(tmp_path / "mail.jsonl", toy_set().rows)
    (tmp_path / "mail.attributes.yaml").write_text(
        "corpus: mail\nlicence: MIT\nattributes:\n"
        "  colour: {criterion: the hue, instructions: ['by hue'], names: {red: crimson}}\n"
    )
    labelled = read_labelled(tmp_path / "mail.jsonl")
    assert labelled.licence == "MIT"
    assert labelled.attributes["colour"].name("red") == "crimson"
    assert labelled.attributes["thing"].instructions == ("Group these texts by thing.",)
    (tmp_path / "bad.jsonl").write_text('{"id": "1", "text": "x", "label": "y"}\n')
    with pytest.raises(InputError, match=r"bad\.jsonl, line 1: labels: Field required"):
        read_labelled(tmp_path / "bad.jsonl")


def test_tasks_of_any_origin_become_rows_one_for_each_wording(tmp_path: Path) -> None:
    tasks = draw(5)
    count = write_rows_of_tasks(tasks, tmp_path)
    rows = read_examples(tmp_path / "sft.jsonl", SftExample)
    assert len(rows) == count == sum(1 + len(task.paraphrases) for task in tasks)
    assert all(row.score == 1 for row in rows)
    first_lines = {row.prompt[-1].content.partition("\n")[0] for row in rows}
    wordings = {wording for task in tasks for wording in (task.instruction, *task.paraphrases)}
    assert first_lines == {f"Instruction: {wording}" for wording in wordings}


def test_labels_may_stand_in_a_file_beside_the_texts() -> None:
    labelled = read_labelled(EXAMPLES / "support_messages.csv")
    assert set(labelled.attributes) == {"product", "root_cause", "tone", "urgency", "request"}
    assert len(labelled.rows) == 180
    assert labelled.attributes["tone"].instructions[1] == "by tone"


def test_long_rows_are_left_out_and_counted() -> None:
    rows = [rl_example(task) for task in draw(20)]
    kept, report = within_length(rows, lambda row: 100 * row.n, 600)
    assert {row.n for row in kept} <= {4, 5, 6}
    assert report.rows == 20
    assert report.kept == len(kept) < 20
    assert f"({20 - len(kept)} left out)" in str(report)


def test_rows_that_teach_nothing_are_left_out() -> None:
    rows = [rl_example(task) for task in draw(5)]
    spread = {
        rows[0].id: [0.2, 0.8, 0.5],
        rows[1].id: [0.5, 0.5, 0.5],
        rows[2].id: [1.0, 1.0, 0.8],
        rows[3].id: [0.0, 0.0, 0.2],
    }
    assert within_difficulty(rows, spread) == [rows[0]]


def test_the_curriculum_grows() -> None:
    rows = by_growing_size([rl_example(task) for task in draw(60)], stages=3, seed=1)
    assert len(rows) == 60
    thirds = [[row.n for row in rows[start : start + 20]] for start in (0, 20, 40)]
    assert max(thirds[0]) <= min(thirds[1])
    assert max(thirds[1]) <= min(thirds[2])
    assert thirds[2] != sorted(thirds[2])


def test_every_shipped_recipe_and_attribute_file_can_be_read() -> None:
    recipes = [load_recipe(name) for name in shipped_recipes()]
    assert {type(recipe) for recipe in recipes} == {SftRecipe, GrpoRecipe, ScorerRecipe}
    assert {"tiny/sft", "smollm2-135m/grpo", "qwen2.5-7b/grpo-server"} <= set(shipped_recipes())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learning_rat=1", "unknown key 'learning_rat'. There are: model, out"),
        ("model.lora={rank: 3}", "unknown key 'model.lora.rank'. There are: r, alpha"),
        ("steps=0", "steps: Input should be greater than or equal to 1"),
        ("model.think_tokens=maybe", "model.think_tokens"),
        ("steps", "'steps' is no key=value"),
        ("stage=dpo", "stage is 'dpo': it must be sft, grpo or scorer"),
    ],
)
def test_a_recipe_with_a_fault_is_refused_by_name(override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe("tiny/sft", [override])
    assert message in str(caught.value)


def test_overrides_are_read_as_numbers_lists_and_nothing() -> None:
    recipe = load_recipe("smollm2-135m/grpo", ["learning_rate=1e-4", "model.lora=null", "epsilon=[0.1, 0.3]"])
    assert isinstance(recipe, GrpoRecipe)
    assert recipe.learning_rate == 1e-4
    assert recipe.model.lora is None
    assert recipe.epsilon == (0.1, 0.3)


@pytest.mark.parametrize(("native", "chosen"), [(True, "bfloat16"), (False, "float32")])
def test_a_processor_that_only_emulates_bfloat16_gets_float32(
    native: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    assert weights_dtype(load_recipe("smollm2-135m/sft").model) == chosen
    assert weights_dtype(load_recipe("qwen3-4b/sft").model) == "bfloat16"
