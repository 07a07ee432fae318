"""The settings: names, sources, precedence, errors, masking."""

from pathlib import Path

import pytest
import yaml

from reefknot.config import Config, Loaded, Secret, SecretUrl, Store, all_keys, env_name, load, mask
from reefknot.config.reference import markdown_table
from reefknot.errors import ConfigError

ROOT = Path(__file__).parents[2]

# The names that DTM reads from the environment.
DTM_VARIABLES = """
    STORE_DRIVER STORE_HOST STORE_PORT STORE_USER STORE_PASSWORD STORE_DB STORE_SCHEMA STORE_MAX_OPEN_CONNS
    STORE_MAX_IDLE_CONNS STORE_CONN_MAX_LIFE_TIME STORE_DATA_EXPIRE STORE_FINISHED_DATA_EXPIRE STORE_REDIS_PREFIX
    TRANS_CRON_INTERVAL TIMEOUT_TO_FAIL RETRY_INTERVAL REQUEST_TIMEOUT HTTP_PORT GRPC_PORT JSON_RPC_PORT
    MICRO_SERVICE_DRIVER MICRO_SERVICE_TARGET MICRO_SERVICE_END_POINT HTTP_MICRO_SERVICE_DRIVER
    HTTP_MICRO_SERVICE_REGISTRY_TYPE HTTP_MICRO_SERVICE_REGISTRY_ADDRESS HTTP_MICRO_SERVICE_REGISTRY_OPTIONS
    HTTP_MICRO_SERVICE_TARGET HTTP_MICRO_SERVICE_END_POINT UPDATE_BRANCH_SYNC UPDATE_BRANCH_ASYNC_GOROUTINE_NUM
    LOG_LEVEL LOG_OUTPUTS LOG_ROTATION_ENABLE LOG_ROTATION_CONFIG_JSON TIME_ZONE_OFFSET CONFIG_UPDATE_INTERVAL
    ALERT_RETRY_LIMIT ALERT_WEB_HOOK ADMIN_BASE_PATH GRPC_SERVICE_CONFIG
"""

DTM_DEFAULTS = {
    "Store.Db": "dtm",
    "Store.Schema": "public",
    "Store.MaxOpenConns": 500,
    "Store.MaxIdleConns": 500,
    "Store.ConnMaxLifeTime": 5,
    "Store.DataExpire": 604800,
    "Store.RedisPrefix": "{a}",
    "TransCronInterval": 3,
    "TimeoutToFail": 35,
    "RetryInterval": 10,
    "RequestTimeout": 3,
    "HttpPort": 36789,
    "GrpcPort": 36790,
    "JsonRpcPort": 36791,
    "MicroService.Driver": "default",
    "HttpMicroService.RegistryOptions": "{}",
    "UpdateBranchSync": 1,
    "UpdateBranchAsyncGoroutineNum": 1,
    "LogLevel": "info",
    "Log.Outputs": "stderr",
    "Log.RotationConfigJSON": "{}",
    "ConfigUpdateInterval": 3,
    "AlertRetryLimit": 3,
    "GrpcServiceConfig": '{"loadBalancingConfig": [{"round_robin":{}}]}',
}


@pytest.fixture
def write(tmp_path):
    def write_file(text: str) -> Path:
        path = tmp_path / "conf.yml"
        path.write_text(text)
        return path

    return write_file


def refusal(**arguments) -> str:
    with pytest.raises(ConfigError) as caught:
        load(**arguments)
    return str(caught.value)


def test_every_dtm_variable_comes_from_the_name_rule():
    assert len(DTM_VARIABLES.split()) == 41
    # IS_DOCKER is a variable of DTM's that is no key of its file.
    assert sorted(key.env for key in all_keys() if not key.ours) == sorted([*DTM_VARIABLES.split(), "IS_DOCKER"])


