"""Events in, answers out: the only process that upstream apps talk to, and the only writer of the events log."""
