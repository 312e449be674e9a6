"""The whole chain on a model of 0.2 million parameters: episodes, SFT, GRPO, agent, bench, trace."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from cluster_r1 import ClusteringAgent
from cluster_r1.benchmark.results import results_of
from cluster_r1.benchmark.runner import plan, read_answers, run_jobs
from cluster_r1.benchmark.systems.registry import open_systems
from cluster_r1.errors import InputError
from cluster_r1.graphs.tracing import read_trace
from cluster_r1.json_lines import read_json_lines
from cluster_r1.task import read_tasks
from cluster_r1.training.callbacks import SingletonGuard
from cluster_r1.training.curves import read_curves
from cluster_r1.training.difficulty import rollout_rewards
from cluster_r1.training.episode_files import write_episodes
from cluster_r1.training.episodes import EpisodeSettings
from cluster_r1.training.examples import RlExample, read_examples
from cluster_r1.training.export import serve_command
from cluster_r1.training.finish import Outcome, running
from cluster_r1.training.grpo import train_grpo
from cluster_r1.training.recipe import GrpoRecipe, GuardSettings, SftRecipe, load_recipe
from cluster_r1.training.sft import train_sft
from cluster_r1.training.sizes import estimate
from cluster_r1.training.toy_set import toy_set

SMALL = (
    "evaluation.prompts=2",
    "evaluation.max_new_tokens=96",
    "model.tiny.hidden=48",
    "model.tiny.layers=2",
)


@dataclass(frozen=True)
class Chain:
    """What the stages left, and what they said."""

    folder: Path
    sft: Outcome
    grpo: Outcome
    said: list[str]


def overrides(folder: Path, stage: str, *more: str) -> list[str]:
    kind = {"sft": "sft", "grpo": "rl"}[stage]
    return [
        f"data.train={folder}/episodes/train/{kind}.jsonl",
        f"data.validation={folder}/episodes/validation/rl.jsonl",
        f"out={folder}/{stage}",
        *SMALL,
        *more,
    ]


def sft_recipe(folder: Path, *more: str) -> SftRecipe:
    recipe = load_recipe("tiny/sft", overrides(folder, "sft", *more))
    assert isinstance(recipe, SftRecipe)
    return recipe


def grpo_recipe(folder: Path, *more: str) -> GrpoRecipe:
    recipe = load_recipe("tiny/grpo", overrides(folder, "grpo", f"model.base={folder}/sft", *more))
    assert isinstance(recipe, GrpoRecipe)
    return recipe


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("chain")
    settings = EpisodeSettings(texts=(4, 5), k=(2, 3))
    write_episodes([toy_set()], folder / "episodes", train=80, validation=4, settings=settings)
    said: list[str] = []
    sft = train_sft(sft_recipe(folder, "steps=40", "save_every=20"), said.append)
    grpo = train_grpo(
        grpo_recipe(folder, "steps=2", "batch=4", "group=4", "max_completion=96", "save_every=1"), said.append
    )
    return Chain(folder, sft, grpo, said)


def test_supervised_training_learns_and_shows_its_course(chain: Chain) -> None:
    curves = read_curves(chain.sft.folder)
    losses = [value for _, value in curves["loss"]]
    assert len(losses) == 40
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert [step for step, _ in curves["validation/reward"]] == [0, 40]
    assert (chain.sft.folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert any(line.startswith("step 40 of 40: loss") for line in chain.said)


def test_reinforcement_logs_reward_measures_length_and_entropy(chain: Chain) -> None:
    curves = read_curves(chain.grpo.folder)
    for name in ("reward", "valid", "ami", "v", "length", "entropy"):
        assert [step for step, _ in curves[name]] == [1, 2], name
    assert chain.grpo.steps == 2


def test_held_out_answers_are_kept(chain: Chain) -> None:
    samples = [line for _, line in read_json_lines(chain.grpo.folder / "samples.jsonl")]
    assert {sample["step"] for sample in samples} == {0, 2}
    assert all(sample["prompt"].startswith("Instruction:") for sample in samples)


def test_the_agent_runs_on_the_checkpoint_and_the_trace_names_it(chain: Chain, tmp_path: Path) -> None:
    texts = ["new red lamp, office", "old blue chair, kitchen", "new blue door, garden", ""]
    spec = f"checkpoint:{chain.grpo.folder}"
    trace = tmp_path / "trace.jsonl"
    result = ClusteringAgent(spec).cluster(texts, "by colour", trace_path=trace)
    assert sorted(a.text_id for a in result.assignments) + [u.text_id for u in result.unassigned] == [
        text.id for text in result.texts
    ]
    calls = [record for record in read_trace(trace) if record["metadata"].get("role") == "proposer"]
    assert calls
    assert all(record["metadata"]["model"] == spec for record in calls)
    assert result.stop_reason == "no_critic"  # it was not trained to criticise


def test_the_bench_measures_the_checkpoint(chain: Chain, tmp_path: Path) -> None:
    tasks = read_tasks(chain.folder / "episodes" / "validation" / "tasks.jsonl")[:2]
    systems = open_systems(["agent"], [f"checkpoint:{chain.grpo.folder}"])
    outcome = run_jobs(plan(tasks, systems, ["discover"]), tmp_path)
    assert (outcome.asked, outcome.failed) == (2, {})
    (measured,) = results_of(tasks, read_answers(tmp_path).values()).panels["discover"]
    assert {row.task for row in measured.tasks} == {task.id for task in tasks}
    assert all(row.low <= row.ami <= row.high and row.calls >= 1 for row in measured.tasks)


def test_the_card_says_what_it_was_made_of(chain: Chain) -> None:
    card = (chain.grpo.folder / "README.md").read_text(encoding="utf-8")
    row = read_examples(chain.folder / "episodes" / "train" / "rl.jsonl", RlExample)[0]
    for fact in ("toy (CC0-1.0)", row.template_sha256, "learning_rate", "curves.png", "| AMI |", "## Limits"):
        assert fact in card, fact


def test_the_bench_adds_its_table_to_the_card(chain: Chain, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from cluster_r1.cli import app

    tasks = str(chain.folder / "episodes" / "validation" / "tasks.jsonl")
    spec = f"checkpoint:{chain.grpo.folder}"
    for _ in range(2):
        given = ["--tasks", tasks, "--first", "1", "--model", spec, "--out", str(tmp_path / "bench")]
        done = CliRunner().invoke(app, ["bench", "run", *given, "--card"])
        assert done.exit_code == 0, done.output
    card = (chain.grpo.folder / "README.md").read_text(encoding="utf-8")
    assert card.count("## Bench") == 1
    assert f"| agent@{spec} |" in card


@pytest.mark.parametrize(("v_rises", "stops"), [(True, True), (False, False)])
def test_the_guard_stops_where_singletons_rise_while_v_rises(v_rises: bool, stops: bool) -> None:
    said: list[str] = []
    guard = SingletonGuard(GuardSettings(window=5, rise=0.25), said.append)
    state, control = TrainerState(), TrainerControl()
    for step in range(20):
        logs = {"singleton_rate": 0.1 + 0.04 * step, "v": 0.5 + (0.01 if v_rises else -0.01) * step}
        guard.on_log(TrainingArguments("unused"), state, control, logs=logs)
    assert control.should_training_stop is stops
    assert guard.tripped is stops
    assert any("the reward is being gamed" in line for line in said) is stops


def test_rollouts_are_rewarded_for_each_row(chain: Chain) -> None:
    rows = read_examples(chain.folder / "episodes" / "train" / "rl.jsonl", RlExample)[:2]
    rewards = rollout_rewards(rows, f"checkpoint:{chain.grpo.folder}", rollouts=2)
    assert {id: len(found) for id, found in rewards.items()} == {row.id: 2 for row in rows}
    assert all(0 <= reward <= 1 for found in rewards.values() for reward in found)


def test_the_serving_command_names_folder_context_and_parser(chain: Chain) -> None:
    command = serve_command(chain.grpo.folder)
    assert command[:3] == ["vllm", "serve", str(chain.grpo.folder)]
    assert command[command.index("--max-model-len") + 1] == "4096"
    assert command[command.index("--reasoning-parser") + 1] == "deepseek_r1"


def test_an_adapter_is_trained_reinforced_and_merged(chain: Chain, tmp_path: Path) -> None:
    from cluster_r1.training.export import merge

    base = f"model.base={chain.sft.folder}"
    adapter = "model.lora={r: 4, alpha: 8}"
    out = f"out={tmp_path}/adapter"
    train_sft(sft_recipe(chain.folder, base, adapter, out, "steps=2", "data.validation=null"), str)
    assert (tmp_path / "adapter" / "adapter_config.json").is_file()
    again = (f"model.base={tmp_path}/adapter", adapter, f"out={tmp_path}/again", "data.validation=null")
    small = ("steps=1", "batch=2", "group=2", "max_completion=16")
    train_grpo(grpo_recipe(chain.folder, *again, *small), str)
    merged = merge(tmp_path / "again", tmp_path / "merged")
    result = ClusteringAgent(f"checkpoint:{merged}").cluster(["red lamp", "blue lamp"], "by colour")
    assert len(result.assignments) == 2
    served = serve_command(tmp_path / "again")
    assert served[2] == str(chain.sft.folder)
    assert f"again={tmp_path}/again" in served


def run(folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cluster_r1", "train", "sft", "tiny/sft"]
    return subprocess.Popen(
        [*command, *overrides(folder, "sft", *more)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_killed_run_goes_on_from_its_checkpoint(chain: Chain, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    more = (f"out={out}", "steps=24", "save_every=2", "data.validation=null")
    process = run(chain.folder, *more)
    wait_until(lambda: (out / "trainer" / "checkpoint-4" / "trainer_state.json").exists(), process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "cluster_r1.json").exists()
    unfinished = out / "trainer" / "checkpoint-9000"  # one that was being written
    unfinished.mkdir()
    said: list[str] = []
    outcome = train_sft(sft_recipe(chain.folder, *more), said.append)
    assert outcome.steps == 24
    steps = [step for step, _ in read_curves(out)["loss"]]
    assert steps == list(range(1, 25))  # none lost, none twice
    assert not unfinished.exists()
    whole = train_sft(sft_recipe(chain.folder, *more, f"out={tmp_path}/whole"), said.append)
    resumed, undisturbed = (read_curves(folder)["loss"][-1][1] for folder in (out, whole.folder))
    assert resumed == pytest.approx(undisturbed, abs=0.05)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if condition():
            return
        if process.poll() is not None:
            raise AssertionError(process.communicate())
        time.sleep(0.05)
    raise AssertionError("it took too long")


def test_a_folder_with_the_run_of_another_recipe_is_refused(chain: Chain) -> None:
    with pytest.raises(InputError, match="holds the run of another recipe"):
        train_sft(sft_recipe(chain.folder, "learning_rate=1e-5"), str)


def test_rows_that_are_all_too_long_are_refused(chain: Chain, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no row has at most 64 tokens"):
        train_sft(sft_recipe(chain.folder, f"out={tmp_path}/o", "data.max_tokens=64"), str)


def test_a_base_without_chat_template_is_refused(chain: Chain, tmp_path: Path) -> None:
    import shutil

    base = tmp_path / "base"
    shutil.copytree(chain.sft.folder, base, ignore=shutil.ignore_patterns("trainer", "chat_template.jinja"))
    config = base / "tokenizer_config.json"
    values = json.loads(config.read_text())
    values.pop("chat_template", None)
    config.write_text(json.dumps(values))
    with pytest.raises(InputError, match="has no chat template"):
        train_sft(sft_recipe(chain.folder, f"out={tmp_path}/o", f"model.base={base}"), str)


def test_a_base_without_think_tokens_is_refused_where_they_are_required(chain: Chain, tmp_path: Path) -> None:
    from cluster_r1.training.tiny_model import tiny_model, tiny_tokenizer

    tokenizer = tiny_tokenizer(["some words"], 300)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend["added_tokens"] = [t for t in backend["added_tokens"] if "think" not in t["content"]]
    base = tmp_path / "base"
    tiny_model(tokenizer, 32, 1).save_pretrained(base)
    tokenizer.save_pretrained(base)
    (base / "tokenizer.json").write_text(json.dumps(backend))
    config = json.loads((base / "tokenizer_config.json").read_text())
    config.pop("added_tokens_decoder", None)
    (base / "tokenizer_config.json").write_text(json.dumps(config))
    asked = (f"model.base={base}", "steps=1", "data.validation=null", "data.max_tokens=4096")
    with pytest.raises(InputError, match="has no <think>"):
        train_sft(sft_recipe(chain.folder, *asked, f"out={tmp_path}/o", "model.think_tokens=require"), str)
    said: list[str] = []
    train_sft(sft_recipe(chain.folder, *asked, f"out={tmp_path}/p", "model.think_tokens=text"), said.append)
    assert any("written as ordinary text" in line for line in said)


def test_memory_that_runs_out_is_explained(chain: Chain) -> None:
    with (
        pytest.raises(InputError, match=r"memory ran out: lower batch \(now 4"),
        running(sft_recipe(chain.folder)),
    ):
        torch.empty(10**15)


def test_an_unknown_argument_of_trl_is_refused(chain: Chain, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"trl\.packin is no argument of SFTConfig"):
        train_sft(sft_recipe(chain.folder, f"out={tmp_path}/o", "trl.packin=true"), str)


def test_sizes_are_estimated_before_anything_is_loaded() -> None:
    whole = load_recipe("smollm2-135m/sft", ["model.lora=null"])
    adapted = load_recipe("smollm2-135m/sft")
    assert estimate(whole).parameters == 134_515_008  # what the weights hold
    assert estimate(whole).trained == estimate(whole).parameters
    assert estimate(adapted).trained < 0.1 * estimate(whole).trained
    longer = load_recipe("smollm2-135m/sft", ["data.max_tokens=8192"])
    assert estimate(longer).total_gb > estimate(adapted).total_gb
