"""Systems under test: everything that can be asked to group the texts of a task."""
