"""The live student: a small causal network that mixes as the sampler does, with a latency of milliseconds."""
