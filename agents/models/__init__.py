"""Reasoning models behind spec strings, with their retries, response cache and local servers."""
