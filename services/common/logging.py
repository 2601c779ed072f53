"""One line a fact: JSON where a program reads, columns where a person does, the same chain for every library.

Standard-library loggers (Faust, aiohttp, librdkafka) pass through structlog's formatter, so that a log file has one
shape. A message is a plain sentence that operators can search for; what varies stands beside it as named values.

Two things stand on a line without being said there. What the *process* is (service, region, incarnation, epoch) is one
table for all threads: context variables would be empty in the threads of Kafka's client. What the *request* is
(trace, span, ranking, event) is one context variable that is only read when there is a line to write: binding each
value for each request would cost more than the request's spans do.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Final, Protocol, TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor


class RequestFields(Protocol):
    """The request that a line is about."""

    def log_fields(self) -> Mapping[str, object]:
        """What to say of it: ids, and nothing that an app or a user chose."""


current_request: Final[ContextVar[RequestFields | None]] = ContextVar("current_request", default=None)
_process: dict[str, object] = {}


def configure(service: str, level: str = "info", stream: TextIO | None = None) -> None:
    """Set up all logging of this process once; further calls replace what was set up before."""
    output = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        add_place,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]
    renderer: Processor = structlog.processors.JSONRenderer(ensure_ascii=False)
    if output.isatty():
        renderer = structlog.dev.ConsoleRenderer()
        shared.remove(structlog.processors.format_exc_info)
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(0),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    _process.clear()
    bind_process(service=service)


def bind_process(**fields: object) -> None:
    """Let every further line of this process, of any thread, say this; a value of None is no longer said.

    `region` and `incarnation` are said from the start, `epoch` ([generation, revision]) by whoever hears of it, at
    every change. A line that says one of them itself is left alone.
    """
    for name, value in fields.items():
        if value is None:
            _process.pop(name, None)
        else:
            _process[name] = value


def add_place(_: object, __: str, line: EventDict) -> EventDict:
    """Say on a line which process it is from, and which request it is about."""
    for name, value in _process.items():
        line.setdefault(name, value)
    request = current_request.get()
    if request is not None:
        for name, value in request.log_fields().items():
            line.setdefault(name, value)
    return line


def get_logger(name: str) -> FilteringBoundLogger:
    """Return a logger; `name` is the module's."""
    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger
