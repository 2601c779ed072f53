"""Copying the logs of other regions, record for record, and knowing exactly how far."""
