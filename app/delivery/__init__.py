"""Delivery: the only outbound HTTP. Outbox, lanes, retry schedule, address guard, signing. See deliverer.py."""
