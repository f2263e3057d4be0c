"""Brokers for tests and benchmarks, as child processes on free local ports."""
