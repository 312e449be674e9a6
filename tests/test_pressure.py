"""Under pressure: servers that are overloaded, limits by the minute, and budgets in dollars."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sqlite3
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from cluster_r1.agents.clustering.proposer import Proposer, ProposerInput
from cluster_r1.agents.ledger import Ledger
from cluster_r1.agents.models import event_loop
from cluster_r1.agents.models.cache import ResponseCache, request_key
from cluster_r1.agents.models.messages import ChatAnswer, ChatRequest
from cluster_r1.agents.models.opening import ModelOptions, open_model
from cluster_r1.agents.models.pace import Limits, Pace, PacedCall, Pacer, shared_pace
from cluster_r1.agents.models.reasoning_chat_model import ReasoningChatModel, read_message
from cluster_r1.agents.models.retries import RetryPolicy, with_retries
from cluster_r1.agents.models.specs import ModelSpec
from cluster_r1.agents.reasoning_node import LanguageModelNode
from cluster_r1.errors import BudgetError, InputError, ModelError
from cluster_r1.graphs.synthesis.accounts import RoleLedger
from cluster_r1.price import Price
from cluster_r1.prompts import Message
from cluster_r1.types import Usage
from tests.fakes.openai_server import Answer, FakeOpenAI, Reply

STUBBORN = RetryPolicy(attempts=1000, first_wait=0.001, longest_wait=0.02)
SLOW_DOWN = Reply(status=429, headers={"Retry-After": "0"}, error="slow down")
LONG = 60  # seconds after which a test that hangs has failed

QUICK = settings(max_examples=100, deadline=None)


class HttpError(Exception):
    """What a client raises for a status."""

    def __init__(self, status: int) -> None:
        self.status_code = status


def opened(server: FakeOpenAI, name: str = "fake", **options: Any) -> ReasoningChatModel:
    spec = ModelSpec.parse(f"vllm:{name}@{server.url}")
    return open_model(spec, ModelOptions(**{"retries": STUBBORN, **options}), None)


def request(number: int = 0, prompt: str = "hello") -> ChatRequest:
    return ChatRequest((Message("user", prompt),), None, number)


async def answers(model: ReasoningChatModel, count: int) -> list[ChatAnswer]:
    """Those to so many requests, all made at once."""
    return await asyncio.gather(*(model.answer(request(number)) for number in range(count)))


def soon(coroutine: Any) -> Any:
    """The result of a coroutine that must not hang; it runs where the agent's calls do."""
    return event_loop.run(asyncio.wait_for(coroutine, LONG))


async def begun(pace: Pace, count: int) -> list[PacedCall]:
    calls = [pace.call() for _ in range(count)]
    for call in calls:
        await call.attempt(0).__aenter__()
    return calls


async def ended(call: PacedCall, status: int | None = None) -> None:
    error = HttpError(status) if status else None
    await call.__aexit__(type(error) if error else None, error, None)


# --- how many calls are under way


def test_the_limit_falls_while_the_server_is_overloaded_and_grows_again(server: FakeOpenAI) -> None:
    async def run() -> None:
        model = opened(server, concurrency=8)
        pace = shared_pace(server.url, Limits(8))
        refused: list[tuple[int, int]] = []

        def reply(role: str, answer: Answer, call: int) -> Reply:
            if len(refused) >= 60:
                return Reply("fine")
            refused.append((pace.limit, server._at_once))
            return SLOW_DOWN

        server.behaviour = reply
        server.latency = 0.002
        assert pace.limit == 8
        assert [answer.text for answer in await answers(model, 150)] == ["fine"] * 150
        assert server.most_at_once == 8  # it began at full width
        assert refused[-1] == (1, 1)
        assert pace.limit == 8
        assert pace.under_way == 0

    soon(run())


def test_calls_that_were_under_way_together_halve_the_limit_once() -> None:
    async def run() -> None:
        pace = Pace(Limits(16))
        calls = await begun(pace, 16)
        for call in calls[:8]:
            await ended(call, 429)
        assert pace.limit == 8
        later = pace.call()  # waits: as many as may be are still under way
        waiting = asyncio.ensure_future(later.attempt(0).__aenter__())
        await asyncio.sleep(0)
        assert not waiting.done()
        for call in calls[8:]:
            await ended(call, 503)
        assert pace.limit == 8
        await waiting
        await ended(later, 503)
        assert pace.limit == 4
        assert pace.under_way == 0

    asyncio.run(run())


