"""Answers requests with a checkpoint's model on a thread of its own, those that wait at once in one batch."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from cluster_r1.agents.models.base_weights import load_model, load_tokenizer
from cluster_r1.agents.models.batch_generation import Row, generate
from cluster_r1.agents.models.checkpoint_folder import Checkpoint
from cluster_r1.agents.models.constrained_decoding import AnswerGuide, Vocabulary
from cluster_r1.errors import ClusterR1Error, InputError, ModelError
from cluster_r1.secrets import redact

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

MOST_ROWS = 32  # in a batch on a GPU; more waste more on padding than they gain
_MOST_ROWS_CPU = 8
_GATHERING = 0.01  # seconds that a batch waits for requests that were made at the same time
_REASONING_SHARE = 0.5  # of an answer's tokens, so that there is room for the JSON


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One answer that is wanted.

    Attributes:
        messages: role and content, as chat templates take them.
        context_tokens: what prompt and answer may take together.
        most_tokens: that the answer may have; None for what the context leaves.
        schema: of the answer after its reasoning.
        temperature: 0 takes the likeliest token each time.
        seed: of the draws at higher temperatures.
        timeout: seconds that writing it may take.
    """

    messages: Sequence[Mapping[str, str]]
    context_tokens: int
    most_tokens: int | None = None
    schema: Mapping[str, Any] | None = None
    temperature: float = 0.0
    seed: int = 0
    timeout: float = 600.0


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer as it was written, `<think>` included. `finish_reason` is `stop` or `length`."""

    text: str
    finish_reason: str
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int


@dataclass(frozen=True, slots=True)
class _Loaded:
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    vocabulary: Vocabulary
    most_rows: int


@dataclass(frozen=True, slots=True)
class _Waiting:
    request: GenerationRequest
    answer: Future[Completion] = field(default_factory=Future)


_open: WeakValueDictionary[tuple[Path, str], CheckpointGenerator] = WeakValueDictionary()
_opening = threading.Lock()


def shared_generator(checkpoint: Checkpoint) -> CheckpointGenerator:
    """The generator of these weights: one a process, as long as anybody holds it."""
    key = (checkpoint.folder, checkpoint.identity)
    with _opening:
        generator = _open.get(key)
        if generator is None:
            generator = _open[key] = CheckpointGenerator(checkpoint)
    return generator


class CheckpointGenerator:
    """The model of a checkpoint, loaded when it is first asked.

    It runs on the GPU in bfloat16 if there is one, else on the CPU in float32.

    Attributes:
        batches: how many requests each batch had, in order.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.batches: list[int] = []
        self._checkpoint = checkpoint
        self._loaded: _Loaded | None = None
        self._waiting: deque[_Waiting] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")

    async def generate(self, request: GenerationRequest) -> Completion:
        """The answer to a request; cancelling the waiter gives its place in the batch up.

        Raises:
            ModelError: the prompt does not fit, the memory or the time is not enough, or the model failed.
            InputError: the checkpoint cannot be loaded.
        """
        waiting = _Waiting(request)
        self._waiting.append(waiting)
        self._thread.submit(self._serve)
        return await asyncio.wrap_future(waiting.answer)

    def _serve(self) -> None:
        """Answer one batch of those that wait, if any still do."""
        batch: list[_Waiting] = []
        try:
            if not self._waiting:
                return
            time.sleep(_GATHERING)
            while self._waiting and len(batch) < self._model().most_rows:
                batch.append(self._waiting.popleft())
            self._answer([waiting for waiting in batch if not waiting.answer.cancelled()])
        except Exception as error:  # noqa: BLE001 - whoever waits is told, whatever it is
            while self._waiting:  # they would meet the same: the model cannot be loaded
                batch.append(self._waiting.popleft())
            for waiting in batch:
                _settle(waiting.answer, _explained(error, self._checkpoint.folder))

    def _answer(self, batch: Sequence[_Waiting]) -> None:
        """Answer a batch; where it fails, its halves, so that only whoever is to blame goes without."""
        made = ((number, self._row(waiting)) for number, waiting in enumerate(batch))
        rows = {number: row for number, row in made if row is not None}
        if not rows:
            return
        failure = self._generated(list(rows.values()))
        if failure is None:
            for number, row in rows.items():
                _settle(batch[number].answer, self._completion(row, batch[number].request))
        elif len(rows) == 1:
            _settle(batch[next(iter(rows))].answer, failure)
        else:
            left = [batch[number] for number in rows]
            middle = len(left) // 2
            self._answer(left[:middle])
            self._answer(left[middle:])

    def _generated(self, rows: Sequence[Row]) -> ClusterR1Error | None:
        """Write the rows' answers; what went wrong, without the memory that its traceback would hold."""
        self.batches.append(len(rows))
        try:
            generate(self._model().model, rows)
        except Exception as error:  # noqa: BLE001 - torch fails in its own ways; they are told apart here
            return _explained(error, self._checkpoint.folder)
        return None

    def _row(self, waiting: _Waiting) -> Row | None:
        """A request made ready for a batch; None if it is answered already, with what is wrong with it."""
        try:
            return self._prepared(waiting)
        except Exception as error:  # noqa: BLE001 - chat templates fail as they please
            _settle(waiting.answer, _explained(error, self._checkpoint.folder))
            return None

    def _prepared(self, waiting: _Waiting) -> Row:
        loaded, request = self._model(), waiting.request
        prompt: Any = loaded.tokenizer.apply_chat_template(
            [dict(message) for message in request.messages],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
        )
        room = request.context_tokens - len(prompt)
        if room < 1:
            raise ModelError(
                f"the prompt has {len(prompt)} tokens, but the context {request.context_tokens}. "
                "Use fewer or shorter texts, or a model with a larger context"
            )
        limits = (room, request.most_tokens, self._checkpoint.info.max_answer_tokens)
        most = max(1, min(limit for limit in limits if limit is not None))
        guide = AnswerGuide(
            loaded.vocabulary,
            request.schema,
            opened=loaded.vocabulary.text(prompt[-8:]).rstrip().endswith("<think>"),
            most_reasoning=max(1, int(_REASONING_SHARE * most)),
        )
        deadline = time.monotonic() + request.timeout
        return Row(
            prompt=prompt,
            most_tokens=most,
            guide=guide,
            temperature=request.temperature,
            draws=random.Random(request.seed),
            is_wanted=lambda: not waiting.answer.cancelled() and time.monotonic() < deadline,
        )

    def _completion(self, row: Row, request: GenerationRequest) -> Completion | ModelError:
        if row.finish == "dropped":
            return ModelError(
                f"the answer was not finished after {request.timeout:g} s ({len(row.written)} tokens). "
                "Use fewer texts, a GPU, or a longer timeout"
            )
        vocabulary = self._model().vocabulary
        said = [token for token in row.written if token not in vocabulary.ends]
        return Completion(
            text=("<think>\n" if row.guide.opened else "") + vocabulary.text(said),
            finish_reason=row.finish,
            input_tokens=len(row.prompt),
            output_tokens=len(row.written),
            reasoning_tokens=min(row.guide.reasoning_tokens, len(row.written)),
        )

    def _model(self) -> _Loaded:
        if self._loaded is None:
            self._loaded = _load(self._checkpoint)
        return self._loaded


