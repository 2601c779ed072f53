"""What can go wrong in a replicator beyond what a flow ends with."""


class ReplicatorError(Exception):
    """Root of everything that the replicator raises on purpose."""


class KafkaSilent(ReplicatorError):
    """A Kafka did not answer a question; what it holds is not known. Try again."""


class HoleRefused(ReplicatorError):
    """A hole that an operator asked for cannot be accepted; the message says why, and what to do."""
