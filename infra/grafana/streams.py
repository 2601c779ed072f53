"""From an app's event to the state of every region: taken, acknowledged, folded, copied; and what was not."""

from infra.grafana.shapes import BAD_AT_ONE, GREEN, OR_ZERO, RED, YELLOW, Board, Panel, Query, Row

_IN = (
    Panel(
        1,
        "Events taken",
        "Events a second by outcome: accepted, refused, or unknown to the app that said them.",
        (Query("region:gateway_events:rate1m", "{{region}} {{outcome}}"),),
        unit="ops",
    ),
    Panel(
        2,
        "Requests",
        "A second, by route.",
        (Query("region:gateway_requests:rate1m", "{{region}} {{route}}"),),
        unit="reqps",
    ),
    Panel(
        3,
        "Time to an answer (p99)",
        "99 of 100 requests were answered within it.",
        (Query("region:gateway_request_seconds:p99_rate1m", "{{region}} {{route}}"),),
        unit="s",
    ),
    Panel(
        4,
        "Refused",
        "Requests a second that were refused, by reason.",
        (
            Query(
                f"sum by (region, reason) (rate(meridian_gateway_refused_total[1m])) {OR_ZERO}", "{{region}} {{reason}}"
            ),
        ),
        unit="reqps",
    ),
    Panel(
        11,
        "Time to an acknowledgement (p99)",
        "From closing a frame to Kafka's word that it has it.",
        (
            Query(
                "histogram_quantile(0.99, sum by (region, le) "
                "(rate(meridian_gateway_frame_acknowledged_seconds_bucket[1m])))",
                "{{region}}",
            ),
        ),
        unit="s",
    ),
    Panel(
        12,
        "Frames not acknowledged",
        "Of all that were closed. Apps are told 503 or `unknown`, and send again.",
        (Query(f"region:frames_failed:ratio_rate1m >= 0 {OR_ZERO}", "{{region}}"),),
        unit="percentunit",
        steps=((None, GREEN), (0.001, RED)),
    ),
)

_FOLD = (
    Panel(
        5,
        "Behind its log",
        "Age of the newest folded record while others wait. 0: all is folded.",
        (Query("region:stream_lag_seconds:max", "{{region}}"),),
        unit="s",
        steps=((None, GREEN), (2, YELLOW), (10, RED)),
    ),
    Panel(
        13,
        "Records that wait for the fold",
        "By log; the name of kafka_exporter, so that its boards work too.",
        (Query("sum by (region, topic) (kafka_consumergroup_lag)", "{{region}} {{topic}}"),),
    ),
    Panel(
        14,
        "Records folded",
        "A second, of the own log and of copies.",
        (Query("region:records_folded:rate1m", "{{region}}"),),
        unit="ops",
    ),
)

_COPIES = (
    Panel(
        6,
        "Copies behind their origin",
        "For how long, by log. While an origin cannot be heard, as of the last contact.",
        (Query("max by (region, log) (meridian_replication_lag_seconds)", "{{region}} {{log}}"),),
        unit="s",
        steps=((None, GREEN), (2, YELLOW), (5, RED)),
    ),
    Panel(
        10,
        "Events that only one region has",
        "Acknowledged, and not held by the best peer yet: what a loss now would list.",
        (Query("max by (region) (meridian_gateway_unreplicated_events)", "{{region}}"),),
    ),
    Panel(
        7,
        "Records copied",
        "A second.",
        (Query("sum by (region) (rate(meridian_replication_records_total[1m]))", "{{region}}"),),
        unit="ops",
    ),
    Panel(
        15,
        "Since the origin was last heard",
        "By log. What was acknowledged after it, nobody here can know.",
        (
            Query(
                "max by (region, log) (timestamp(meridian_replication_last_contact_timestamp_seconds) "
                "- meridian_replication_last_contact_timestamp_seconds)",
                "{{region}} {{log}}",
            ),
        ),
        unit="s",
        steps=((None, GREEN), (5, RED)),
    ),
    Panel(
        16,
        "Bytes copied",
        "A second.",
        (Query("sum by (region) (rate(meridian_replication_bytes_total[1m]))", "{{region}}"),),
        unit="Bps",
    ),
    Panel(
        17,
        "Copies filled again",
        "How often a copy had lost records, in an hour.",
        (Query("sum by (region) (increase(meridian_replication_losses_total[1h]))", "{{region}}"),),
        steps=((None, GREEN), (1, YELLOW)),
    ),
)

_WRONG = (
    Panel(
        8,
        "Logs that do not hold what they should",
        "Alarms that are up now. What is concerned has stopped.",
        (
            Query("max by (region) (meridian_replication_alarms)", "{{region}} copies"),
            Query("max by (region) (meridian_log_cut)", "{{region}} processor"),
            Query("max by (region) (meridian_gateway_log_cut)", "{{region}} gateway"),
        ),
        steps=BAD_AT_ONE,
    ),
    Panel(
        9,
        "Dead letters",
        "Records that could not be read, within five minutes.",
        (Query("sum by (region) (increase(meridian_frames_dead_total[5m]))", "{{region}}"),),
        steps=BAD_AT_ONE,
    ),
    Panel(
        18,
        "Events that came twice",
        "Share of events that were known already: sent again, and counted once.",
        (
            Query(
                "sum by (region) (rate(meridian_events_duplicate_total[5m])) / (sum by (region) "
                "(rate(meridian_events_folded_total[5m])) "
                "+ sum by (region) (rate(meridian_events_duplicate_total[5m])) > 0)"
                f" {OR_ZERO}",
                "{{region}}",
            ),
        ),
        unit="percentunit",
    ),
    Panel(
        19,
        "Written, and lost on the way out",
        "Served events and rankings that the broker did not take, a second.",
        (
            Query("sum by (region) (rate(meridian_gateway_served_events_dropped_total[1m]))", "{{region}} served"),
            Query("sum by (region) (rate(meridian_rankings_undelivered_total[1m]))", "{{region}} rankings"),
        ),
        unit="ops",
    ),
    Panel(
        20,
        "Snapshots",
        "Since the last one. After a crash, what came since then is folded again.",
        (Query("max by (region) (meridian_snapshot_age_seconds)", "{{region}}"),),
        unit="s",
    ),
    Panel(
        21,
        "Records from the inbox",
        "Of apps that speak Kafka, a second, by outcome.",
        (
            Query(
                f"sum by (region, outcome) (rate(meridian_inbox_records_total[1m])) {OR_ZERO}", "{{region}} {{outcome}}"
            ),
        ),
        unit="ops",
    ),
    Panel(
        22,
        "Inbox not taken yet",
        "Age of the oldest record that an app put there. Longer than its retention, and it is lost.",
        (Query("max by (region) (meridian_inbox_lag_seconds)", "{{region}}"),),
        unit="s",
        steps=((None, GREEN), (30, RED)),
    ),
)

STREAMS = Board(
    "meridian-streams",
    "Meridian: Streams",
    "Events taken, acknowledged, folded and copied; what waits, and what went wrong.",
    (
        Row("Taken from apps", _IN),
        Row("Folded", _FOLD),
        Row("Copied to other regions", _COPIES),
        Row("What went wrong", _WRONG),
    ),
)
