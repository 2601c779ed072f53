"""Getting real servers (Java, Kafka) onto a bare machine, and running them as local processes."""
