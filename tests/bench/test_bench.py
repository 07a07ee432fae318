import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from reefknot.bench import report, retention, workloads
from reefknot.bench.load import Load
from reefknot.bench.processes import BenchError, Child, Server, machine_busy_us, outside_us, usage
from reefknot.bench.rows import Plan, Row, Storage, cheapest, running_service, send
from reefknot.bench.scenarios import Fact
from reefknot.bench.selection import choose
from reefknot.bench.targets import Report

SECONDS = 120


class Ran(msgspec.Struct):
    returncode: int
    stdout: str
    stderr: str
    left: list[str]


def bench(*words):
    """Run the command in a session of its own, so that every process it starts can be found again."""
    command = [sys.executable, "-m", "reefknot", "bench", *words]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        stdout, stderr = process.communicate(timeout=SECONDS)
        return Ran(process.returncode, stdout, stderr, processes_of_session(process.pid))
    finally:
        process.kill()
        process.wait()


def processes_of_session(session):
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(line)
    return found


def names(*patterns, stores=("memory", "sqlite")):
    plan = Plan(1.0, 0.5, Path("/tmp"))
    return [name for name, _ in choose(plan, [Storage(store) for store in stores], patterns)]


def test_one_row_yields_plausible_figures_and_leaves_nothing(tmp_path):
    page = tmp_path / "results.md"
    kept = tmp_path / "stores"
    kept.mkdir()
    words = ["--quick", "--rows", "saga/16", "--store", "sqlite", "--json", "--write", str(page)]
    done = bench(*words, "--directory", str(kept))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    rows = {row["name"]: row for row in told["rows"]}
    assert list(rows) == ["echo/16", "sqlite/ceiling", "sqlite/saga/16"]
    saga, echo = rows["sqlite/saga/16"], rows["echo/16"]
    assert 20 < saga["rate"] < echo["rate"]
    assert saga["transactions"] >= saga["rate"] * 0.9  # about a second of load
    assert 0 < saga["p50_ms"] <= saga["p99_ms"] < 5_000
    assert 30 < saga["server_us"] < 20_000
    assert 1 < saga["store_us"] < 20_000
    assert 0.3 < saga["written_kib"] < 100
    assert saga["service_us"] > 1
    assert saga["load_us"] > 1
    assert saga["echo_ratio"] == pytest.approx(saga["rate"] / echo["rate"])
    assert 0 < saga["ceiling_ratio"] < 1
    assert saga["echo_cpu_ratio"] > 1
    assert told["machine"]["SQLite"].startswith("3.")
    assert "| sqlite/saga/16 |" in page.read_text()
    assert json.loads(page.with_suffix(".json").read_text()) == told
    assert list(kept.iterdir()) == []
    assert done.left == []


def test_every_transaction_that_was_sent_is_finished(tmp_path):
    with running_service() as (service, ports), Server("memory://", tmp_path / "log") as server:
        base = f"http://127.0.0.1:{ports.answering}"
        for workload, calls in (("saga", 2), ("wait", 2), ("msg", 2), ("tcc", 2), ("empty", 0)):
            service.tell("count")
            before = service.hear(int)
            sent = send(Load(server.port, workloads.named(workload, base), 4, 20.0, 50))
            assert sent.transactions == 50
            server.wait_until_finished(20.0)
            service.tell("count")
            assert service.hear(int) - before == 50 * calls, workload


def test_a_refused_request_ends_the_measurement(tmp_path):
    with Server("memory://", tmp_path / "log") as server:
        wrong = (workloads.Template("/api/dtmsvr/submit", '{"gid":"' + workloads.GID + '","trans_type":"none"}'),)
        with pytest.raises(BenchError, match=r"5 requests were refused, the first with 500 .*no transaction mode"):
            send(Load(server.port, wrong, 1, 20.0, 5))


def test_open_transactions_are_counted(tmp_path):
    with running_service() as (_, ports), Server("memory://", tmp_path / "log") as server:
        requests = workloads.saga(f"http://127.0.0.1:{ports.answering}", action="/ongoing")
        send(Load(server.port, requests, 2, 20.0, 7))
        assert server.unfinished() == 7
        with pytest.raises(BenchError, match="7 transactions are unfinished after 0 s"):
            server.wait_until_finished(0.1)