@pytest.mark.parametrize(
    ("yaml_name", "variable"),
    [
        ("MicroService.EndPoint", "MICRO_SERVICE_END_POINT"),
        ("Log.RotationConfigJSON", "LOG_ROTATION_CONFIG_JSON"),
        ("JsonRpcPort", "JSON_RPC_PORT"),
    ],
)
def test_name_rule(yaml_name, variable):
    assert env_name(yaml_name) == variable


def test_defaults_are_those_of_dtm():
    keys = {key.name: key for key in all_keys()}
    assert {name: keys[name].read(Config()) for name in DTM_DEFAULTS} == DTM_DEFAULTS
    assert load() == Loaded(Config(), {})


def test_without_any_setting_data_is_embedded_and_only_this_machine_is_served():
    config = load().config
    assert config.store.location() == SecretUrl("sqlite:///reefknot.db")
    assert config.http_host == "127.0.0.1"


def test_environment_beats_file_and_flags_beat_both_with_one_notice_per_key(write):
    file = write("HttpPort: 1001\nGrpcPort: 2001\nRequestTimeout: 4\nMaxSteps: 7\n")
    loaded = load(file, {"HTTP_PORT": "1002", "GRPC_PORT": "2002", "REQUEST_TIMEOUT": "4"}, {"HttpPort": "1003"})
    config = loaded.config
    assert (config.http_port, config.grpc_port, config.request_timeout, config.max_steps) == (1003, 2002, 4, 7)
    names = ("HttpPort", "GrpcPort", "RequestTimeout", "MaxSteps", "LogLevel")
    assert [loaded.origin(name) for name in names] == [
        "command line",
        "environment GRPC_PORT",
        "environment REQUEST_TIMEOUT",
        f"file {file}",
        "default",
    ]
    overridden = [line for line in loaded.notices if "overrides" in line]
    assert overridden == [
        f"HttpPort: environment HTTP_PORT (1002) overrides file {file} (1001)",
        f"GrpcPort: environment GRPC_PORT (2002) overrides file {file} (2001)",
    ]


def test_prefixed_variable_wins_over_the_bare_one():
    loaded = load(environ={"HTTP_PORT": "1", "REEFKNOT_HTTP_PORT": "2"})
    assert loaded.config.http_port == 2
    assert loaded.origin("HttpPort") == "environment REEFKNOT_HTTP_PORT"


def test_our_own_keys_need_the_prefix_except_the_store_url():
    config = load(environ={"HTTP_HOST": "evil.example", "MAX_STEPS": "5", "STORE_URL": "memory://"}).config
    assert (config.http_host, config.max_steps, config.store.url.reveal()) == ("127.0.0.1", 1000, "memory://")
    prefixed = {"REEFKNOT_HTTP_HOST": "0.0.0.0", "REEFKNOT_STORE_URL": "sqlite:///x.db", "STORE_URL": "memory://"}
    config = load(environ=prefixed).config
    assert (config.http_host, config.store.url.reveal()) == ("0.0.0.0", "sqlite:///x.db")


def test_empty_variable_counts_as_not_set():
    assert load(environ={"HTTP_PORT": "", "REEFKNOT_LOG_LEVEL": ""}) == load()


def test_quoted_numbers_and_texts_that_look_like_numbers_keep_their_form(write):
    text = 'HttpPort: "8080"\nTimeZoneOffset: +8\n'
    text += "Store:\n  Driver: postgres\n  Host: db\n  Port: 5432\n  User: yes\n  Password: 0123\n"
    config = load(write(text)).config
    assert config.http_port == 8080
    assert config.time_zone_offset == "+8"
    assert config.store.location().reveal() == "postgres://yes:0123@db:5432/dtm?schema=public"


