"""The prompts: one Jinja2 template a role, and what loads them."""

from cluster_r1.prompts.template import Message, Template, load_template

__all__ = ["Message", "Template", "load_template"]