def test_a_server_that_cannot_start_says_why(tmp_path):
    with pytest.raises(BenchError, match="no store 'nothing'"), Server("nothing://", tmp_path / "log"):
        pass


def test_an_ended_child_is_told():
    with Child("alone") as child:
        child.tell({"url": "nothing://"})
        with pytest.raises(BenchError, match="ended with code 1"):
            child.hear(int)


def test_usage_is_that_of_the_process_and_its_children(tmp_path):
    work = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"
    file = str(tmp_path / "file")
    written = f"import os; f = open({file!r}, 'wb', 0); f.write(os.urandom(1 << 20)); os.fsync(f.fileno())\n"
    before, busy, outside = usage(os.getpid()), machine_busy_us(), outside_us()
    subprocess.run([sys.executable, "-c", work + written], check=True)
    used = usage(os.getpid()).since(before)
    assert 250_000 < used.other_us < 5_000_000
    assert used.main_us < 250_000
    busy, outside = machine_busy_us() - busy, outside_us() - outside
    assert busy > 250_000
    assert busy - outside > 250_000  # our ended child is none of the others
    child = subprocess.Popen([sys.executable, "-c", written + "import time; time.sleep(60)"])
    try:
        until = time.monotonic() + 20
        while usage(child.pid).written_bytes < 1 << 20:
            assert time.monotonic() < until
            time.sleep(0.02)
        assert 1 << 20 < usage(child.pid).rss_bytes < 1 << 28
    finally:
        child.kill()
        child.wait()


def test_rows_are_chosen_by_parts_of_their_names():
    assert names("saga/1") == ["echo/1", "memory/ceiling", "sqlite/ceiling", "memory/saga/1", "sqlite/saga/1"]
    assert names("recovery") == ["sqlite/recovery"]
    assert names("wait/1", stores=["memory"]) == ["echo/1", "memory/wait/1"]
    assert names("sqlite/*/1", "echo/64") == ["echo/1", "echo/64", "sqlite/ceiling", "sqlite/saga/1", "sqlite/wait/1"]
    assert len(names()) == len(set(names())) > 20
    unknown = bench("--rows", "sage/64")
    assert unknown.returncode == 2
    assert "no row has such a name" in unknown.stderr


def test_a_row_on_request_is_measured_only_if_its_own_name_is_asked_for():
    assert [name for name in (*names(), *names("sqlite"), *names("sqlite/*")) if "purge" in name] == []
    assert names("purge") == ["echo/64", "sqlite/purge"]
    assert names("sqlite/purge", stores=["memory", "sqlite"]) == ["echo/64", "sqlite/purge"]
    listed = bench("--list", "--store", "sqlite").stdout.splitlines()
    assert listed == [*names(stores=["sqlite"]), "sqlite/purge"]


def test_a_purge_is_measured_under_load_and_alone(tmp_path):
    rows, facts = retention.purge(Plan(0.3, 0.1, tmp_path), Storage("sqlite"), 60_000, 1)
    without, purging = rows
    assert (without.name, purging.name) == ("sqlite/saga/64 without purge", "sqlite/saga/64 with purge")
    assert min(without.rate, purging.rate) > 20
    found = {fact.name.removeprefix("sqlite/purge/"): fact for fact in facts}
    assert list(found) == ["loss", "p99", "rate", "alone", "cpu"]
    assert found["loss"].value == pytest.approx((1 - purging.rate / without.rate) * 100)
    assert found["p99"].value == pytest.approx(purging.p99_ms - without.p99_ms)
    assert found["rate"].value > 50
    assert found["alone"].value > 50
    assert 0.5 < found["cpu"].value < 2_000
    assert list(tmp_path.iterdir()) == []


def test_too_few_to_purge_are_no_measurement(tmp_path):
    # Before the load had ended, or at once after it: by how busy the machine is.
    with pytest.raises(BenchError, match=r"were deleted before the load had ended|was deleted at once"):
        retention.purge(Plan(0.1, 0.1, tmp_path), Storage("sqlite"), 300, 1)


