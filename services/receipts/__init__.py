"""Receipts: what a lost or unreachable incarnation had acknowledged and nobody else holds, exactly."""
