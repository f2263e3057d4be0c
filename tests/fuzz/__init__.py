"""Noise against everything that reads what others wrote: `make fuzz` for a stated time, a few seconds of it with the tests."""
