"""The LangGraph state machines, and the traces of their runs."""
