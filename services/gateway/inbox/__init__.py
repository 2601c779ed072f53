"""Kafka-native apps: one CloudEvent a record in `{inc}.inbox`, moved from there into frames of `{inc}.events`.

Reading, checking and packing need a core of their own at 50 thousand events a second, and rankings would wait for it.
So a worker process does them; the gateway gets whole frames and writes them the way it writes its own. See decision
0038 and `docs/concepts/inbox.md`.
"""