@pytest.mark.parametrize("status", [400, 401, 408, 500, 502])
def test_other_failures_say_nothing_about_the_limit(status: int) -> None:
    async def run() -> None:
        pace = Pace(Limits(4))
        for call in await begun(pace, 4):
            await ended(call, status)
        assert (pace.limit, pace.under_way) == (4, 0)

    asyncio.run(run())


def test_the_limit_grows_by_about_one_for_as_many_answers_as_it_is_wide() -> None:
    async def run() -> None:
        pace = Pace(Limits(20))
        await ended((await begun(pace, 1))[0], 429)
        assert pace.limit == 10
        for _ in range(10):
            await ended((await begun(pace, 1))[0])
        assert pace.limit == 10  # a little less than one
        await ended((await begun(pace, 1))[0])
        assert pace.limit == 11
        for _ in range(1000):
            await ended((await begun(pace, 1))[0])
        assert pace.limit == 20

    asyncio.run(run())


def test_the_limit_never_falls_below_one() -> None:
    async def run() -> None:
        pace = Pace(Limits(3))
        for _ in range(10):
            await ended((await begun(pace, 1))[0], 429)
        assert (pace.limit, pace.under_way) == (1, 0)

    asyncio.run(run())


def test_a_storm_of_refusals_loses_nothing_and_ends(server: FakeOpenAI) -> None:
    begun_at: list[float] = []

    def reply(role: str, answer: Answer, call: int) -> Reply:
        begun_at.append(time.monotonic())
        return SLOW_DOWN if begun_at[-1] < begun_at[0] + 1.0 else Reply(f"answer {call}")

    async def run() -> None:
        model = opened(server, concurrency=32)
        pace = shared_pace(server.url, Limits(32))
        assert len({answer.text for answer in await answers(model, 300)}) == 300
        assert pace.under_way == 0
        assert pace.limit > 1

    server.behaviour = reply
    soon(run())
    assert begun_at[-1] > begun_at[0] + 1.0


def test_a_call_that_waits_to_be_repeated_holds_no_slot(server: FakeOpenAI) -> None:
    async def run() -> None:
        model = opened(server, concurrency=1)
        first = asyncio.create_task(model.answer(request(0)))
        while server.calls == 0:
            await asyncio.sleep(0.001)
        assert (await asyncio.wait_for(model.answer(request(1)), LONG / 2)).text == "fine"
        assert not first.done()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)

    wait = Reply(status=429, headers={"Retry-After": str(2 * LONG)}, error="slow down")
    server.behaviour = lambda role, answer, call: Reply("fine") if call else wait
    soon(run())


def test_patience_does_not_count_the_wait_for_a_turn() -> None:
    calls: list[int] = []

    async def call() -> str:
        calls.append(0)
        await asyncio.sleep(0.05)
        if len(calls) < 3:
            raise HttpError(503)
        return "done"

    policy = RetryPolicy(attempts=9, first_wait=0.001, longest_wait=0.001, patience=0.04)
    assert asyncio.run(with_retries(call, policy, "m", lambda: 3600.0)) == "done"
    calls.clear()
    with pytest.raises(ModelError):
        asyncio.run(with_retries(call, policy, "m"))


def test_a_cancelled_call_gives_its_slot_back(server: FakeOpenAI) -> None:
    async def run() -> None:
        model = opened(server, concurrency=1)
        under_way, waiting = (asyncio.create_task(model.answer(request(n))) for n in range(2))
        while server.calls == 0:
            await asyncio.sleep(0.001)
        for task in (waiting, under_way):
            task.cancel()
        await asyncio.gather(under_way, waiting, return_exceptions=True)
        server.latency = 0.0
        assert (await model.answer(request(2))).text
        assert shared_pace(server.url, Limits(1)).under_way == 0
        while server._at_once:  # the server does not know that nobody listens
            await asyncio.sleep(0.01)

    server.latency = 0.3
    soon(run())
    assert server.calls == 2  # the one that waited was never sent


def test_a_slot_that_is_handed_to_a_cancelled_call_goes_on_to_the_next() -> None:
    async def run() -> None:
        pace = Pace(Limits(1, requests_per_minute=60_000))
        (first,) = await begun(pace, 1)
        second, third = (asyncio.ensure_future(pace.call().attempt(0).__aenter__()) for _ in range(2))
        await asyncio.sleep(0.01)
        await ended(first)
        second.cancel()  # its turn has come, but it does not know yet
        await third
        assert second.cancelled()
        assert pace.under_way == 1

    soon(run())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("per_minute", [None, 600_000])
