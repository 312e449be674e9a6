"""Runs the synthesis graph in bulk: in order, within bounds, and so that nothing finished is lost."""