def test_empty_and_null_entries_keep_the_default(write):
    assert load(write("HttpPort:\nLogLevel: ~\nStore:\nLog:\n  Outputs: null\n")) == load()
    assert load(write("# nothing\n")) == load()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("Stor:\n  Driver: redis\n", 'unknown key "Stor" in {file}: did you mean "Store"?'),
        ("httpPort: 1\n", 'unknown key "httpPort" in {file}: did you mean "HttpPort"?'),
        ("Store:\n  HttpPort: 1\n", 'unknown key "Store.HttpPort" in {file}: did you mean "HttpPort"?'),
        ("MaxOpenConns: 1\n", 'unknown key "MaxOpenConns" in {file}: did you mean "Store.MaxOpenConns"?'),
        ("Zzz: 1\n", 'unknown key "Zzz" in {file}; `reefknot config keys` lists all'),
        ("Store: redis\n", "Store: expected keys below it, got one value (file {file})"),
        ("HttpPort: [1]\n", "HttpPort: expected one value, got a list (file {file})"),
        ("HttpPort: soon\n", "HttpPort: expected a whole number from 0 to 65535, got 'soon' (file {file})"),
        ("RetryInterval: 0\n", "RetryInterval: expected a whole number from 1 to 86400, got '0' (file {file})"),
        ("TimeoutToFail: -1\n", "TimeoutToFail: expected a whole number from 1 to 31536000, got '-1' (file {file})"),
        ("LogLevel: loud\n", "LogLevel: expected one of debug, error, info, warn, got 'loud' (file {file})"),
        (
            "Log:\n  RotationConfigJSON: '['\n",
            "Log.RotationConfigJSON: expected a JSON object, got something else (file {file})",
        ),
        (
            "TimeZoneOffset: Berlin\n",
            "TimeZoneOffset: expected hours east of UTC, such as `+8`, got 'Berlin' (file {file})",
        ),
        ("- a\n- b\n", "the configuration file {file} must hold keys and values"),
    ],
)
def test_wrong_file_is_refused_with_key_value_and_place(write, text, problem):
    file = write(text)
    assert refusal(file=file) == problem.format(file=file)


def test_all_problems_are_reported_at_once(write):
    text = refusal(file=write("HttpPort: x\nNope: 1\n"), environ={"REQUEST_TIMEOUT": "y"}, flags={"GrpcPort": "-1"})
    assert [line.split(":")[0].split(" in ")[0] for line in text.splitlines()] == [
        'unknown key "Nope"',
        "HttpPort",
        "GrpcPort",
        "RequestTimeout",
    ]
    assert "(environment REQUEST_TIMEOUT)" in text
    assert "(command line)" in text


def test_unreadable_and_broken_files_are_refused_without_quoting_them(write, tmp_path):
    missing = tmp_path / "none.yml"
    assert refusal(file=missing) == f"cannot read the configuration file {missing}: No such file or directory"
    broken = refusal(file=write("Store:\n  Password: 'geheim\n"))
    assert "is no valid YAML: line" in broken
    assert "geheim" not in broken


def test_yaml_tags_cannot_make_objects(write):
    assert "is no valid YAML" in refusal(file=write("HttpPort: !!python/object/apply:os.getpid []\n"))


def test_an_empty_host_is_refused(write):
    """It would mean all addresses to one API and none to the other."""
    file = write("HttpHost: ''\n")
    assert refusal(file=file).startswith("HttpHost: expected address to listen on; ")
    assert load(file=write("GrpcHost: ''\n")).config.http_host == "127.0.0.1"


def test_short_intervals_are_only_warned_about():
    loaded = load(environ={"RETRY_INTERVAL": "5", "TIMEOUT_TO_FAIL": "3", "REEFKNOT_RETRY_INTERVAL_MAX": "2"})
    assert [line.split(":")[0] for line in loaded.notices] == ["RetryInterval", "TimeoutToFail", "RetryIntervalMax"]


