"""The result page of a benchmark run."""
