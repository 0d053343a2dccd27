"""What outlives a call: shelves for answers. The only importers of aiocache and redis."""