def test_keys_without_effect_are_named_when_they_are_changed():
    assert load(environ={"JSON_RPC_PORT": "5"}).notices == (
        "JsonRpcPort: has no effect in Reefknot (environment JSON_RPC_PORT)",
    )
    assert load(environ={"JSON_RPC_PORT": "36791"}).notices == ()
    assert load(environ={"TRANS_CRON_INTERVAL": "60"}).notices == (
        "TransCronInterval: has no effect in Reefknot (environment TRANS_CRON_INTERVAL)",
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("REEFKNOT_STOR_URL", ": did you mean REEFKNOT_STORE_URL?"),
        ("REEFKNOT_HTPP_PORT", ": did you mean REEFKNOT_HTTP_PORT?"),
        ("REEFKNOT_PORT", ": did you mean REEFKNOT_HTTP_PORT?"),
        ("REEFKNOT_STORE_PASWORD_FILE", ": did you mean REEFKNOT_STORE_PASSWORD_FILE?"),
        ("REEFKNOT_HTTP_PORT_FILE", ": did you mean REEFKNOT_HTTP_PORT?"),
        ("REEFKNOT_X", "; `reefknot config keys` lists all"),
    ],
)
def test_unknown_variable_with_our_prefix_is_refused(name, hint):
    assert refusal(environ={name: "1"}) == f"unknown environment variable {name}{hint}"
    assert load(environ={name: ""}).origins == {}


def test_variables_with_our_prefix_that_others_set_or_read_are_passed_over():
    services = {}
    for service in ("REEFKNOT", "REEFKNOT_HTTP", "REEFKNOT_GRPC", "REEFKNOT_V2_A"):
        services |= {
            f"{service}_SERVICE_HOST": "10.0.0.1",
            f"{service}_SERVICE_PORT": "36789",
            f"{service}_SERVICE_PORT_HTTP_API": "36789",
            f"{service}_PORT": "tcp://10.0.0.1:36789",
            f"{service}_PORT_36789_TCP": "tcp://10.0.0.1:36789",
            f"{service}_PORT_36789_TCP_PROTO": "tcp",
            f"{service}_PORT_36789_TCP_PORT": "36789",
            f"{service}_PORT_36789_TCP_ADDR": "10.0.0.1",
        }
    read_elsewhere = {"REEFKNOT_FAILPOINTS": "call.before_send=kill", "REEFKNOT_BARRIER_TABLE": "t"}
    loaded = load(environ={**services, **read_elsewhere, "MY_REEFKNOT_URL": "http://h"})
    assert (loaded.origins, loaded.notices) == ({}, ())
    assert load(environ={**services, "REEFKNOT_HTTP_PORT": "8080"}).config.http_port == 8080


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "HttpPort: 1\nStore:\n  Host: h\nHttpPort: 2\n",
            'line 4, column 1: the key "HttpPort" stands in line 1 already',
        ),
        ("Store:\n  Host: h\nStore:\n  Db: d\n", 'line 3, column 1: the key "Store" stands in line 1 already'),
        ("Store:\n  Host: a\n  Db: d\n  Host: a\n", 'line 4, column 3: the key "Host" stands in line 2 already'),
        ("{HttpPort: 1, 'HttpPort': 1}\n", 'line 1, column 15: the key "HttpPort" stands in line 1 already'),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_lines(write, text, problem):
    assert refusal(file=write(text)).endswith(f"is no valid YAML: {problem}")


def test_secret_from_a_file_loses_its_last_line_break(tmp_path):
    path = tmp_path / "password"
    path.write_text(" pä ss \n")
    loaded = load(environ={"STORE_PASSWORD_FILE": str(path)})
    assert loaded.config.store.password.reveal() == " pä ss "
    assert loaded.origin("Store.Password") == "environment STORE_PASSWORD_FILE"


def test_secret_file_problems_name_the_variable(tmp_path):
    assert refusal(environ={"REEFKNOT_STORE_PASSWORD_FILE": "/nowhere/x"}) == (
        "Store.Password: cannot read /nowhere/x named by REEFKNOT_STORE_PASSWORD_FILE: No such file or directory"
    )
    path = tmp_path / "password"
    path.write_text("a")
    both = refusal(environ={"STORE_PASSWORD_FILE": str(path), "STORE_PASSWORD": "b"})
    assert both == "Store.Password: both STORE_PASSWORD and STORE_PASSWORD_FILE are set; remove one"


def test_only_secrets_are_read_from_files(tmp_path):
    path = tmp_path / "port"
    path.write_text("1")
    assert load(environ={"HTTP_PORT_FILE": str(path)}).config.http_port == 36789