def test_no_slot_is_lost_whatever_is_cancelled(seed: int, per_minute: int | None) -> None:
    chance = random.Random(seed)

    async def run() -> None:
        pace = Pace(Limits(5, per_minute, per_minute))

        async def work() -> None:
            async with pace.call().attempt(chance.randrange(5)) as call:
                assert pace.under_way <= 5
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                call.used(chance.randrange(5))

        tasks = [asyncio.create_task(work()) for _ in range(300)]
        while not all(task.done() for task in tasks):
            chance.choice(tasks).cancel()
            await asyncio.sleep(0)
        failures = [task.exception() for task in tasks if not task.cancelled()]
        assert failures  # some came through
        assert not any(failures)
        assert pace.under_way == 0
        await begun(pace, 5)
        assert not pace._waiting

    soon(run())


def test_calls_begin_in_the_order_in_which_they_come() -> None:
    order: list[int] = []

    async def run() -> None:
        pace = Pace(Limits(2, requests_per_minute=60_000))

        async def work(number: int) -> None:
            async with pace.call().attempt(0):
                order.append(number)
                await asyncio.sleep(0)

        await asyncio.gather(*(work(number) for number in range(50)))

    soon(run())
    assert order == list(range(50))


def test_models_at_one_endpoint_share_its_limit(server: FakeOpenAI) -> None:
    async def run() -> None:
        models = [opened(server, name, concurrency=3) for name in ("fake", "other")]
        await asyncio.gather(*(answers(model, 15) for model in models))
        assert server.most_at_once == 3
        server.most_at_once = 0
        await asyncio.gather(answers(models[0], 15), answers(opened(server, concurrency=4), 15))
        assert server.most_at_once > 4  # who set other limits has them to himself

    server.served = ["fake", "other"]
    server.latency = 0.02
    soon(run())


def test_a_pace_keeps_no_closed_event_loop_alive(server: FakeOpenAI) -> None:
    model = opened(server, concurrency=2, requests_per_minute=1)
    kept: list[weakref.ref[Any]] = []

    async def run() -> None:
        pace = model._pace()
        assert shared_pace(server.url, Limits(2, requests_per_minute=1)) is pace
        kept.extend([weakref.ref(pace), weakref.ref(asyncio.get_running_loop())])
        await begun(pace, 1)
        waiting = [asyncio.create_task(begun(pace, 1)) for _ in range(9)]
        await asyncio.sleep(0)
        assert pace._timer is not None
        assert not any(task.done() for task in waiting)  # left to the loop to cancel

    asyncio.run(run())
    gc.collect()
    assert [reference() for reference in kept] == [None, None]


# --- calls and tokens a minute


def test_amounts_are_spaced_evenly_without_a_burst() -> None:
    pacer = Pacer(per_minute=30)
    assert pacer.free_at <= 100.0
    pacer.take(1, now=100.0)
    assert pacer.free_at == 102.0
    pacer.take(1, now=102.0)
    assert pacer.free_at == 104.0
    pacer.take(3, now=500.0)  # what was not used before is not saved up
    assert pacer.free_at == 506.0
    pacer.charge(2)
    assert pacer.free_at == 510.0
    pacer.charge(-4)
    assert pacer.free_at == 502.0


def test_no_limit_is_no_wait() -> None:
    pacer = Pacer(None)
    pacer.take(10**9, now=5.0)
    pacer.charge(10**9)
    assert pacer.free_at == 5.0


def test_a_pace_lets_nothing_begin_before_its_time() -> None:
    async def run() -> None:
        seconds = [1000.0]
        pace = Pace(Limits(9, requests_per_minute=60, tokens_per_minute=600), lambda: seconds[0])
        first, second = pace.call(), pace.call()
        await first.attempt(50).__aenter__()  # 5 s of tokens, 1 s of requests
        waiting = asyncio.ensure_future(second.attempt(1).__aenter__())
        seconds[0] = 1004.9
        pace._tick()
        await asyncio.sleep(0)
        assert not waiting.done()
        first.used(80)  # it had 8 s of tokens
        seconds[0] = 1007.9
        pace._tick()
        await asyncio.sleep(0)
        assert not waiting.done()
        seconds[0] = 1008.0
        pace._tick()
        await asyncio.sleep(0)
        assert waiting.done()
        await ended(first)
        await ended(second)

    soon(run())


