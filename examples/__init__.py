"""Examples that run on their own: servers to put the sidecar in front of."""
