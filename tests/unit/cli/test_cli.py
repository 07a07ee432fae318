"""The command line: flags, exit codes, output, what is asked before data is deleted."""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import anyio
import pytest

import reefknot
from reefknot.cli import main
from reefknot.clock import SystemClock
from reefknot.config import all_keys
from reefknot.failpoints import disarmed
from reefknot.model import Status
from reefknot.store import open_store
from reefknot.store.base import NewTransaction

COMMANDS = ["serve", "config show", "config check", "config keys", "version", "migrate"]


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    """An empty folder and an environment without settings."""
    names = {variable for key in all_keys() for name in key.variables for variable in (name, f"{name}_FILE")}
    for name in names & os.environ.keys():
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(*words: str, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "reefknot", *words]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **(pipes | options))


async def add_transaction(url: str) -> None:
    store = await open_store(url, clock=SystemClock(), failpoints=disarmed())
    await store.create(NewTransaction("g1", "saga", Status.SUBMITTED, b"body", b"hash"))
    await store.close()


async def count_transactions(url: str) -> int:
    store = await open_store(url, clock=SystemClock(), failpoints=disarmed())
    try:
        return sum((await store.stats()).unfinished.values())
    finally:
        await store.close()


@pytest.mark.parametrize("words", [["-v"], ["version"]])
def test_version_as_dtm_prints_it(words, capsys):
    assert main(words) == 0
    assert capsys.readouterr().out == f"reefknot version: {reefknot.__version__}\n"