@pytest.mark.parametrize("behaviour", ["perfect", "rate_limited"])
def test_requests_per_minute_are_kept_by_every_attempt(server: FakeOpenAI, behaviour: str) -> None:
    server.behaviour = behaviour
    spacing = 0.05
    model = opened(server, requests_per_minute=round(60 / spacing))
    came = time.monotonic()
    soon(answers(model, 5))
    passed = time.monotonic() - came
    assert server.calls == 5 if behaviour == "perfect" else server.calls > 5
    assert passed >= (server.calls - 1) * spacing


def test_a_refused_schema_counts_as_a_request(server: FakeOpenAI) -> None:
    server.refuses_schema = True
    model = opened(server, requests_per_minute=300)
    came = time.monotonic()
    soon(model.answer(ChatRequest((Message("user", "hello"),), {"type": "object"})))
    assert server.calls == 2
    assert time.monotonic() - came >= 0.2


@pytest.mark.parametrize("reported", [True, False])
@pytest.mark.parametrize(("prompt", "answer"), [(2000, 4), (4, 2000)])
def test_tokens_per_minute_are_kept_for_prompts_and_answers(
    server: FakeOpenAI, reported: bool, prompt: int, answer: int
) -> None:
    async def run() -> float:
        model = opened(server, tokens_per_minute=60_000)
        came = time.monotonic()
        await model.answer(request(0, "p" * prompt))
        await model.answer(request(1, "p" * prompt))
        return time.monotonic() - came

    server.reports_usage = reported
    server.behaviour = lambda role, perfect, call: Reply("a" * answer)
    assert soon(run()) >= server.tokens / 2 / 1000  # the first call's tokens


def test_an_answer_from_the_cache_waits_for_nothing(server: FakeOpenAI, tmp_path: Path) -> None:
    async def run() -> None:
        spec = ModelSpec.parse(server.spec)
        cache = ResponseCache(tmp_path / "kept.sqlite")
        model = open_model(spec, ModelOptions(concurrency=1, requests_per_minute=1), cache)
        first = await model.answer(request())
        hanging = asyncio.create_task(model.answer(request(1)))
        await asyncio.sleep(0)
        again = [await model.answer(request()) for _ in range(3)]
        assert all(answer.cached and answer.text == first.text for answer in again)
        assert not hanging.done()
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)
        cache.close()

    soon(run())
    assert server.calls == 1


@pytest.mark.parametrize("name", ["concurrency", "requests_per_minute", "tokens_per_minute"])
def test_a_limit_below_one_is_refused(server: FakeOpenAI, name: str) -> None:
    limits: dict[str, Any] = {name: 0}
    with pytest.raises(InputError, match=f"{name} is 0: give 1 or more"):
        opened(server, **limits)


# --- cached input tokens


def test_tokens_from_the_providers_cache_are_entered_apart(server: FakeOpenAI) -> None:
    server.cached_tokens = 30
    model = opened(server)
    message = model.invoke([{"role": "user", "content": "x" * 400}])
    assert isinstance(message, AIMessage)
    answer = read_message(message)
    assert (answer.input_tokens, answer.cached_input_tokens, answer.cached) == (100, 30, False)
    ledger = Ledger(price=Price(input=1.0, output=0.0, cached_input=0.1))
    for _ in range(2):
        ledger.record(answer)
    assert ledger.usage.cached_input_tokens == 60
    assert ledger.usage.input_tokens == 200
    assert ledger.usage.cost_usd == pytest.approx((140 * 1.0 + 60 * 0.1) / 1e6)


def test_no_more_tokens_come_from_a_cache_than_were_sent(server: FakeOpenAI) -> None:
    server.cached_tokens = 1_000
    answer = soon(opened(server).answer(request(0, "x" * 40)))
    assert answer.input_tokens == answer.cached_input_tokens == 10


