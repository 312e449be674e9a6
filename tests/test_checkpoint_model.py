"""Checkpoints in process: a tiny untrained model, whose answers have the right form all the same."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from cluster_r1 import ClusteringAgent
from cluster_r1.agents.clustering.proposer import Proposer, ProposerInput
from cluster_r1.agents.models.base_weights import load_base
from cluster_r1.agents.models.cache import ResponseCache
from cluster_r1.agents.models.checkpoint_folder import (
    CheckpointInfo,
    inspect_checkpoint,
    read_info,
    write_info,
)
from cluster_r1.agents.models.checkpoint_generator import (
    CheckpointGenerator,
    Completion,
    GenerationRequest,
    shared_generator,
)
from cluster_r1.agents.models.constrained_decoding import AnswerGuide, Mask, Vocabulary
from cluster_r1.agents.models.messages import ChatRequest
from cluster_r1.agents.models.opening import ModelOptions, open_model
from cluster_r1.agents.models.specs import ModelSpec
from cluster_r1.agents.parsing import split_reasoning
from cluster_r1.errors import InputError, MissingDependencyError, ModelError
from cluster_r1.training.tiny_model import CHATML, tiny_model, tiny_tokenizer

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("llguidance")

TEXTS = [
    "The parcel never came",
    "My invoice shows the wrong sum",
    "Where is my order?",
    "You charged me twice",
    "The courier lost the box",
    "Refund me now",
    "It arrived broken",
    "Thanks a lot",
    "The app crashes",
    "I cannot log in",
]
ANSWER = {
    "criterion": "problem",
    "clusters": [{"id": "C1", "name": "Parcel", "description": "It is late"}],
    "assignments": [{"text": 1, "reason": "late", "cluster": "C1", "confidence": 0.8}],
}
ROLES = ("proposer", "assigner")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model in a folder, made once."""
    torch.manual_seed(7)
    folder = tmp_path_factory.mktemp("made") / "model"
    tokenizer = tiny_tokenizer([*TEXTS, json.dumps(ANSWER)] * 3)
    tiny_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_info(folder, CheckpointInfo(stage="sft", roles=ROLES, context_tokens=4096))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "model"))


@pytest.fixture(scope="module")
def generator(made: Path) -> CheckpointGenerator:
    return shared_generator(inspect_checkpoint(str(made)))


def change_info(folder: Path, **values: Any) -> None:
    write_info(folder, read_info(folder).model_copy(update=values))


def wanted(texts: Sequence[str] = TEXTS, **options: Any) -> GenerationRequest:
    """A request to the proposer, under its schema unless another is given."""
    given = ProposerInput(instruction="by problem", texts=tuple(texts))
    messages = [message._asdict() for message in Proposer().render(given)]
    options = {"context_tokens": 4096, "schema": Proposer().schema(given, bounded=True), **options}
    return GenerationRequest(messages, **options)


def ask(generator: CheckpointGenerator, *requests: GenerationRequest) -> list[Any]:
    async def together() -> list[Any]:
        return await asyncio.gather(*map(generator.generate, requests), return_exceptions=True)

    return asyncio.run(together())


def valid(completion: Completion, request: GenerationRequest) -> bool:
    _, answer = split_reasoning(completion.text)
    jsonschema.validate(json.loads(answer), request.schema)  # type: ignore[arg-type]
    return completion.finish_reason == "stop"


# --- the whole way


def test_an_untrained_model_gives_an_exact_cover_in_the_right_form(made: Path) -> None:
    result = ClusteringAgent(f"checkpoint:{made}").cluster(TEXTS, "by problem")
    placed = {assignment.text_id for assignment in result.assignments}
    assert placed == {text.id for text in result.texts}
    assert not result.unassigned
    assert result.stop_reason == "no_critic"  # by the roles in its cluster_r1.json
    assert result.usage.calls == 1
    assert result.usage.input_tokens > 300
    assert result.usage.output_tokens > 100
    answer = next(run["outputs"]["answer"] for run in result.trace if run["type"] == "llm")  # type: ignore[index]
    jsonschema.validate(json.loads(answer), wanted().schema)  # type: ignore[arg-type]


def test_without_a_file_of_its_own_it_plays_every_role(folder: Path) -> None:
    (folder / "cluster_r1.json").unlink()
    result = ClusteringAgent(f"checkpoint:{folder}", rounds=1).cluster(TEXTS, "by problem")
    assert "critic" in [run["name"] for run in result.trace]
    assert result.stop_reason != "no_critic"
    assert inspect_checkpoint(str(folder)).context_tokens == 4096  # of the config


