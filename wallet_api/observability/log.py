"""The log on stdout: a line for each request and each other event, as JSON or as text.

Every line has a time, a level and an event, which is "request" for requests. Fields without a value are left out.
"""

import json
import logging
import os
import time
import traceback
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii

from wallet_api.observability.record import Record, current_id

_STDOUT = 1
# Linux writes this much to a pipe atomically, so that lines of several workers do not mix.
_MOST_BYTES = 4096
# Longest text from a client, in characters; JSON may turn each into 12.
_MOST_CHOSEN = 128

_is_text = False


def begin(form: str) -> None:
    """Starts logging to stdout. `form` is `json`, `text`, or `auto`: text on a terminal, otherwise json."""
    global _is_text
    _is_text = os.isatty(_STDOUT) if form == "auto" else form == "text"
    with suppress(OSError):  # stdout is closed
        os.set_blocking(_STDOUT, True)
    logging.root.handlers = [_Handler()]
    for name in ("uvicorn", "wallet_api"):  # of the others, warnings
        logging.getLogger(name).setLevel(logging.INFO)


def write_requests(records: Iterable[Record]) -> None:
    """Writes a line for each ended request."""
    moment = _moment(time.time())
    lines = [_request(moment, record) for record in records]
    _write([_text(json.loads(line)) for line in lines] if _is_text else lines)


def _request(moment: str, record: Record) -> str:
    """The JSON line of a request. Built by hand, because every payment needs one and json takes twice as long."""
    line = (
        f'{{"time":"{moment}","level":"{_level(record.status)}","event":"request","request_id":"{record.id}",'
        f'"client":{_quoted(record.client)},"method":"{record.method}","route":"{record.route}"'
    )
    if record.path != record.route:
        line += f',"path":{_quoted(record.path)}'
    line += f',"status":{record.status},"ms":{record.seconds * 1000:.3f}'
    if record.waited:
        line += f',"waiting_ms":{record.waited * 1000:.3f}'
    if record.database:
        line += f',"database_ms":{record.database * 1000:.3f}'
    if record.batch:
        line += f',"batch":{record.batch}'
    if record.code:
        line += f',"code":"{record.code}"'
    if record.payment_id:
        line += f',"payment_id":{record.payment_id}'
    if record.key:
        line += f',"key":{_quoted(record.key)}'
    return line + "}"


def _level(status: int) -> str:
    return "info" if status < 500 else "error" if status == 500 else "warning"


def _quoted(chosen: str) -> str:
    return encode_basestring_ascii(chosen[:_MOST_CHOSEN])


class _Handler(logging.Handler):
    """Writes the records of all loggers."""

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line. A traceback becomes a field."""
        try:
            level, event = record.levelname.lower(), record.getMessage().strip()
            fields: dict[str, object] = {"time": _moment(record.created), "level": level, "event": event}
            if request_id := current_id.get():
                fields["request_id"] = request_id
            if record.exc_info and record.exc_info[1]:
                fields["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
            _write([_fitting(fields)])
        except Exception:
            self.handleError(record)


def _fitting(fields: dict[str, object]) -> str:
    """A line short enough for an atomic write. Texts lose their beginning, as the end says what happened."""
    while True:
        line = _text(fields) if _is_text else json.dumps(fields, separators=(",", ":"))
        if len(line.encode()) < _MOST_BYTES:
            return line
        name = max(fields, key=lambda name: len(str(fields[name])))
        text = str(fields[name])
        fields[name] = f"…{text[len(text) // 4 + 1 :]}"


def _text(fields: dict[str, object]) -> str:
    """A text line: the event, then the other fields by name.

    Further lines of the event, and a traceback, follow in their usual form. They are indented, so that nothing in them,
    such as the text of an exception, can be taken for a line of the log.
    """
    others = fields.copy()
    moment, level, event = [str(others.pop(name)) for name in ("time", "level", "event")]
    more = str(others.pop("traceback", "")).splitlines()
    if event == "request":
        method, route, status = [str(others.pop(name)) for name in ("method", "route", "status")]
        event = f"{method} {others.pop('path', route)} {status}"
    elif not event.isprintable():
        event, *following = event.splitlines()
        more = [*following, *more]
    words = [moment, f"{level.upper():<7}", event, *[f"{name}={value}" for name, value in others.items()]]
    return "\n".join((printable(" ".join(words)), *[f"    {printable(line.expandtabs(4))}" for line in more]))


def printable(text: str) -> str:
    """A text as one line for a terminal. Escapes unprintable characters as Python does."""
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() else char.encode("unicode_escape").decode() for char in text])


def _moment(seconds: float) -> str:
    """Seconds since 1970 as an RFC 3339 timestamp."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _write(lines: Iterable[str]) -> None:
    """Writes lines, joined into pieces of up to _MOST_BYTES."""
    pieces = [b""]
    for line in lines:
        written = line.encode() + b"\n"
        if len(pieces[-1]) + len(written) > _MOST_BYTES:
            pieces.append(b"")
        pieces[-1] += written
    for piece in pieces:
        # Keep serving if the log's reader is gone or the disk is full.
        with suppress(OSError):
            os.write(_STDOUT, piece)
