"""Time, memory and tokens of corpora of growing size, as a table.

    python benchmark/corpus_speed.py [--texts 10000 100000] [--effort economy] [--latency 0]

Run from the repository's root, with the test extras; a fake model server is started beside it. Texts
have about 40 words, one of which says the group. Tokens are four characters, in the corpus and in prompts;
those expected are what `--dry-run` says. Of ideal: calls x latency / slots / seconds.
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import tempfile
import time
from pathlib import Path
from typing import Literal

from cluster_r1 import ClusteringAgent
from cluster_r1.benchmark.fake_server import fake_server
from cluster_r1.metrics import adjusted_rand

TOPICS = ("late", "broken", "billing", "praise", "login", "advice", "return", "spam")
WORDS = 38
EXAMPLE = Path(__file__).parent.parent / "examples" / "support_messages.csv"
SLOTS = 64  # calls under way at once
CHARACTERS_PER_TOKEN = 4  # as the fake server counts


def corpus(count: int) -> list[str]:
    """Texts of about 40 words of the example messages, which begin with their group."""
    chance = random.Random(count)
    words = sorted(set(re.findall(r"[a-z]+", EXAMPLE.read_text(encoding="utf-8").lower())))
    return [f"{chance.choice(TOPICS)}: {' '.join(chance.choices(words, k=WORDS))} {n}" for n in range(count)]


def measure(count: int, effort: Literal["economy", "thorough"], spec: str, latency: float) -> None:
    """Print a row."""
    texts = corpus(count)
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder) / "answers.sqlite"
        agent = ClusteringAgent(spec, effort=effort, cache=cache, concurrency=SLOTS)
        expected = agent.estimate(texts, "by topic")
        started = time.perf_counter()
        result = agent.cluster(texts, "by topic")
        seconds = time.perf_counter() - started
    truth = [text.partition(":")[0] for text in texts]
    there = sum(map(len, texts)) / CHARACTERS_PER_TOKEN
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    usage = result.usage
    busy = usage.calls * latency / SLOTS / seconds
    cells = (
        f"{count:,}",
        effort,
        f"{usage.calls} ({expected.calls})",
        f"{usage.input_tokens / there:.2f}",
        f"{usage.total_tokens:,} ({expected.tokens:,})",
        f"{seconds:.0f}",
        f"{seconds / count * 1e3:.2f}",
        f"{memory:,}",
        f"{adjusted_rand(truth, result.labels.tolist()):.3f}",
        f"{busy:.2f}" if latency else "-",
    )
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--effort", choices=("economy", "thorough"), default="economy")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    arguments = parser.parse_args()
    print(
        "| texts | effort | calls (expected) | tokens sent / in corpus | tokens in all (expected) | seconds "
        "| ms a text | MB | ARI | of ideal |"
    )
    print("|" + " --- |" * 10)
    with fake_server(arguments.latency) as url:
        for count in arguments.texts:
            measure(count, arguments.effort, f"vllm:fake@{url}", arguments.latency)


if __name__ == "__main__":
    main()