def test_version_as_json(capsys):
    assert main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["version"] == reefknot.__version__


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_an_example(command, flag, capsys):
    assert main([*command.split(), flag]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Usage: reefknot {command}".rstrip())
    assert "Example" in out
    assert "reefknot" in out.partition("Example")[2]


@pytest.mark.parametrize(
    "words", [["nonsense"], ["-x"], ["serve", "--http-port", "x"], ["config", "nonsense"], ["serve", "extra"]]
)
def test_wrong_usage_is_exit_code_2(words, capsys):
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Error: " in captured.err


@pytest.mark.parametrize("command", ["serve", "config show", "config check", "migrate", ""])
def test_wrong_setting_is_exit_code_2_and_named(command, own_place, capsys):
    (own_place / "c.yml").write_text("HttpPort: x\nNope: 1\n")
    assert main([*command.split(), "-c", "c.yml"]) == 2
    assert capsys.readouterr().err == (
        'reefknot: unknown key "Nope" in c.yml; `reefknot config keys` lists all\n'
        "reefknot: HttpPort: expected a whole number from 0 to 65535, got 'x' (file c.yml)\n"
    )


@pytest.mark.parametrize("command", ["serve", "config show", "config check", "migrate", ""])
def test_unknown_variable_is_exit_code_2_and_nothing_starts(command, own_place, capsys, monkeypatch):
    monkeypatch.setenv("REEFKNOT_STOR_URL", "postgres://u:hunter2@h/db")
    assert main(command.split()) == 2
    assert capsys.readouterr().err == (
        "reefknot: unknown environment variable REEFKNOT_STOR_URL: did you mean REEFKNOT_STORE_URL?\n"
    )
    assert list(own_place.iterdir()) == []


def test_file_may_stand_before_the_command(own_place, capsys):
    (own_place / "c.yml").write_text("HttpPort: 1234\n")
    assert main(["-c", "c.yml", "config", "show", "--json"]) == 0
    rows = {row["key"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["HttpPort"] == {"key": "HttpPort", "value": 1234, "origin": "file c.yml"}


def test_config_show_tells_value_and_origin_and_masks_secrets(own_place, capsys, monkeypatch):
    (own_place / "c.yml").write_text("HttpPort: 1\nStore:\n  Password: hunter2\n")
    monkeypatch.setenv("HTTP_PORT", "2")
    monkeypatch.setenv("STORE_URL", "postgres://u:hunter2@h/db")
    assert main(["-d", "config", "show", "-c", "c.yml"]) == 0
    captured = capsys.readouterr()
    lines = {line.split()[0]: line.split()[1:] for line in captured.out.splitlines()}
    assert lines["HttpPort"] == ["2", "environment", "HTTP_PORT"]
    assert lines["LogLevel"] == ["debug", "command", "line"]
    assert lines["Store.Password"] == ["***", "file", "c.yml"]
    assert lines["Store.Url"] == ["postgres://u:***@h/db", "environment", "STORE_URL"]
    assert set(lines) == {"key"} | {key.name for key in all_keys()}
    assert captured.err == "reefknot: HttpPort: environment HTTP_PORT (2) overrides file c.yml (1)\n"


def test_config_check(own_place, capsys):
    assert main(["config", "check"]) == 0
    assert capsys.readouterr().out == "the configuration is valid; the store is sqlite:///reefknot.db\n"
    assert list(own_place.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("oracle://u:hunter2@h/db", "Store oracle://u:***@h/db: there is no store 'oracle'; use one of memory://, "),
        ("postgres://u:hunter2@h/db?foo=1", "Store postgres://u:***@h/db?foo=1: store URL: unknown option 'foo'"),
        ("mysql://h", "Store mysql://h: store URL mysql://…: write mysql://user:password@host:3306/database"),
        ("redis://:hunter2#x@h", "Store redis://:***@h: store URL: there is a # or a space in the login"),
        ("mysql://root:hunter2#x@h/db", "Store mysql://root:***@h/db: store URL: it has a # or an @ behind the server"),
        ("mysql://root:hunter2?x@h/db", "Store mysql://root:***@h/db: store URL: the port must be a number"),
        ("postgres://u:hunter]2@h/db", "Store postgres://u:***@h/db: store URL: the server cannot be read"),
        ("root:hunter2@h/db", "Store root:***@h/db: store URL without a scheme"),
    ],
)
def test_config_check_refuses_a_store_that_cannot_be_opened(capsys, monkeypatch, url, problem):
    monkeypatch.setenv("STORE_URL", url)
    assert main(["config", "check"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"reefknot: {problem}")
    assert "hunter" not in err


UNUSABLE = {
    "log": ({"LOG_OUTPUTS": "stderr,/nonexistent/x.log"}, "Log.Outputs: cannot write /nonexistent/x.log (there is no "),
    "log folder": ({"LOG_OUTPUTS": "/"}, "Log.Outputs: cannot write / (Is a directory)"),
    "certificate": ({"REEFKNOT_GRPC_CERT": "/nowhere.pem"}, "GrpcKey: is not set; TLS needs GrpcCert and GrpcKey"),
    "files": (
        {"REEFKNOT_GRPC_CERT": "/nowhere.pem", "REEFKNOT_GRPC_KEY": "/nowhere.key"},
        "GrpcCert, GrpcKey, GrpcClientCa: cannot read /nowhere.pem",
    ),
    "workers": ({"REEFKNOT_WORKERS": "4"}, "Workers: the store sqlite:///reefknot.db belongs to one process; use 1"),
    "policy": (
        {"GRPC_SERVICE_CONFIG": '{"loadBalancingPolicy":"nosuch"}'},
        'GrpcServiceConfig: gRPC refuses it: [field:loadBalancingPolicy error:unknown LB policy "nosuch"]',
    ),
    "timeout": (
        {"GRPC_SERVICE_CONFIG": '{"methodConfig":[{"name":[{}],"timeout":"bad"}]}'},
        "GrpcServiceConfig: gRPC refuses it: [field:methodConfig[0].timeout",
    ),
    "web hook": ({"ALERT_WEB_HOOK": "htp:/hunter2"}, "AlertWebHook: it is not a URL of the form http://host/path"),
    "web hook's scheme": ({"ALERT_WEB_HOOK": "htp://hunter2/"}, "AlertWebHook: the scheme htp:// cannot be called"),
}


@pytest.mark.parametrize("command", [["config", "check"], ["serve", "-r", "--yes"]], ids=["check", "serve"])
@pytest.mark.parametrize(("environ", "problem"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_the_start_would_refuse_is_found_before_anything_starts_or_is_deleted(
    command, environ, problem, own_place
):
    settings = {"HTTP_PORT": "0", "GRPC_PORT": str(free_port()), **environ}
    process = start(*command, env={**os.environ, **settings})
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 2, err
    assert f"reefknot: {problem}" in err
    assert "Traceback" not in err
    assert "hunter" not in err + out
    assert list(own_place.iterdir()) == []


def test_settings_that_the_start_takes_pass_the_check(own_place, capsys, monkeypatch):
    retrying = {"maxAttempts": 3, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2}
    methods = [{"name": [{}], "retryPolicy": {**retrying, "retryableStatusCodes": ["UNAVAILABLE"]}}]
    monkeypatch.setenv("GRPC_SERVICE_CONFIG", json.dumps({"methodConfig": methods}))
    monkeypatch.setenv("LOG_OUTPUTS", "stderr, rk.log")
    monkeypatch.setenv("ALERT_WEB_HOOK", "https://h/hook?token=1")
    monkeypatch.setenv("STORE_URL", "redis://h")
    monkeypatch.setenv("REEFKNOT_WORKERS", "4")
    assert main(["config", "check"]) == 0, capsys.readouterr().err
    assert list(own_place.iterdir()) == []


@pytest.mark.parametrize("scheme", ["postgresql", "mariadb", "rediss", "redis+cluster"])
def test_config_check_takes_every_way_to_name_a_store(capsys, monkeypatch, scheme):
    monkeypatch.setenv("STORE_URL", f"{scheme}://u:hunter2@h/0")
    assert main(["config", "check"]) == 0
    assert capsys.readouterr().out == f"the configuration is valid; the store is {scheme}://u:***@h/0\n"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://u:hunter2#x@h/db", "the port must be a number"),
        ("mysql://u:hunter\uff0f2@h/db", "the port must be a number"),
        ("postgres://u:hunter]2@h/db", "the port must be a number"),
        ("postgres://u:12#hunter2@h/db", "has a # or an @ behind the server"),
        ("postgres://u:12/hunter2@h", "has a # or an @ behind the server"),
        ("postgres://u:12?hunter2@h/db", "has a # or an @ behind the server"),
        ("postgres://u:hunter2%zz@h/db", "has a % in the login"),
        ("postgres://u:hunter2@127.0.0.1:1/db", "cannot connect to 127.0.0.1:1 with psycopg"),
        ("postgres://u:hunter2@127.0.0.1:1,[::1]:1/db", "cannot connect to 127.0.0.1:1,[::1]:1 with psycopg"),
        ("mysql://u:hunter2@127.0.0.1:1/db", "cannot connect to 127.0.0.1:1 with pymysql"),
    ],
)
@pytest.mark.parametrize("command", ["xa list", "barrier check"])
def test_a_database_that_cannot_be_reached_is_named_without_its_password(capsys, command, url, words):
    assert main([*command.split(), url]) == 1
    err = capsys.readouterr().err
    assert words in err
    assert "hunter" not in err


def test_config_keys_lists_each_with_its_variable(capsys):
    assert main(["config", "keys", "--json"]) == 0
    rows = {row["key"]: row["environment"] for row in json.loads(capsys.readouterr().out)}
    assert rows["MicroService.EndPoint"] == "MICRO_SERVICE_END_POINT"
    assert rows["LeaseSeconds"] == "REEFKNOT_LEASE_SECONDS"


@pytest.mark.parametrize("words", [["-r"], ["serve", "-r"], ["-r", "serve"]])
def test_reset_is_refused_where_nobody_can_be_asked(words):
    anyio.run(add_transaction, "sqlite:///reefknot.db")
    process = start(*words)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "-r deletes all data and there is no terminal to ask at; add --yes" in err
    assert anyio.run(count_transactions, "sqlite:///reefknot.db") == 1


def test_reset_asks_at_a_terminal_and_takes_no_for_an_answer():
    anyio.run(add_transaction, "sqlite:///reefknot.db")
    terminal, its_end = os.openpty()
    process = start("-r", stdin=its_end)
    os.write(terminal, b"n\n")
    _, err = process.communicate(timeout=20)
    os.close(terminal)
    os.close(its_end)
    assert process.returncode == 1
    assert "Delete every transaction, branch and topic in sqlite:///reefknot.db? [y/N]:" in err
    assert "reefknot: stopped, nothing changed" in err
    assert anyio.run(count_transactions, "sqlite:///reefknot.db") == 1


def test_migrate_makes_the_tables_and_is_safe_to_repeat(own_place, capsys):
    words = ["migrate", "--store", "sqlite:///a.db"]
    assert main([*words, "--dry-run"]) == 0
    planned = capsys.readouterr().out.splitlines()
    assert planned[0].startswith("would apply 0001")
    assert list(own_place.iterdir()) == []
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines() == [line.removeprefix("would apply ") + ": applied" for line in planned]
    assert main([*words, "--dry-run"]) == 0
    assert capsys.readouterr().out == "sqlite:///a.db is up to date\n"
    assert main(words) == 0
    assert capsys.readouterr().out == "sqlite:///a.db is up to date\n"


@pytest.mark.parametrize("url", ["sqlite:///a.db", "postgres://u:p@h/db?schema=our", "mysql://u:p@h/db"])
def test_migrate_prints_its_sql_without_a_server(own_place, capsys, url):
    assert main(["migrate", "--store", url, "--sql"]) == 0

    printed = capsys.readouterr().out
    assert printed.startswith("-- 0001_initial\n")
    assert "CREATE TABLE" in printed
    assert "{" not in printed
    assert ('"our".' in printed) is url.startswith("postgres")


def test_migrate_has_nothing_to_do_for_a_store_without_tables(capsys):
    assert main(["migrate", "--store", "memory://"]) == 0
    assert capsys.readouterr().out == "memory:// is up to date\n"


def test_migrate_names_what_it_cannot_open(own_place, capsys):
    (own_place / "a.db").write_text("this is a letter to the editor, not a database of any kind\n" * 99)
    for extra in ([], ["--dry-run"]):
        assert main(["migrate", "--store", "sqlite:///a.db", *extra]) == 2
        assert "a.db is not an SQLite database" in capsys.readouterr().err
    assert main(["migrate", "--store", "oracle://h/db"]) == 2
    assert "there is no store 'oracle'" in capsys.readouterr().err


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for_server(port: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/ping", timeout=2) as reply:
                assert reply.status == 200
                return
        except (urllib.error.URLError, ConnectionError):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("words", [[], ["serve"]])
def test_serve_after_a_reset_answers_and_stops_cleanly(words):
    """Without a command, or with ``serve``: DTM's way and ours."""
    anyio.run(add_transaction, "sqlite:///reefknot.db")
    port = free_port()
    process = start("-d", "-r", "--yes", *words, env={**os.environ, "HTTP_PORT": str(port), "GRPC_PORT": "0"})
    try:
        wait_for_server(port, process)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    assert "reefknot: deleted 1 transaction from sqlite:///reefknot.db" in err
    assert anyio.run(count_transactions, "sqlite:///reefknot.db") == 0


def test_addresses_of_ipv6_are_shown_as_in_a_url(own_place):
    log = own_place / "log"
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        words = ["serve", "--host", "::1", "--store", "memory://", "--grpc-port", "0", "--http-port"]
        refused = start(*words, str(taken.getsockname()[1]))
        assert f"cannot listen on [::1]:{taken.getsockname()[1]} (" in refused.communicate(timeout=60)[1]
    with log.open("w") as stderr:
        process = start(*words, "0", stdout=subprocess.DEVNULL, stderr=stderr)
    try:
        deadline = time.monotonic() + 60
        while "serving" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
    finally:
        process.terminate()
        process.wait()
    assert re.search(r"http://\[::1\]:\d+/api/dtmsvr", log.read_text())


@pytest.mark.parametrize("words", [["serve", "-dr"], ["serve", "-r", "-d"], ["-dr", "serve"]])
def test_workers_do_not_repeat_the_reset(words, redis, own_place):
    url = f"{redis.url}?prefix=reset-{secrets.token_hex(4)}"
    anyio.run(add_transaction, url)
    port, log = free_port(), own_place / "log"
    options = ["--yes", "--workers", "2", "--store", url, "--http-port", str(port), "--grpc-port", "0"]
    with log.open("w") as stderr:
        process = start(*words, *options, stdout=subprocess.DEVNULL, stderr=stderr)
    try:
        deadline = time.monotonic() + 120
        while len(re.findall(r"serving.*owner", log.read_text())) < 2:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.terminate()
        process.wait()
    assert log.read_text().count("reefknot: deleted 1 transaction from") == 1
    assert log.read_text().count("reefknot: deleted") == 1


def test_without_the_servers_libraries_the_command_says_what_to_install():
    """The base package is the SDK; its script exists all the same."""
    code = "import sys; sys.modules['click'] = None; from reefknot.cli import main; sys.exit(main(['serve']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "reefknot: the command line needs click; install it with: pip install 'reefknot[server]'\n"


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("postgres://db/reefknot", "asyncpg", "postgres"),
        ("postgresql://db/reefknot", "asyncpg", "postgres"),
        ("mariadb://root@db/reefknot", "asyncmy", "mysql"),
        ("redis://db", "hiredis", "redis"),
        ("sqlite:///reefknot.db", "apsw", "server"),
    ],
)
def test_a_store_without_its_driver_names_the_extra(url, package, extra):
    code = f"import sys; sys.modules[{package!r}] = None; from reefknot.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "serve", "--http-port", str(free_port()), "--grpc-port", "0"]
    done = subprocess.run([*command, "--store", url], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert f"needs the package {package}; pip install 'reefknot[{extra}]'" in done.stderr


def test_version_loads_no_server():
    """A light command must stay light: it is what scripts and probes call."""
    code = (
        "import sys; from reefknot.cli import main; main(['version'])\n"
        "heavy = {'aiohttp', 'apsw', 'reefknot.app', 'rich', 'starlette', 'uvicorn', 'uvloop'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1] == "[]"


def test_the_version_has_one_source():
    pyproject = (Path(reefknot.__file__).parents[2] / "pyproject.toml").read_text()
    assert 'dynamic = ["version"]' in pyproject
    assert 'path = "src/reefknot/__init__.py"' in pyproject
