"""The two-step job with distilabel, in an environment of its own:

    pip install "distilabel[openai]" requests beautifulsoup4
    python benchmark/two_step/distilabel_job.py --url http://127.0.0.1:8123/v1

One worker a step and batches of half the slots were the fastest setting: a step sends the calls of one batch
at once and takes the next when all are answered. Two workers a step were a third slower, four two thirds.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from job import CHECKER, WRITER, PeakMemory, make_rows, report, run_from_command_line

# Read on import: the data set that a run ends with is local, and a hub that can't be reached costs retries.
os.environ["HF_HUB_OFFLINE"] = "1"

import datasets
import rich
from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

STEPS = 2  # whose batches are under way together


def build_pipeline(url: str, rows: list[dict[str, Any]], slots: int, cache: Path) -> Pipeline:
    """The job as distilabel's steps."""

    def shared() -> dict[str, Any]:
        return {
            "llm": OpenAILLM(model="fake", base_url=url, api_key="none"),
            "input_batch_size": slots // STEPS,
        }

    with Pipeline(name="two-step-job", cache_dir=cache) as pipeline:
        load = LoadDataFromDicts(name="load", data=rows, batch_size=slots)
        writer = TextGeneration(
            name="write",
            system_prompt=WRITER,
            template="{{ texts }}",
            columns=["texts"],
            output_mappings={"generation": "instruction"},
            **shared(),
        )
        checker = TextGeneration(
            name="check",
            system_prompt=CHECKER,
            template="{{ texts }}\n\nInstruction: {{ instruction }}",
            columns=["texts", "instruction"],
            output_mappings={"generation": "verdict"},
            **shared(),
        )
        load >> writer >> checker
    return pipeline


def run_job(url: str, rows: int, slots: int) -> None:
    """Run the job in a folder of its own, so that no earlier run's cache can answer, and measure it."""
    rich.reconfigure(stderr=True)  # where its log goes, which is standard output unless told otherwise
    # It silences the line that `httpx` logs per request, but not yet that of its successor.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    memory = PeakMemory()
    with tempfile.TemporaryDirectory() as folder:
        datasets.config.HF_DATASETS_CACHE = Path(folder, "datasets")
        pipeline = build_pipeline(url, make_rows(rows), slots, Path(folder, "pipelines"))
        started = time.perf_counter()
        with memory.watched():
            distiset = pipeline.run()
        seconds = time.perf_counter() - started
        made = distiset["default"]["train"]
        complete = len({row["row"] for row in made if row["instruction"] and row["verdict"]})
    report(f"distilabel {version('distilabel')}", rows, slots, seconds, memory, complete)


if __name__ == "__main__":
    run_from_command_line(__doc__, run_job)
