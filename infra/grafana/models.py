"""What ranks, where it ranks, how fast, and how often it was not the model."""

from infra.grafana.shapes import BAD_AT_ONE, GREEN, OR_ZERO, RED, YELLOW, Board, Panel, Query, Row

_WHICH = (
    Panel(
        1,
        "Versions that serve",
        "By region and role. All regions should have the same champion.",
        (Query("max by (region, model, role, version) (meridian_inference_role_info == 1)"),),
        kind="table",
        columns=("region", "model", "role", "version"),
        width=8,
    ),
    Panel(
        2,
        "Answers without the model",
        "Share of rankings that the worker should have made and did not.",
        (Query(f"region:asks_off_model:ratio_rate1m {OR_ZERO}", "{{region}}"),),
        unit="percentunit",
        steps=((None, GREEN), (0.01, YELLOW), (0.05, RED)),
    ),
    Panel(
        3,
        "Rankings by rung",
        "A second: by the model, by streaming counters, by popularity.",
        (
            Query(
                f"sum by (region, rung) (rate(meridian_gateway_rankings_served_total[1m])) {OR_ZERO}",
                "{{region}} {{rung}}",
            ),
        ),
        unit="ops",
        stacked=True,
    ),
    Panel(
        7,
        "Why not the model",
        "Answers a second that stepped down, by reason.",
        (Query("sum by (region, why) (rate(meridian_step_downs_total[1m]))", "{{region}} {{why}}"),),
        unit="ops",
    ),
    Panel(
        9,
        "Degraded",
        "1 while a worker answers, but not from the version or device that was asked for.",
        (Query("max by (region) (meridian_inference_degraded)", "{{region}}"),),
        steps=BAD_AT_ONE,
    ),
    Panel(
        11,
        "Devices",
        "What was asked for, and what runs.",
        (Query("max by (region, requested, actual) (meridian_inference_device_info == 1)"),),
        kind="table",
        columns=("region", "requested", "actual"),
        width=8,
    ),
)

_FAST = (
    Panel(
        4,
        "Stages of an answer (p99)",
        "log: waiting in Kafka; wait: for a read token; then features, score, the whole.",
        (Query("region:ask_stage_seconds:p99_rate1m >= 0 " + OR_ZERO, "{{region}} {{stage}}"),),
        unit="s",
    ),
    Panel(
        6,
        "In the worker (p99)",
        "Waiting for a batch, and computing it.",
        (
            Query(f"region:inference_queue_seconds:p99_rate1m >= 0 {OR_ZERO}", "{{region}} waits"),
            Query(f"region:inference_compute_seconds:p99_rate1m >= 0 {OR_ZERO}", "{{region}} computes"),
        ),
        unit="s",
    ),
    Panel(
        5,
        "Requests in a batch",
        "1 all the time: batching has nothing to do, or does nothing.",
        (Query(f"region:inference_batch_rows:avg_rate1m >= 0 {OR_ZERO}", "{{region}}"),),
    ),
    Panel(
        10,
        "Rows that wait",
        "Of at most as many as the bound says; beyond it requests are refused.",
        (
            Query("max by (region) (meridian_inference_queue_rows)", "{{region}}"),
            Query("max(meridian_inference_queue_rows_max)", "bound"),
        ),
    ),
    Panel(
        14,
        "Asks",
        "A second, by how they ended.",
        (Query(f"region:asks:rate1m {OR_ZERO}", "{{region}} {{outcome}}"),),
        unit="ops",
    ),
    Panel(
        8,
        "Not run",
        "Requests a second that the worker refused or gave up, by reason.",
        (
            Query(
                f"sum by (region, code) (rate(meridian_inference_problems_total[1m])) {OR_ZERO}", "{{region}} {{code}}"
            ),
        ),
        unit="ops",
    ),
)

_CARRIED = (
    Panel(
        12,
        "Versions loaded",
        "Within an hour, by outcome. A refused one stays refused until somebody looks.",
        (
            Query(
                "sum by (region, model, outcome) (increase(meridian_inference_model_loads_total[1h]))",
                "{{region}} {{model}} {{outcome}}",
            ),
        ),
    ),
    Panel(
        13,
        "Memory",
        "Of the worker and of the processor.",
        (
            Query(
                'max by (region, process) (process_resident_memory_bytes{process=~"inference|processor"})',
                "{{region}} {{process}}",
            ),
        ),
        unit="bytes",
    ),
    Panel(
        15,
        "Items in the catalogue",
        "What can be ranked at all.",
        (Query("max by (region) (meridian_catalogue_items)", "{{region}}"),),
    ),
)

MODELS = Board(
    "meridian-models",
    "Meridian: Models",
    "Which version ranks where, how fast, and how often it was not the model.",
    (
        Row("What ranks", _WHICH),
        Row("How fast", _FAST),
        Row("What it takes", _CARRIED),
    ),
)
