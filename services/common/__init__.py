"""The floor that every process stands on: settings, clock, logs, metrics, health, problem documents, HTTP serving."""
