"""An upstream app that publishes a log of real events through the public API, and judges the rankings it gets.

It is an app like any other: it uses the client library, knows no Kafka, and imports nothing of the region's
processes."""
