"""The tables of measured promises: `python -m benchmarks TOPIC`."""
