"""What people are told: events on stdout, and counts."""
