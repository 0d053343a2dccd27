"""Where bytes enter and leave. The only importers of aiohttp."""