def test_answers_that_were_stored_before_still_count(server: FakeOpenAI, tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path / "kept.sqlite")
    model = open_model(ModelSpec.parse(server.spec), ModelOptions(), cache)
    stored = {"text": "old", "reasoning": "", "finish_reason": "stop", "input_tokens": 5}
    stored |= {"output_tokens": 7, "reasoning_tokens": 3, "cached": False}
    key = request_key(model.spec, {}, request())
    with sqlite3.connect(cache.path) as file:
        file.execute("INSERT INTO answers VALUES (?, ?, ?)", (key, model.spec, json.dumps(stored)))
    answer = soon(model.answer(request()))
    assert answer == ChatAnswer("old", "", "stop", 5, 7, 3, cached=True)
    ledger = Ledger(price=Price(1, 1))
    ledger.record(answer)
    assert ledger.usage == Usage(saved_calls=1, saved_tokens=12, cost_usd=0.0)
    cache.close()


# --- prices


@pytest.mark.parametrize(
    ("written", "price"),
    [
        ("0.25/2", Price(0.25, 2.0)),
        ("0.25/2/0.025", Price(0.25, 2.0, 0.025)),
        (" 1 / 10. / .5 ", Price(1.0, 10.0, 0.5)),
        ("0/0", Price(0.0, 0.0)),
    ],
)
def test_prices_are_read_and_written_back(written: str, price: Price) -> None:
    assert Price.parse(written) == price
    assert Price.parse(str(price)) == price


@pytest.mark.parametrize(
    "written",
    ["", "1", "1/", "/2", "1/2/", "1/2/3/4", "-1/2", "1/-2", "a/b", "inf/1", "nan/1", "1e3/2", "$1/2"],
)
def test_what_is_no_price_is_refused_in_one_line(written: str) -> None:
    with pytest.raises(InputError, match=r"input/output.*0\.25/2/0\.025") as caught:
        Price.parse(written)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("prices", [(-1.0, 2.0), (1.0, -2.0), (1.0, 2.0, -0.1), (float("nan"), 1.0)])
def test_no_price_is_negative(prices: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="each 0 or more"):
        Price(*prices)


def test_cached_input_that_costs_more_than_input_is_a_slip() -> None:
    with pytest.raises(InputError, match="input/output/cached"):
        Price.parse("0.25/0.025/2")


def test_a_cost_is_the_sum_of_its_parts() -> None:
    assert Price(0.25, 2.0).cost(1_000_000, 500_000, 400_000) == 1.25
    assert Price(0.25, 2.0, 0.025).cost(1_000_000, 500_000, 400_000) == pytest.approx(1.16)


# --- budgets in dollars


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_that_is_none_is_refused(budget: float) -> None:
    with pytest.raises(InputError, match="--budget-usd"):
        Ledger(price=Price(1, 1), budget_usd=budget)


def test_a_budget_in_dollars_needs_a_price() -> None:
    with pytest.raises(InputError, match="price="):
        Ledger(budget_usd=1.0)


def test_dollars_that_are_left_bound_the_answer() -> None:
    ledger = Ledger(price=Price(1.0, 10.0, 0.1), budget_usd=0.01)
    assert ledger.limited
    assert ledger.allow(1_000, 10, "critic") == 900
    ledger.record(ChatAnswer("x", input_tokens=2_000, output_tokens=500, cached_input_tokens=1_000))
    assert ledger.usage.cost_usd == 0.0061
    assert ledger.allow(1_000, 10, "critic") == 290
    said = (
        r"the budget of \$0\.01 has \$0\.0039 left, and the critic needs about \$0\.00391.*"
        r"\(--budget-usd, budget_usd=\)"
    )
    with pytest.raises(BudgetError, match=said):
        ledger.allow(1_000, 291, "critic")
    with pytest.raises(BudgetError, match="--budget-usd"):
        ledger.allow(4_000, 0, "critic")


def test_the_smaller_of_two_budgets_counts_and_is_named() -> None:
    ledger = Ledger(1_500, price=Price(1.0, 10.0), budget_usd=0.01)
    assert ledger.allow(1_000, 10, "critic") == 500
    assert ledger.allow(500, 10, "critic") == 950
    with pytest.raises(BudgetError, match="--budget-tokens"):
        ledger.allow(1_000, 501, "critic")
    with pytest.raises(BudgetError, match="--budget-usd"):
        ledger.allow(100, 1_000, "critic")


def test_answers_that_cost_nothing_may_have_any_length() -> None:
    ledger = Ledger(price=Price(1.0, 0.0), budget_usd=0.001)
    assert ledger.allow(1_000, 10**9, "critic") is None
    with pytest.raises(BudgetError, match="--budget-usd"):
        ledger.allow(1_001, 0, "critic")


