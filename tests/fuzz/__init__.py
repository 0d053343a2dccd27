"""Our own parsers, fed with what they were not made for (docs/framing.md): `make fuzz`."""
