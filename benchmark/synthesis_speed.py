"""Throughput, memory, and what crashes and rate limits cost the synthesis graph, as tables.

    python benchmark/synthesis_speed.py throughput [--attempts 2000] [--latency 0.2]
    python benchmark/synthesis_speed.py crashes [--kills 20]
    python benchmark/synthesis_speed.py limits [--seconds 60]

Run from the repository's root, with the test extras installed: a model server that knows the labels of the
example messages is started beside it (tests/fakes). Ideal is a server with 64 slots that are never idle.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import yaml

from cluster_r1 import SynthesisConfig, SynthesisGraph
from cluster_r1.benchmark.fake_server import ROOT, fake_server
from cluster_r1.synthesis.journal import JOURNAL

MESSAGES = ROOT / "examples" / "support_messages.csv"
SLOTS = 64
LATENCY = 0.1  # seconds, where crashes and limits are what is measured
START_UP = 1.5  # seconds until the command has begun

# Small slices; and every instruction is new, since the messages have five labels only.
SETTINGS: dict[str, Any] = {
    "texts": [10, 20],
    "k": [2, 5],
    "novelty": {"most_ami": 1.0, "most_similarity": 1.0, "tasks_a_family": 10**6},
    "split": {"validation": 0, "test": 0},
}


def throughput(attempts: int, latency: float) -> None:
    """How busy the server is kept, start and end of the run included."""
    with fake_server(latency, *_oracle()) as url, tempfile.TemporaryDirectory() as folder:
        runner = SynthesisGraph(
            f"vllm:fake@{url}",
            config=SynthesisConfig.model_validate(SETTINGS),
            cache=Path(folder) / "answers.sqlite",
            concurrency=SLOTS,
        )
        started, used = time.perf_counter(), time.process_time()
        result = runner.run(
            str(MESSAGES),
            tasks=10**9,
            most_attempts=attempts,
            out=Path(folder) / "out",
        )
        seconds, used = time.perf_counter() - started, time.process_time() - used
    calls = result.usage.calls
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print("\n| attempts | accepted | calls | latency | seconds | of ideal | own ms a call | MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    print(
        f"| {result.attempts:,} | {result.accepted:,} | {calls:,} | {latency:g} s | {seconds:.0f} "
        f"| {calls * latency / SLOTS / seconds:.2f} | {used / calls * 1e3:.1f} | {memory} |"
    )


def crashes(kills: int) -> None:
    """Kill the command again and again, at random moments, and compare with a run that was left alone."""
    chance = random.Random(0)
    done = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with fake_server(LATENCY, *_oracle()) as url:
            started = time.perf_counter()
            _command(url, folder, "alone").wait()
            seconds = time.perf_counter() - started
            alone = _calls(url)
        with fake_server(LATENCY, *_oracle()) as url:
            while done < kills:
                process = _command(url, folder, "killed")
                time.sleep(chance.uniform(START_UP, START_UP + 4 * seconds / kills))
                if process.poll() is not None:
                    break
                process.kill()
                process.wait()
                done += 1
            code = _command(url, folder, "killed").wait()
            killed = _calls(url)
        same = _files(folder / "alone") == _files(folder / "killed")
    print("\n| kills | exit code | same files | calls, left alone | calls, killed | answered before |")
    print("| --- | --- | --- | --- | --- | --- |")
    print(f"| {done} | {code} | {same} | {alone['calls']} | {killed['calls']} | {killed['asked_again']} |")


def limits(seconds: float) -> None:
    """A server that refuses every call for a while: the run waits, and comes to the same."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        took = {}
        for run, options in (("alone", []), ("refused", ["--refuse", "200", str(seconds)])):
            with fake_server(LATENCY, *_oracle(), *options) as url:
                started = time.perf_counter()
                code = _command(url, folder, run).wait()
                took[run] = time.perf_counter() - started
        same = _files(folder / "alone") == _files(folder / "refused")
    print("\n| refused for | seconds more than without | exit code | same files |\n| --- | --- | --- | --- |")
    print(f"| {seconds:.0f} s | {took['refused'] - took['alone']:.0f} | {code} | {same} |")


def _oracle() -> tuple[str, ...]:
    """A server that knows the labels of the example messages, always at the same address."""
    return "--oracle", str(MESSAGES), "--port", str(_free_port())


@cache
def _free_port() -> int:
    """The same for all servers, since tasks say which address they were made with."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _command(url: str, folder: Path, name: str) -> subprocess.Popen[bytes]:
    """The command in a process of its own, with a folder and a cache of its own."""
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(SETTINGS))
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "cluster_r1", "synthesize", str(MESSAGES), "--tasks", "150"),
            *("--model", f"vllm:fake@{url}", "--config", str(config), "--out", str(folder / name)),
        ],
        env=os.environ | {"CLUSTER_R1_CACHE": str(folder / f"{name}.sqlite")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _calls(url: str) -> dict[str, int]:
    found: dict[str, int] = httpx.get(url.replace("/v1", "/calls")).json()
    return found


def _files(folder: Path) -> dict[str, bytes]:
    """All rows of the data set; the journal also holds what was tried beyond the last task."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*.jsonl")
        if path.name != JOURNAL
    }


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("throughput", "crashes", "limits"))
    parser.add_argument("--attempts", type=int, default=2000)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    if arguments.what == "throughput":
        throughput(arguments.attempts, arguments.latency)
    elif arguments.what == "crashes":
        crashes(arguments.kills)
    else:
        limits(arguments.seconds)


if __name__ == "__main__":
    main()
