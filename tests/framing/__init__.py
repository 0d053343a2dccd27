"""Hostile HTTP from both sides, and what comes out at the other (docs/framing.md)."""