DATABASE = {"host": "db.example", "port": 1, "user": "us:er", "password": Secret("p@/s")}


@pytest.mark.parametrize(
    ("store", "url"),
    [
        (Store(driver="boltdb"), "sqlite:///reefknot.db"),
        (Store(driver="sqlite"), "sqlite:///reefknot.db"),
        (Store(driver="memory"), "memory://"),
        (Store(driver="mysql", **DATABASE), "mysql://us%3Aer:p%40%2Fs@db.example:1/dtm"),
        (Store(driver="postgres", **DATABASE), "postgres://us%3Aer:p%40%2Fs@db.example:1/dtm?schema=public"),
        (Store(driver="redis", host="r", port=6379), "redis://r:6379/?prefix=%7Ba%7D"),
        (Store(driver="redis", host="a:1,b:2", port=1, password=Secret("x")), "redis://:x@a:1,b:2/?prefix=%7Ba%7D"),
        (Store(driver="redis", host="a:6379,b:6379"), "redis://a:6379,b:6379/?prefix=%7Ba%7D"),
        (Store(driver="redis", host="a,b:2", port=1), "redis://a:1,b:2/?prefix=%7Ba%7D"),
        (Store(driver="redis", host="a:1"), "redis://a:1/?prefix=%7Ba%7D"),
        (Store(driver="postgres", host="a:1,b", port=2, user="u"), "postgres://u@a:1,b:2/dtm?schema=public"),
        (Store(driver="redis", host="[::1]:1,[::1]", port=2), "redis://[::1]:1,[::1]:2/?prefix=%7Ba%7D"),
        (Store(driver="mysql", url=SecretUrl("memory://")), "memory://"),
        (
            Store(driver="mysql", max_open_conns=9, **DATABASE),
            "mysql://us%3Aer:p%40%2Fs@db.example:1/dtm?max_connections=9",
        ),
        (
            Store(driver="postgres", max_idle_conns=0, conn_max_life_time=2, **DATABASE),
            "postgres://us%3Aer:p%40%2Fs@db.example:1/dtm?schema=public&max_idle=0&lifetime=120",
        ),
        (
            Store(url=SecretUrl("mariadb://u@h/d?max_idle=7"), max_open_conns=9, max_idle_conns=1),
            "mariadb://u@h/d?max_idle=7&max_connections=9",
        ),
        (Store(url=SecretUrl("redis://h"), max_open_conns=9, conn_max_life_time=1), "redis://h"),
    ],
)
def test_driver_and_server_keys_become_a_url(store, url):
    assert store.location().reveal() == url


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({"STORE_DRIVER": "mysql"}, "mysql needs Store.Host, Store.Port, Store.User"),
        ({"STORE_DRIVER": "redis", "STORE_HOST": "h"}, "redis needs Store.Port (or set Store.Url)"),
        ({"STORE_DRIVER": "redis", "STORE_HOST": "a:1,b"}, "redis needs Store.Port (or set Store.Url)"),
        ({"STORE_DRIVER": "redis"}, "redis needs Store.Host, Store.Port"),
        ({"STORE_DRIVER": "mysql", "STORE_HOST": "h", "STORE_USER": "u"}, "mysql needs Store.Port"),
        ({"STORE_DRIVER": "sqlserver"}, "sqlserver is not offered; use postgres, mysql, redis or sqlite"),
    ],
)
def test_driver_that_cannot_be_used_is_refused(environ, problem):
    assert problem in refusal(environ=environ)


def test_boltdb_comes_with_a_notice_and_an_unused_server_too():
    assert load(environ={"STORE_DRIVER": "boltdb"}).notices == (
        "Store.Driver: boltdb means the embedded store here, which is sqlite:///reefknot.db",
    )
    assert load(environ={"STORE_HOST": "db"}).notices == (
        "Store.Host: not used, as Store.Driver is sqlite (environment STORE_HOST)",
    )
    assert load(environ={"STORE_DRIVER": "boltdb", "STORE_URL": "memory://"}).notices == (
        "Store.Driver: Store.Url (environment STORE_URL) decides, boltdb is not used",
    )


