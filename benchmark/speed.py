"""Own time, throughput, start-up and embedding speed, as tables.

    python benchmark/speed.py [--runs 1000]

Run from the repository's root, with the test extras installed: a fake model server is started beside it. Own
time is what a run takes with a server that answers at once. Ideal throughput is that of 64 server slots
that are never idle; the column `collected` says what Python's garbage collector looks through: everything, or
only what came into being after start-up (`gc.freeze()`).
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gc
import statistics
import subprocess
import sys
import time

from cluster_r1 import ClusteringAgent
from cluster_r1.benchmark.fake_server import ROOT, fake_server

TEXTS = 50
CALLS_PER_RUN = 2  # proposer and critic
SLOTS = 64
LATENCY = 0.2  # seconds


def batch(salt: object) -> list[str]:
    """50 texts of about 20 words, unlike those of another salt."""
    return [
        f"{'abc'[n % 3]}: text {n} of {salt}, with some more words to make it as long as what people write, "
        "about twenty in all"
        for n in range(TEXTS)
    ]


def own_time(repeats: int = 30) -> None:
    """What one run takes with a server that answers at once."""
    with fake_server(0.0) as url:
        agent = ClusteringAgent(f"vllm:fake@{url}", cache=False)
        agent.cluster(batch("warm up"), "by topic")
        times = []
        for repeat in range(repeats):
            started = time.perf_counter()
            agent.cluster(batch(repeat), "by topic")
            times.append((time.perf_counter() - started) * 1e3)
    print(f"\nOwn time of a run of {TEXTS} texts, {CALLS_PER_RUN} calls, server's time included")
    print("| median ms | slowest ms |\n| --- | --- |")
    print(f"| {statistics.median(times):.0f} | {max(times):.0f} |")


def throughput(runs: int) -> None:
    """How busy many runs at once keep a server with 64 slots and 200 ms latency."""
    print(f"\n{runs} runs of {TEXTS} texts, {SLOTS} calls at once, server latency {LATENCY * 1e3:.0f} ms")
    print("| runs at once | collected | seconds | of ideal | own ms a run |\n| --- | --- | --- | --- | --- |")
    ideal = runs * CALLS_PER_RUN / SLOTS * LATENCY
    with fake_server(LATENCY) as url:
        agent = ClusteringAgent(f"vllm:fake@{url}", cache=False, concurrency=SLOTS)
        agent.cluster(batch("warm up"), "by topic")
        for collected in ("all", "new only"):
            if collected == "new only":
                gc.collect()
                gc.freeze()
            for at_once in (SLOTS, SLOTS * 3 // 2):
                started, used = time.perf_counter(), time.process_time()
                asyncio.run(_many(agent, runs, at_once))
                seconds, used = time.perf_counter() - started, time.process_time() - used
                print(
                    f"| {at_once} | {collected} | {seconds:.1f} | {ideal / seconds:.2f} "
                    f"| {used / runs * 1e3:.1f} |",
                    flush=True,
                )
        gc.unfreeze()


async def _many(agent: ClusteringAgent, runs: int, at_once: int) -> None:
    slots = asyncio.Semaphore(at_once)

    async def one(number: int) -> int:
        async with slots:
            return (await agent.acluster(batch(number), "by topic")).n_clusters

    found = await asyncio.gather(*(one(number) for number in range(runs)))
    assert set(found) == {3}


def start_up(repeats: int = 7) -> None:
    """Fresh processes: the help text and the import."""
    print("\nStart-up, median of fresh processes\n| what | ms |\n| --- | --- |")
    commands = {
        "python -c pass": ["-c", "pass"],
        "import cluster_r1": ["-c", "import cluster_r1"],
        "cluster-r1 --help": ["-m", "cluster_r1", "--help"],
    }
    for name, arguments in commands.items():
        times = []
        for _ in range(repeats):
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            times.append((time.perf_counter() - started) * 1e3)
        print(f"| {name} | {statistics.median(times):.0f} |")


def embedding() -> None:
    """The embedding baseline on copies of the example with a word changed, so that all texts differ."""
    with (ROOT / "examples" / "support_messages.csv").open(newline="", encoding="utf-8") as file:
        messages = [row["message"] for row in csv.DictReader(file)]
    print("\nEmbedding baseline\n| texts | seconds |\n| --- | --- |")
    agent = ClusteringAgent("embedding")
    agent.cluster(messages, "by topic")
    for count in (180, 2_000, 20_000):
        texts = [f"{messages[n % len(messages)]} {n}" for n in range(count)]
        started = time.perf_counter()
        agent.cluster(texts, "by topic")
        print(f"| {count} | {time.perf_counter() - started:.2f} |")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000, help="for the throughput")
    arguments = parser.parse_args()
    start_up()
    own_time()
    embedding()
    throughput(arguments.runs)


if __name__ == "__main__":
    main()
