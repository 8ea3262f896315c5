"""Structured logs: one line an event, with the request and task ids bound where they are known."""

import logging
from typing import Any

import structlog


def drop_repetition(logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
    """uvicorn says its messages twice, once in colour."""
    event.pop("color_message", None)
    return event


def tells_no_console(record: logging.LogRecord) -> bool:
    """uvicorn names a websocket's whole address, a console's ticket included, and below INFO shows
    every byte, what is typed into a console included. The relay has lines of its own."""
    return record.levelno >= logging.INFO and '"WebSocket %s"' not in str(record.msg)


def configure(log_format: str, level: str) -> None:
    """Send the standard library's and structlog's records through one formatter to stderr."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        drop_repetition,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if log_format == "json":
        ending: list[Any] = [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    else:
        # Plain: the fancier ones show local variables, and passwords among them.
        plain = structlog.dev.plain_traceback
        ending = [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=plain)]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # proxmoxer logs request bodies, passwords included, at INFO; the others only chatter there.
    for name in (
        "proxmoxer",
        "urllib3",
        "requests",
        "celery.beat",
        "celery.worker.strategy",
        "celery.worker.request",
        "celery.app.trace",
        "psycopg.pool",
        "asyncio",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A refusal is no news: the request's own line has its status.
    logging.getLogger("django.request").setLevel(logging.ERROR)
    # Middleware writes one line a request, with its ids; uvicorn's own would say it twice.
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("uvicorn.error").addFilter(tells_no_console)