@pytest.mark.parametrize(
    ("environ", "kept"),
    [
        ({}, 604_800),
        ({"STORE_DATA_EXPIRE": "60"}, 60),
        ({"STORE_DATA_EXPIRE": "-1"}, 0),
        ({"STORE_DATA_EXPIRE": "60", "STORE_URL": "sqlite:////tmp/x.db"}, 60),
        ({"STORE_DATA_EXPIRE": "60", "STORE_URL": "sqlite:///x.db", "STORE_DRIVER": "redis"}, 60),
        ({"STORE_DATA_EXPIRE": "60", "STORE_FINISHED_DATA_EXPIRE": "60", "STORE_URL": "memory://"}, 60),
    ],
)
def test_data_expire_of_dtms_embedded_store_means_retention(environ, kept):
    loaded = load(environ=environ)
    assert loaded.config.store.finished_data_expire == kept
    assert not any("Store.DataExpire" in notice for notice in loaded.notices)


@pytest.mark.parametrize(
    ("environ", "kept", "reason"),
    [
        ({"STORE_FINISHED_DATA_EXPIRE": "70"}, 70, "Store.FinishedDataExpire is set"),
        ({"STORE_DRIVER": "redis", "STORE_HOST": "h:1"}, 604_800, "it is for the embedded store"),
        ({"STORE_URL": "postgres://u@h/d"}, 604_800, "it is for the embedded store"),
        ({"STORE_URL": "memory://", "STORE_DRIVER": "boltdb"}, 604_800, "it is for the embedded store"),
    ],
)
def test_data_expire_that_is_not_used_is_named(environ, kept, reason):
    loaded = load(environ={"STORE_DATA_EXPIRE": "60", **environ})
    assert loaded.config.store.finished_data_expire == kept
    assert (
        f"Store.DataExpire: not used, as {reason} (environment STORE_DATA_EXPIRE); "
        f"finished transactions are kept for {kept} s (Store.FinishedDataExpire)"
    ) in loaded.notices


SECRETS = ("hunter2", "tok-123", "hook-key", "p%40ss")


def test_no_secret_is_shown_anywhere(write):
    file = write(
        "AlertWebHook: https://hooks.example/robot?access_token=tok-000\n"
        "Store:\n  Password: hunter1\n  Url: postgres://u:swordfish@h/db\n"
    )
    loaded = load(
        file,
        {
            "STORE_PASSWORD": "hunter2",
            "STORE_URL": "postgres://u:p%40ss@h/db?sslpassword=tok-123",
            "ALERT_WEB_HOOK": "https://hooks.example/robot?access_token=tok-123",
            "REEFKNOT_ALERT_WEB_HOOK_SECRET": "hook-key",
            "HTTP_MICRO_SERVICE_REGISTRY_OPTIONS": '{"password": "hunter2", "region": "eu"}',
        },
    )
    shown = "\n".join([repr(loaded), str(loaded.config), *loaded.notices, *(k.show(loaded.config) for k in all_keys())])
    for secret in (*SECRETS[1:], "hunter1", "swordfish", "tok-000"):
        assert secret not in shown
    assert "postgres://u:***@h/db?sslpassword=***" in shown
    options = next(key for key in all_keys() if key.name == "HttpMicroService.RegistryOptions")
    assert options.show(loaded.config) == '{"password": "***", "region": "eu"}'