def test_a_second_run_asks_nothing_and_loads_nothing(folder: Path, tmp_path: Path) -> None:
    first = ClusteringAgent(f"checkpoint:{folder}").cluster(TEXTS, "by problem")
    script = (
        "import sys\nfrom cluster_r1 import ClusteringAgent\n"
        f"run = ClusteringAgent({f'checkpoint:{folder}'!r}).cluster({TEXTS!r}, 'by problem')\n"
        "loaded = [name in sys.modules for name in ('torch', 'transformers')]\n"
        "print(run.usage.saved_calls, run.usage.calls, *loaded)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "0", "False", "False"], done.stderr
    generator = shared_generator(inspect_checkpoint(str(folder)))
    assert generator.batches == [] or first.usage.calls == len(generator.batches) == 1


def test_other_weights_are_asked_anew(folder: Path) -> None:
    identities = {inspect_checkpoint(str(folder)).identity}
    (folder / "model.safetensors").touch()
    identities.add(inspect_checkpoint(str(folder)).identity)
    change_info(folder, weights_sha256="ab" * 32)
    identities.add(inspect_checkpoint(str(folder)).identity)
    (folder / "model.safetensors").touch()
    identities.add(inspect_checkpoint(str(folder)).identity)
    assert len(identities) == 3


def test_a_seed_changes_the_answer_only_above_temperature_0(generator: CheckpointGenerator) -> None:
    options: dict[str, Any] = {"schema": None, "most_tokens": 12}
    warm = [wanted(**options, temperature=1.5, seed=seed) for seed in (0, 1, 0)]
    cold = [wanted(**options, seed=seed) for seed in (0, 1)]
    a, b, again, c, d = (answer.text for answer in ask(generator, *warm, *cold))
    assert a == again != b
    assert c == d


# --- batches


def test_requests_made_at_once_go_in_one_batch_and_get_the_answers_they_get_alone(
    generator: CheckpointGenerator,
) -> None:
    requests = [wanted(TEXTS[:count], seed=count) for count in (2, 9, 4, 6, 3)]
    requests.append(wanted(TEXTS[:5], schema=None, most_tokens=20))
    alone = [answer for request in requests for answer in ask(generator, request)]
    before = len(generator.batches)
    assert ask(generator, *requests) == alone
    assert generator.batches[before:] == [6]
    assert all(valid(answer, request) for answer, request in zip(alone[:5], requests, strict=False))
    assert alone[5].finish_reason == "length"
    assert alone[5].output_tokens == 20


def test_requests_of_an_agent_share_batches(made: Path, tmp_path: Path) -> None:
    model = open_model(ModelSpec.parse(f"checkpoint:{made}"), ModelOptions(), None)
    shared = shared_generator(inspect_checkpoint(str(made)))
    given = [ProposerInput(instruction="by problem", texts=(text, "another")) for text in TEXTS]
    asked = [ChatRequest(Proposer().render(one), Proposer().schema(one, bounded=True)) for one in given]
    before = len(shared.batches)

    async def together() -> None:
        await asyncio.gather(*map(model.answer, asked))

    asyncio.run(together())
    assert shared.batches[before:] == [8, 2]


def test_a_bad_request_fails_alone(generator: CheckpointGenerator) -> None:
    good = wanted(TEXTS[:3])
    (alone,) = ask(generator, good)
    too_long = wanted(context_tokens=50)
    no_number: Any = "warm"  # found out only amid the batch
    broken = wanted(TEXTS[:2], temperature=no_number)
    first, refused, failed, last = ask(generator, good, too_long, broken, good)
    assert first == last == alone
    assert isinstance(refused, ModelError)
    assert str(refused).startswith("the prompt has ")
    assert "but the context 50. Use fewer or shorter texts" in str(refused)
    assert isinstance(failed, ModelError)
    assert f"{generator._checkpoint.folder} failed: " in str(failed)


def test_a_batch_that_does_not_fit_the_memory_is_done_in_parts(folder: Path) -> None:
    generator = CheckpointGenerator(inspect_checkpoint(str(folder)))
    request = wanted(TEXTS[:2], most_tokens=5)
    ask(generator, request)
    model = generator._model().model
    whole = model.forward

    def small(*, input_ids: Any, **options: Any) -> Any:
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore")
        return whole(input_ids=input_ids, **options)

    model.forward = small
    assert len({answer.text for answer in ask(generator, *[request] * 4)}) == 1
    assert generator.batches[1:] == [4, 2, 2]

    def full(**options: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore")

    model.forward = full
    (error,) = ask(generator, request)
    assert "\n" not in str(error)
    assert "ran out of memory: CUDA out of memory" in str(error)
    assert "Use fewer or shorter texts" in str(error)


def test_who_stops_waiting_gives_the_place_up(generator: CheckpointGenerator) -> None:
    endless = wanted(schema=None, most_tokens=3_000)

    async def give_up() -> Completion:
        task = asyncio.ensure_future(generator.generate(endless))
        await asyncio.sleep(0.2)
        task.cancel()
        return await asyncio.wait_for(generator.generate(wanted(TEXTS[:2])), timeout=10)

    assert asyncio.run(give_up()).finish_reason == "stop"
    (late,) = ask(generator, wanted(schema=None, most_tokens=3_000, timeout=0.1))
    assert "not finished after 0.1 s" in str(late)


# --- reasoning, then the answer


@pytest.fixture(scope="module")
def vocabulary(made: Path) -> Vocabulary:
    _, tokenizer = load_base(str(made))
    return Vocabulary(tokenizer, len(tokenizer), frozenset({tokenizer.eos_token_id}))


SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["late", "lost"]}, "score": {"const": 7}},
    "required": ["kind", "score"],
    "additionalProperties": False,
}
LATE = '{"kind": "late", "score": 7}'


