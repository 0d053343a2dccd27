"""One sidecar in front of one MCP server that nobody changes.

The rooms, in the order a request walks through them (`assembly.py` is the map):

    edge/      where bytes enter and leave
    layers/    whether, when and how often to ask on
    core/      what is this call, and how did it go? (decisions only)
    upstream/  what is known of the server behind
    stores/    what outlives a call
    signals/   what people are told
"""

__version__ = "0.1.0"
