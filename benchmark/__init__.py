"""Measurements of speed and quality; each script prints a table."""
