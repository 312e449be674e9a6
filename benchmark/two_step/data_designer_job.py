"""The two-step job with NeMo Data Designer, in an environment of its own:

pip install data-designer
python benchmark/two_step/data_designer_job.py --url http://127.0.0.1:8123/v1
"""

from __future__ import annotations

import os
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from job import CHECKER, WRITER, PeakMemory, make_rows, report, run_from_command_line

# Read on import: a measurement reports to nobody, and keeps its settings out of the home folder.
os.environ["NEMO_TELEMETRY_ENABLED"] = "false"
os.environ.setdefault("DATA_DESIGNER_HOME", str(Path(tempfile.gettempdir(), "data-designer-home")))

import data_designer.config as dd
import pandas as pd
from data_designer.interface import DataDesigner

ROW_GROUP = 1000  # rows that are written out together


def build_config(rows: list[dict[str, Any]], slots: int) -> dd.DataDesignerConfigBuilder:
    """The job as Data Designer's columns; both ask one model, whose limit holds for them together."""
    parameters = dd.ChatCompletionInferenceParams(max_parallel_requests=slots)
    # The health check would be a call beyond the job's.
    model = dd.ModelConfig(
        alias="fake", model="fake", provider="fake", inference_parameters=parameters, skip_health_check=True
    )
    builder = dd.DataDesignerConfigBuilder(model_configs=[model])
    builder.with_seed_dataset(dd.DataFrameSeedSource(df=pd.DataFrame(rows)))
    builder.add_column(
        dd.LLMTextColumnConfig(
            name="instruction",
            model_alias="fake",
            system_prompt=WRITER,
            prompt="{{ texts }}",
        )
    )
    builder.add_column(
        dd.LLMTextColumnConfig(
            name="verdict",
            model_alias="fake",
            system_prompt=CHECKER,
            prompt="{{ texts }}\n\nInstruction: {{ instruction }}",
        )
    )
    return builder


def run_job(url: str, rows: int, slots: int) -> None:
    """Run the job in a folder of its own and measure it."""
    memory = PeakMemory()
    with tempfile.TemporaryDirectory() as folder:
        provider = dd.ModelProvider(name="fake", endpoint=url, provider_type="openai", api_key="none")
        designer = DataDesigner(artifact_path=folder, model_providers=[provider])
        designer.set_run_config(dd.RunConfig(buffer_size=ROW_GROUP, otel_metrics_port=None))
        config = build_config(make_rows(rows), slots)
        started = time.perf_counter()
        with memory.watched():
            results = designer.create(config, num_records=rows)
        seconds = time.perf_counter() - started
        complete = count_complete(results.load_dataset())
    report(f"data-designer {version('data-designer')}", rows, slots, seconds, memory, complete)


def count_complete(frame: pd.DataFrame) -> int:
    """How many of the rows that went in came out with both answers."""
    answers = frame[["instruction", "verdict"]]
    return int(frame.loc[(answers.notna() & (answers != "")).all(axis=1), "row"].nunique())


if __name__ == "__main__":
    run_from_command_line(__doc__, run_job)