def dictate(vocabulary: Vocabulary, tokens: Sequence[int], opened: bool = False, most: int = 100) -> str:
    """What is written when a model wants these tokens, and takes the first that is allowed otherwise."""
    guide = AnswerGuide(vocabulary, SCHEMA, opened=opened, most_reasoning=most)
    wishes = iter(tokens)

    def choose(mask: Mask | None) -> int:
        wish = next(wishes, None)
        if mask is None:
            assert wish is not None
            return wish
        return wish if wish is not None and mask[wish] else int(mask.argmax())

    written: list[int] = []
    while not guide.finished:
        written += guide.write(choose)
    return vocabulary.text(written)


def test_reasoning_is_free_and_the_answer_is_not(vocabulary: Vocabulary) -> None:
    said = dictate(vocabulary, vocabulary.encode("<think>\nIt is {late}\n</think>\n"))
    assert said.startswith("<think>\nIt is {late}\n</think>\n")
    assert split_reasoning(said)[1] in (LATE, LATE.replace("late", "lost"))


def test_what_does_not_begin_with_reasoning_is_the_answer(vocabulary: Vocabulary) -> None:
    said = dictate(vocabulary, vocabulary.encode("I think it is late"))
    assert said.strip() in (LATE, LATE.replace("late", "lost"))


def test_a_tag_in_several_tokens_is_completed(vocabulary: Vocabulary) -> None:
    (first, *_) = vocabulary.encode("< ")
    assert dictate(vocabulary, [first, *vocabulary.encode("so\n</think>")]).startswith("<think>so\n</think>")


def test_reasoning_that_ends_the_turn_or_takes_too_long_is_closed(vocabulary: Vocabulary) -> None:
    (end,) = vocabulary.ends
    thought = vocabulary.encode("<think>\nlate, late")
    assert dictate(vocabulary, [*thought, end]).startswith("<think>\nlate, late\n</think>")
    assert dictate(vocabulary, thought * 9, most=len(thought)).startswith("<think>\nlate, late\n</think>")
    begun = [*thought, *vocabulary.encode("<"), *vocabulary.encode("/th")]
    assert dictate(vocabulary, [*begun, end]).startswith("<think>\nlate, late</think>")