def _load(checkpoint: Checkpoint) -> _Loaded:
    import torch

    on_gpu = torch.cuda.is_available()
    tokenizer = load_tokenizer(checkpoint.tokenizer_folder)
    model: Any = load_model(checkpoint.base or checkpoint.folder, torch.bfloat16 if on_gpu else torch.float32)
    if checkpoint.base is not None:
        model = _with_adapter(model, checkpoint.folder, len(tokenizer))
    if on_gpu:
        try:
            model = model.to("cuda")
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"{checkpoint.folder} does not fit the GPU's memory. Free it, use a smaller model, or set "
                "CUDA_VISIBLE_DEVICES= to use the CPU"
            ) from error
    vocabulary = Vocabulary(tokenizer, model.config.get_text_config().vocab_size, _ends(model, tokenizer))
    return _Loaded(model, tokenizer, vocabulary, MOST_ROWS if on_gpu else _MOST_ROWS_CPU)


def _with_adapter(model: Any, folder: Path, tokens: int) -> Any:
    """The base with an adapter merged into it, which makes it as fast as a full model."""
    from peft import PeftModel

    if tokens > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(tokens)  # training added tokens
    try:
        adapted: Any = PeftModel.from_pretrained(model, str(folder))
        return adapted.merge_and_unload().eval()
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(
            f"the adapter {folder} does not fit its base: {said}. Name the base it was trained on"
        ) from error


def _ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """The tokens that end a turn, by the tokenizer and by the model's generation config."""
    listed = getattr(model.generation_config, "eos_token_id", None)
    configured = listed if isinstance(listed, list) else [listed]
    return frozenset(token for token in [tokenizer.eos_token_id, *configured] if token is not None)


def _settle(answer: Future[Completion], outcome: Completion | Exception) -> None:
    try:
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)
    except InvalidStateError:
        return  # nobody waits for it any more


def _explained(error: Exception, folder: Path) -> ClusterR1Error:
    """An error of torch or of a chat template as one of ours."""
    if isinstance(error, ClusterR1Error):
        return error
    said = " ".join(redact(str(error)).split())[:300] or type(error).__name__
    if type(error).__name__ == "OutOfMemoryError" or "not enough memory" in said:
        return ModelError(
            f"{folder} ran out of memory: {said}. "
            "Use fewer or shorter texts, a lower concurrency, or a smaller model"
        )
    return ModelError(f"{folder} failed: {said}")