def test_a_cost_is_known_only_where_a_price_is() -> None:
    answer = ChatAnswer("x", input_tokens=1_000_000, output_tokens=1)
    for price, cost in ((None, None), (Price(0.3, 0.4), 0.3)):
        ledger = Ledger(price=price)
        ledger.record(answer)
        assert ledger.usage.cost_usd == cost
        assert not ledger.limited


@pytest.mark.parametrize(
    ("budgets", "option"),
    [
        ({"budget_usd": 0.002, "price": Price(1.0, 10.0)}, "--budget-usd"),
        ({"budget_usd": 0.002, "price": Price(1.0, 10.0), "budget_tokens": 10_000}, "--budget-usd"),
        ({"budget_usd": 1.0, "price": Price(1.0, 10.0), "budget_tokens": 1_000}, "--budget-tokens"),
    ],
)
def test_an_answer_that_was_cut_short_names_the_budget(budgets: dict[str, Any], option: str) -> None:
    async def run() -> None:
        ledger = RoleLedger(Ledger(most_answer_tokens=50_000, **budgets))
        assert ledger.limited
        async with ledger.hold(100, 10, "writer") as most:
            assert most is not None
            error = ledger.cut_short(most, "writer")
        assert error is not None
        assert f"left the writer {most} tokens" in str(error)
        assert option in str(error)
        assert ledger.cut_short(None, "writer") is None

    asyncio.run(run())


@QUICK
@given(
    calls=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 50), st.floats(0, 1)), max_size=30),
    budget=st.integers(1, 3_000),
    tokens=st.none() | st.integers(1, 3_000),
    cap=st.none() | st.integers(1, 200),
    price=st.sampled_from([Price(1.0, 10.0), Price(3.0, 0.1, 0.3), Price(2.0, 0.0), Price(0.0, 7.0)]),
)
def test_no_budget_is_exceeded_whatever_is_under_way_at_once(
    calls: list[tuple[int, int, float]], budget: int, tokens: int | None, cap: int | None, price: Price
) -> None:
    """Each call has a prompt, the least its answer needs, and the share of what it may have that it takes."""
    budget_usd = budget / 1e6

    async def run() -> None:
        ledger = Ledger(tokens, most_answer_tokens=cap, price=price, budget_usd=budget_usd)
        refused = 0

        async def call(prompt: int, least: int, share: float) -> None:
            nonlocal refused
            try:
                async with ledger.hold(prompt, least, "critic") as most:
                    await asyncio.sleep(0)
                    said = round(share * (1_000 if most is None else most))
                    ledger.record(ChatAnswer("x", input_tokens=prompt, output_tokens=said))
            except BudgetError:
                refused += 1

        await asyncio.gather(*(call(*about) for about in calls))
        used = ledger.usage
        assert used.calls + refused == len(calls)
        assert price.cost(used.input_tokens, used.output_tokens) <= budget_usd * (1 + 1e-12)
        assert tokens is None or used.total_tokens <= tokens
        left = Ledger(tokens, used, price=price, budget_usd=budget_usd)
        assert ledger._room(0) == left._room(0)  # nothing stays held

    soon(run())


def test_a_run_stops_before_it_would_spend_more_dollars(server: FakeOpenAI) -> None:
    texts = tuple(f"{label}: message {n}" for n in range(8) for label in ("late", "broken"))
    given = ProposerInput(instruction="by kind", texts=texts)
    price = Price.parse("1/10")

    async def spend(ledger: Ledger) -> None:
        node = LanguageModelNode(opened(server))
        for sample in range(100):
            await node.ask(Proposer(), given, texts=len(texts), round=0, ledger=ledger, sample=sample)

    free = Ledger(price=price)
    server.reports_usage = False  # a price needs counts, and then they are made here
    soon(LanguageModelNode(opened(server)).ask(Proposer(), given, texts=len(texts), round=0, ledger=free))
    server.reports_usage = True
    cost = free.usage.cost_usd
    assert cost is not None
    assert cost > 0
    ledger = Ledger(price=price, budget_usd=10 * cost)
    with pytest.raises(BudgetError, match="--budget-usd"):
        soon(spend(ledger))
    assert ledger.usage.cost_usd is not None
    assert cost < ledger.usage.cost_usd <= 10 * cost
    assert all("max_completion_tokens" in asked for asked in server.requests[1:])
