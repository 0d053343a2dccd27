"""What is this call, and how did it go? Decisions from values in hand: no IO, no clock, no log."""