def test_secret_value_of_a_wrong_entry_is_not_quoted(write):
    text = refusal(
        file=write("Store:\n  Url: nonsense://u:hunter2@h/\nMicroService:\n  Target: [x]\nHttpPort: a://u:hunter2@h\n")
    )
    assert "hunter2" not in text
    text = refusal(file=write("Store: mysql://root:hunter2@h/db\nLog: [x://u:hunter2@h]\n"))
    assert "Store: expected keys below it, got one value" in text
    assert "Log: expected keys below it, got a list" in text
    assert "hunter2" not in text
    text = refusal(file=write("Store: {mysql://root:hunter2@h/db}\n"))
    assert 'unknown key "Store.mysql://root:***@h/db"' in text
    text = refusal(environ={"HTTP_MICRO_SERVICE_REGISTRY_OPTIONS": "{'Password': 'hunter2'}"})
    assert "HttpMicroService.RegistryOptions: expected a JSON object" in text
    assert "hunter2" not in text


def test_numbers_are_secret_too():
    loaded = load(environ={"HTTP_MICRO_SERVICE_REGISTRY_OPTIONS": '{"Password": 12345}'})
    options = next(key for key in all_keys() if key.name == "HttpMicroService.RegistryOptions")
    assert options.show(loaded.config) == '{"Password": "***"}'


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://:pa@ss@h:1/0", "redis://:***@h:1/0"),
        ("redis://:s3cret#9x@h:6379/0", "redis://:***@h:6379/0"),
        ("redis://:a b/c?d#e\nf@g@h:1/0", "redis://:***@h:1/0"),
        ("redis+cluster://u:p/w@a:1,b:2?prefix=x", "redis+cluster://u:***@a:1,b:2?prefix=x"),
        (
            "redis+sentinel://:p@a,b:2/bank?sentinel-password=x#y z@&prefix=a",
            "redis+sentinel://:***&prefix=a",
        ),
        ("postgres://u:p@a:1,b:2/d?sslpassword=x#y&schema=s", "postgres://u:***@a:1,b:2/d?sslpassword=***&schema=s"),
        ("postgres://u@h:5432/db?password=x@y", "postgres://u@h:***"),
        ("redis://:a?key=b@h:1/0", "redis://:***"),
        ("x://u:p@h then y://v:q@i", "x://u:***@i"),
        ('{"Password": 12345, "in": [{"token": ["a"]}]}', '{"Password": "***", "in": [{"token": "***"}]}'),
        ('{"\\u0050assword": "s3cret", "at": "x://u:p@h"}', '{"Password": "***", "at": "x://u:***@h"}'),
        ("{'Password': 's3cret', 'a': 1}", "{'Password': \"***\", 'a': 1}"),
        ('{"Password": s3cret}', '{"Password": "***"}'),
        ('{"ClientConfig": "{\\"Password\\": 7}"}', '{"ClientConfig": "{\\"Password\\": \\"***\\"}"}'),
        ('{"a":[1]}', '{"a":[1]}'),
        ("https://h/p?a=1&Token=abc&b=2", "https://h/p?a=1&Token=***&b=2"),
        ("sqlite:////var/lib/a.db", "sqlite:////var/lib/a.db"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
    ],
)
def test_mask(text, masked):
    """More is hidden than need be rather than less: a password may hold what ends a part of a URL."""
    assert mask(text) == masked
    assert str(SecretUrl(text)) == masked


def test_a_store_url_whose_scheme_was_forgotten_shows_no_password():
    assert str(SecretUrl("root:s3cret@tcp(db:3306)/x")) == "root:***@tcp(db:3306)/x"


def test_secret_is_no_text():
    secret = Secret("hunter2")
    assert f"{secret} {secret!r} {[secret]} %s" % secret == "*** Secret('***') [Secret('***')] ***"
    assert secret.reveal() == "hunter2"
    assert bool(secret)
    assert not Secret()
    assert secret == Secret("hunter2")
    assert secret != Secret("x")


def test_documentation_has_the_table_of_all_keys():
    page = (ROOT / "docs/configuration.md").read_text()
    assert markdown_table() in page, "run: reefknot config keys --markdown"


def test_example_file_in_the_documentation_is_accepted(write):
    page = (ROOT / "docs/configuration.md").read_text()
    example = page.split("```yaml\n")[1].split("```")[0]
    assert len(yaml.safe_load(example)) >= 3
    assert load(write(example)).notices == ()