def test_a_schema_that_is_not_known_leaves_the_answer_free(
    made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    generator = CheckpointGenerator(inspect_checkpoint(str(made)))
    strange = {"type": "object", "properties": {"a": {"type": "no such type"}}}
    with caplog.at_level(logging.WARNING):
        answers = ask(generator, *[wanted(TEXTS[:2], schema=strange, most_tokens=9)] * 2)
    assert [answer.output_tokens for answer in answers] == [9, 9]
    assert caplog.text.count("answers are not constrained to their schema") == 1


def test_reasoning_that_never_ends_leaves_room_for_the_answer(folder: Path) -> None:
    opening = CHATML.replace(
        "<|im_start|>assistant\\n' }}{% endif", "<|im_start|>assistant\\n<think>\\n' }}{% endif"
    )
    assert opening != CHATML
    (folder / "chat_template.jinja").write_text(opening)
    request = wanted(TEXTS[:4], most_tokens=1_000)
    (answer,) = ask(CheckpointGenerator(inspect_checkpoint(str(folder))), request)
    assert valid(answer, request)
    assert answer.text.startswith("<think>\n")
    assert 450 < answer.reasoning_tokens <= 510
    assert answer.reasoning_tokens < answer.output_tokens < 1_000


def test_the_trainer_may_limit_the_answer(folder: Path) -> None:
    change_info(folder, max_answer_tokens=30)
    (answer,) = ask(CheckpointGenerator(inspect_checkpoint(str(folder))), wanted())
    assert (answer.finish_reason, answer.output_tokens) == ("length", 30)


# --- adapters


def adapter_of(base: Path, into: Path) -> Path:
    """An adapter that changes much, over the base named as a folder."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    model, _ = load_base(str(base))
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    adapted.save_pretrained(into, save_embedding_layers=False)
    return into


def test_an_adapter_runs_over_its_base(made: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    adapter = adapter_of(made, tmp_path / "adapter")
    assert json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == str(made)
    checkpoint = inspect_checkpoint(str(adapter))
    assert checkpoint.tokenizer_folder == checkpoint.base == made
    assert checkpoint.parameters > 100_000
    generator = CheckpointGenerator(checkpoint)
    request = wanted(TEXTS[:3])
    (answer,) = ask(generator, request)
    assert valid(answer, request)
    (of_base,) = ask(shared_generator(inspect_checkpoint(str(made))), request)
    assert answer.text != of_base.text
    result = ClusteringAgent(f"checkpoint:{adapter}").cluster(TEXTS[:4], "by problem")
    assert len(result.assignments) == 4
    shutil.copytree(made, tmp_path / "moved")
    write_info(adapter, CheckpointInfo(base=str(tmp_path / "moved")))
    assert inspect_checkpoint(str(adapter)).base == tmp_path / "moved"


# --- what is wrong is said in one line


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        ClusteringAgent(f"checkpoint:{folder}")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_no_checkpoint_is_refused_at_once(folder: Path, tmp_path: Path) -> None:
    assert "no such folder. Name one" in refused(tmp_path / "nowhere")
    assert "holds neither config.json nor adapter_config.json" in refused(tmp_path)
    config = (folder / "config.json").read_text()
    change_info(folder, context_tokens=None)
    (folder / "config.json").write_text("{")
    assert "config.json cannot be read" in refused(folder)
    (folder / "config.json").write_text(config)
    (folder / "chat_template.jinja").unlink()
    assert "has no chat template" in refused(folder)
    (folder / "model.safetensors").write_bytes(b"short")
    (folder / "chat_template.jinja").write_text(CHATML)
    assert "model.safetensors is damaged" in refused(folder)
    (folder / "model.safetensors").unlink()
    assert "holds no weights" in refused(folder)
    (folder / "cluster_r1.json").write_text('{"format": 2}')
    assert "cluster_r1.json cannot be read: format: " in refused(folder)


def test_a_base_that_cannot_be_had_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft")
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "adapter_model.safetensors").touch()
    for name, said in (
        ("/no/such/base", "the base /no/such/base is no folder"),
        ("nobody/no-such-base", "nobody/no-such-base is no folder here and cannot be had from the Hugging"),
        ("", "names no base"),
    ):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": name}))
        assert said in refused(tmp_path)


def test_weights_that_do_not_fit_their_config_are_refused_when_loaded(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "no-such-type"}))
    errors = ask(CheckpointGenerator(inspect_checkpoint(str(folder))), wanted(), wanted())
    assert len(errors) == 2
    for error in errors:
        assert isinstance(error, InputError)
        assert "cannot be loaded as a language model" in str(error)


def test_what_is_not_installed_is_named_with_the_command(made: Path, tmp_path: Path) -> None:
    script = (
        "import importlib.util as u; found = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'llguidance' else found(name, *a)\n"
        "from cluster_r1 import ClusteringAgent\n"
        f"ClusteringAgent({f'checkpoint:{made}'!r})"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert MissingDependencyError.__name__ in done.stderr
    assert 'needs: pip install "cluster-r1[train]"' in done.stderr


def test_a_model_trained_on_other_prompts_is_warned_of(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        change_info(folder, templates={"clustering/proposer": Proposer().template.sha256})
        inspect_checkpoint(str(folder))
        assert not caplog.records
        change_info(folder, templates={"clustering/proposer": "0" * 64, "clustering/gone": "0" * 64})
        inspect_checkpoint(str(folder))
    (record,) = caplog.records
    assert "was trained on other prompts than are installed (clustering/gone, clustering/proposer)" in (
        record.getMessage()
    )


def test_an_error_of_the_model_reaches_the_user_in_one_line(made: Path, tmp_path: Path) -> None:
    store = ResponseCache(tmp_path / "a.sqlite")
    options = ModelOptions(context_tokens=100)
    model = open_model(ModelSpec.parse(f"checkpoint:{made}"), options, store)
    given = ProposerInput(instruction="by problem", texts=tuple(TEXTS))
    with pytest.raises(ModelError, match=r"the prompt has \d+ tokens, but the context 100\. Use"):
        asyncio.run(model.answer(ChatRequest(Proposer().render(given))))
    store.close()
