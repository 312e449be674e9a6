"""Agreement of a model's grouping of the example with each of the example's five label columns.

    python benchmark/example_agreement.py [--model embedding] [--by "the root cause of the problem"]

Without `--by` each column is asked for by an instruction of its own. A model that follows the instruction
agrees most with the column that was asked for (the diagonal).
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from cluster_r1 import ClusteringAgent
from cluster_r1.metrics import adjusted_mutual_info

EXAMPLES = Path(__file__).parent.parent / "examples"
INSTRUCTIONS = {
    "product": "the product the customer writes about",
    "root_cause": "the root cause of the problem",
    "tone": "the tone of the writer",
    "urgency": "how urgent it is for the customer",
    "request": "what the customer asks for",
}


def read(name: str) -> list[dict[str, str]]:
    """The rows of one of the example's files."""
    with (EXAMPLES / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main() -> None:
    """Print AMI: a row for each instruction, a column for each labelling."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="embedding")
    parser.add_argument("--by", help="one instruction instead of the five")
    arguments = parser.parse_args()
    messages, labels = read("support_messages.csv"), read("support_messages_labels.csv")
    agent = ClusteringAgent(arguments.model)
    columns = list(INSTRUCTIONS)
    print(f"AMI of {arguments.model} with the labels, {len(messages)} messages")
    print(f"| instruction | k | {' | '.join(columns)} |")
    print("| --- " * (len(columns) + 2) + "|")
    for instruction in [arguments.by] if arguments.by else INSTRUCTIONS.values():
        result = agent.cluster(messages, instruction)
        scores = [
            f"{adjusted_mutual_info([row[column] for row in labels], result.labels.tolist()):.2f}"
            for column in columns
        ]
        print(f"| {instruction} | {result.n_clusters} | {' | '.join(scores)} |", flush=True)


if __name__ == "__main__":
    main()