def test_figures_of_several_loads_are_medians_and_every_pair_is_named():
    loads = [Row(name="x", transactions=10, rate=rate, p99_ms=rate / 100) for rate in (100.0, 300.0, 200.0)]
    slower = [Row(name="x", transactions=10, rate=rate, p99_ms=rate / 100) for rate in (90.0, 330.0, 150.0)]
    typical = retention._typical("y", loads)
    assert (typical.name, typical.transactions, typical.rate, typical.p99_ms) == ("y", 30, 200.0, 2.0)
    loss, longer = retention._effects(Storage("sqlite"), loads, slower, "three")
    assert (loss.value, longer.value) == (pytest.approx(10.0), pytest.approx(-0.1))
    assert loss.text == "three; the pairs: 10.0, -10.0, 25.0"


def test_of_several_rounds_the_cheapest_counts():
    figures = ((9.0, 240), (8.0, 160), (7.0, 200))
    rounds = [Row(name="x", transactions=1, rate=rate, server_us=us, store_us=40) for rate, us in figures]
    found = cheapest(rounds)
    assert (found.rate, found.cpu_us, found.spread_percent) == (8.0, 200.0, pytest.approx(40.0))
    assert cheapest(rounds[:1]).spread_percent == 0.0


def test_the_machines_own_speed_is_told():
    assert report.pace() > 0.0
    told = report.speed([20.0, 31.0, 40.0])
    assert told == "a fixed loop took 20 to 40 ms between the rows, 31 ms in the middle"
    assert report.speed([]) == "not measured"


def test_rounds_are_measured_in_turns():
    done = bench("--quick", "--seconds", "0.3", "--rounds", "3", "--rows", "echo/1", "--rows", "echo/16", "--json")
    assert done.returncode == 0, done.stderr
    told = [line.split()[0] for line in done.stderr.splitlines() if line.startswith("echo/")]
    assert told == ["echo/1", "echo/16"] * 3
    made = json.loads(done.stdout)
    rows = made["rows"]
    assert [row["name"] for row in rows] == ["echo/1", "echo/16"]
    assert "a fixed loop took" in made["machine"]["speed"]
    assert all(row["spread_percent"] > 0.0 for row in rows)


def test_a_busy_machine_is_told():
    rows = [Row(name=f"echo/{n}", transactions=1, rate=1.0, other_percent=n) for n in (1, 64)]
    made = Report(made="", machine={}, rows=rows, facts=[], failures=[])
    plan = Plan(1.0, 0.5, Path("/tmp"))
    assert "during 1 of 2 rows other processes used 64 to 64 % of one core" in report.markdown(made, plan)
    made.rows.pop()
    assert "busy" not in report.markdown(made, plan).partition("## Method")[0]


def test_targets_are_judged():
    rows = [Row(name="sqlite/saga/64", transactions=1, rate=5_999.0, server_us=100.0, store_us=80.0)]
    facts = [Fact("sqlite/recovery/healthy", 10.5, "s", "")]
    made = Report(made="", machine={}, rows=rows, facts=facts, failures=[])
    lines = report.target_lines(made)
    assert [line.split("|")[-2].strip() for line in lines] == ["**not met**", "met", "**not met**"]


def test_a_row_that_fails_is_named_and_the_others_are_kept(tmp_path):
    page = tmp_path / "results.md"
    done = bench("--quick", "--rows", "*/memory", "--store", "nothing", "--store", "memory", "--write", str(page))
    assert done.returncode == 1
    assert "nothing/memory FAILED: the server did not start" in done.stderr
    text = page.read_text()
    assert "* nothing/memory: the server did not start" in text
    assert "| memory/memory/idle |" in text
    assert "10,000 unfinished, half answered with ONGOING" in text


def test_a_terminated_run_leaves_no_process():
    command = [sys.executable, "-m", "reefknot", "bench", "--rows", "saga/1", "--store", "sqlite"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    until = time.monotonic() + 60
    while len(processes_of_session(process.pid)) < 3:  # itself, the echo, the load
        assert time.monotonic() < until
        time.sleep(0.02)
    process.terminate()
    assert process.wait(30) == 128 + signal.SIGTERM
    until = time.monotonic() + 20
    while left := processes_of_session(process.pid):
        assert time.monotonic() < until, left
        time.sleep(0.02)
