"""The board that is open all day: who is active, would a failover work now, how long would it take."""

from infra.grafana.shapes import BAD_AT_ONE, GREEN, GREY, OR_ZERO, RED, YELLOW, Board, Panel, Query, Row

_TOP = (
    Panel(
        1,
        "Active region",
        "The one that holds the lease with its gate open. None, or two: look at once.",
        (Query("region:active:max == 1", "{{region}}"),),
        kind="stat",
        steps=((None, RED), (1, GREEN)),
        words=(("1", "serves", GREEN),),
        width=4,
        height=5,
    ),
    Panel(
        2,
        "Epoch",
        "Revision of the leader's key: it grows with every term. The generation before it is 0 as a rule.",
        (Query('max(meridian_leader_epoch{process="controller"})', "epoch"),),
        kind="stat",
        width=4,
        height=5,
    ),
    Panel(
        3,
        "Regions ready to be promoted",
        "Passive, and sound by their own account. At 0 a failover would not happen.",
        (Query("deployment:regions_ready:sum", "ready"),),
        kind="stat",
        steps=((None, RED), (1, GREEN)),
        width=4,
        height=5,
    ),
    Panel(
        4,
        "Worst replication lag",
        "The longest that any copy has been behind its origin.",
        (Query("max(region:replication_lag_seconds:max)", "lag"),),
        kind="stat",
        unit="s",
        decimals=1,
        steps=((None, GREEN), (2, YELLOW), (5, RED)),
        width=4,
        height=5,
    ),
    Panel(
        5,
        "Canary age",
        "Since a search of the active region's own last came back: the end-to-end truth.",
        (Query("max(region:canary_age_seconds:min and on (region) region:active:max == 1)", "age"),),
        kind="stat",
        unit="s",
        decimals=1,
        steps=((None, GREEN), (10, YELLOW), (30, RED)),
        width=4,
        height=5,
    ),
    Panel(
        6,
        "Forecast of a failover",
        "How long rankings would pause if the active region were lost now, by whichever other would be soonest.",
        # Unknown is NaN, which Grafana would paint green: left out, it is "No data".
        (Query("min(meridian_rto_forecast_seconds >= 0 and on (region) region:active:max == 0)", "RTO"),),
        kind="stat",
        unit="s",
        decimals=1,
        steps=((None, GREEN), (8, YELLOW), (15, RED)),
        width=4,
        height=5,
    ),
)

_WHO = (
    Panel(
        7,
        "Who serves",
        "1 while the region is active with its gate open.",
        (Query("region:active:max", "{{region}}"),),
        kind="states",
        words=(("0", "passive", GREY), ("1", "serves", GREEN)),
        width=12,
    ),
    Panel(
        9,
        "Could take over",
        "By its own account: `meridian explain` says what stands against it.",
        (Query("region:promotable:max", "{{region}}"),),
        kind="states",
        words=(("0", "no", RED), ("1", "yes", GREEN)),
        width=12,
    ),
    Panel(
        8,
        "Terms begun",
        "How often the epoch changed within ten minutes. Each change was a pause of rankings.",
        (Query('max(changes(meridian_leader_epoch{process="controller"}[10m]))', "changes"),),
        steps=((None, GREEN), (4, RED)),
    ),
    Panel(
        14,
        "Lease left",
        "Until when the active region may act without asking again. Renewed three times a lease.",
        (Query("max by (region) (meridian_lease_remaining_seconds)", "{{region}}"),),
        unit="s",
    ),
    Panel(
        10,
        "Silence of the coordination store",
        "Since each region last heard it. Beyond its lease a region may not act.",
        (Query("region:coordination_silence_seconds:max", "{{region}}"),),
        unit="s",
        steps=((None, GREEN), (5, RED)),
    ),
)

_WHETHER = (
    Panel(
        15,
        "Canary: there and back",
        "Half of the searches came back within this time, 99 of 100 within the other.",
        (
            Query(
                "histogram_quantile(0.5, sum by (region, le) (rate(meridian_canary_latency_seconds_bucket[2m])))",
                "{{region}} p50",
            ),
            Query(
                "histogram_quantile(0.99, sum by (region, le) (rate(meridian_canary_latency_seconds_bucket[2m])))",
                "{{region}} p99",
            ),
        ),
        unit="s",
    ),
    Panel(
        16,
        "Canary: lost",
        "Share of the canary's searches that did not come back, over a minute.",
        (Query("region:canary_lost:ratio_rate1m", "{{region}}"),),
        unit="percentunit",
        steps=((None, GREEN), (0.2, RED)),
    ),
    Panel(
        17,
        "What a failover would be made of",
        "Seconds of detection, lease, replay and opening, by region.",
        (Query("max by (region, part) (meridian_rto_forecast_part_seconds)", "{{region}} {{part}}"),),
        unit="s",
        stacked=True,
    ),
    Panel(
        18,
        "Answers with an error",
        "Share of all requests that were answered with 5xx.",
        (Query(f"region:gateway_requests_failed:ratio_rate1m {OR_ZERO}", "{{region}}"),),
        unit="percentunit",
    ),
    Panel(
        12,
        "Rankings that were stopped",
        "By the fence, five minutes: made by a region that may not show them any more.",
        (Query("sum by (region, where) (increase(meridian_fenced_total[5m]))", "{{region}} {{where}}"),),
    ),
    Panel(
        11,
        "Receipts open",
        "Regions that were lost or left, and whose data is not settled yet.",
        (Query("max(meridian_receipts_open)", "open"),),
        steps=((None, GREEN), (1, YELLOW)),
    ),
)

_WHAT = (
    Panel(
        13,
        "Processes",
        "Whether each answers the scrape.",
        (Query("max by (region, process) (up)", "{{region}} {{process}}"),),
        kind="states",
        words=(("0", "down", RED), ("1", "up", GREEN)),
        width=12,
        height=10,
    ),
    Panel(
        19,
        "Alerts",
        "What fires or is about to.",
        (Query('ALERTS{alertname!=""} or label_replace(vector(0), "alertname", "none", "", "")'),),
        kind="table",
        columns=("alertname", "alertstate", "severity", "region", "process"),
        width=12,
        height=10,
    ),
    Panel(
        20,
        "Members of etcd",
        "2: leads, 1: follows a leader, 0: has none. Two of three must have one.",
        (Query("max by (region) (etcd_server_has_leader + etcd_server_is_leader)", "{{region}}"),),
        kind="states",
        words=(("0", "no leader", RED), ("1", "follows", GREY), ("2", "leads", GREEN)),
        width=8,
    ),
    Panel(
        21,
        "Slow disks under etcd",
        "99 of 100 writes to its log took less. Above half an election (0.5 s) leaders change.",
        (
            Query(
                "histogram_quantile(0.99, sum by (region, le) (rate(etcd_disk_wal_fsync_duration_seconds_bucket[2m])))",
                "{{region}}",
            ),
        ),
        unit="s",
        steps=((None, GREEN), (0.1, YELLOW), (0.5, RED)),
    ),
    Panel(
        22,
        "Paused by an operator",
        "While it is 1 nothing moves by itself.",
        (Query("max(meridian_paused)", "paused"),),
        steps=BAD_AT_ONE,
    ),
)

REGIONS = Board(
    "meridian-regions",
    "Meridian: Regions",
    "Who is active, would a failover work now, how long would it take, and is it serving.",
    (
        Row("", _TOP),
        Row("Who may act", _WHO),
        Row("Is it serving, and what would a loss cost", _WHETHER),
        Row("What runs", _WHAT),
    ),
)
