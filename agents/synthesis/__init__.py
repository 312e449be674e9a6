"""The roles of the synthesis graph, one file each."""
