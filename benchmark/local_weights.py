"""Prefill and decode speed of the local model for each weight type that can be made from the shipped file.

    pip install gguf
    python benchmark/local_weights.py [--types F16 Q4_1 Q4_0 Q8_0] [--repeats 3]

The shipped weights (Q4_1) are rewritten in the other types: what the rounding to Q4_1 lost stays lost, so
speed differs, answers little. F16 holds the shipped weights exactly, so it comes first and is the reference:
`agreement` is the share of words, in greedy answers to eight prompts, up to the first that differs from its.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import urllib.request
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import gguf

from cluster_r1.agents.models import local_server

_PROMPT_TEXTS = 60
_DECODED = 128
_QUESTIONS = [
    "Name three kinds of weather.",
    "Write one sentence about a late parcel.",
    "What is the capital of France?",
    "Group these words: apple, hammer, pear, saw.",
    "Is 'I want my money back' polite?",
    "Explain what a refund is.",
    "List two reasons why a door lock fails.",
    "Say in five words what a thermostat does.",
]


@dataclass(frozen=True)
class Speed:
    """Medians over the repeats, in tokens a second; the size of the file in MB."""

    prefill: float
    decode: float
    answers: list[str]


def rewrite(source: Path, target: Path, wanted: gguf.GGMLQuantizationType) -> None:
    """Write the model with its quantised tensors in another type."""
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        value = field.contents()
        if isinstance(value, list):
            writer.add_array(name, value)
        else:
            writer.add_key_value(name, value, field.types[0])
    for tensor in reader.tensors:
        data, kind = tensor.data, tensor.tensor_type
        if len(tensor.shape) > 1:
            data = gguf.dequantize(tensor.data, tensor.tensor_type)
            data, kind = gguf.quantize(data, wanted), wanted
        writer.add_tensor(tensor.name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def ask(server: local_server.LocalServer, content: str, tokens: int) -> dict[str, Any]:
    """One greedy chat completion, past the server's prompt cache."""
    body = {
        "messages": [{"role": "user", "content": content}],
        "max_tokens": tokens,
        "temperature": 0,
        "cache_prompt": False,
    }
    request = urllib.request.Request(
        f"{server.url}/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {server.key}"},
    )
    with urllib.request.urlopen(request) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def measure(weights: Path, repeats: int) -> Speed:
    """Speed and answers of one weights file."""
    server = local_server.start(weights, local_server.CONTEXT_TOKENS)
    ask(server, "warm up", 8)
    timings = []
    for repeat in range(repeats):
        texts = [
            f"[{n}] parcel {n} of order {repeat}{n} came broken, send another" for n in range(_PROMPT_TEXTS)
        ]
        timings.append(ask(server, "Write a long report on these.\n" + "\n".join(texts), _DECODED)["timings"])
    answers = [ask(server, question, 48)["choices"][0]["message"]["content"] for question in _QUESTIONS]
    return Speed(
        prefill=statistics.median(t["prompt_per_second"] for t in timings),
        decode=statistics.median(t["predicted_per_second"] for t in timings),
        answers=answers,
    )


def in_a_process_of_its_own(weights: Path, repeats: int) -> Speed:
    """`measure`, with no other server in the process: an idle one costs the busy one speed."""
    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, weights, repeats).result()


def agreement(answers: list[str], reference: list[str]) -> float:
    """Mean share of words up to the first difference."""
    shares = []
    for one, other in zip(answers, reference, strict=True):
        words, wanted = one.split(), other.split()
        pairs = zip(words, wanted, strict=False)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        shares.append(same / max(len(wanted), 1))
    return statistics.mean(shares)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--types", nargs="+", default=["F16", "Q4_1", "Q4_0", "Q5_0", "Q8_0", "BF16"])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    shipped = local_server.find_weights()
    reference: list[str] | None = None
    print(f"threads: {local_server.thread_count()}")
    print("| weights | MB | prefill tokens/s | decode tokens/s | agreement |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.types:
            weights = shipped
            if name != "Q4_1":
                weights = Path(folder) / f"{name}.gguf"
                rewrite(shipped, weights, gguf.GGMLQuantizationType[name])
            speed = in_a_process_of_its_own(weights, arguments.repeats)
            reference = reference or speed.answers
            size = weights.stat().st_size / 1e6
            print(
                f"| {name} | {size:.0f} | {speed.prefill:.0f} | {speed.decode:.0f} "
                f"| {agreement(speed.answers, reference):.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
