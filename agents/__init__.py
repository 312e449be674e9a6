"""The roles given to a reasoning model, and the reasoning nodes that play them."""
