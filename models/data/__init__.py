"""What models learn from: cuts of the event log, splits by time, and cases changed on purpose."""
