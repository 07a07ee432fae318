"""Every verb of the coordinator is reached through every API and does the same there.

The list of verbs is read from the coordinator: a new one fails here until each API offers it.
"""

from __future__ import annotations

import inspect
import json

import pytest

from reefknot.coordinator.coordinator import Coordinator
from reefknot.coordinator.topics import Topics
from reefknot.testing.grpc_client import methods

#: What ``Topics`` offers to the rest of the server, not to clients.
INSIDE = {"refresh", "expand"}
#: A stream of replies, which neither HTTP nor JSON-RPC has here: their clients repeat ``wait``.
STREAMS = {"watch"}


def public(kind):
    return {name for name, _ in inspect.getmembers(kind, inspect.isroutine) if not name.startswith("_")}


VERBS = public(Coordinator) | {f"topics.{name}" for name in public(Topics) - INSIDE} | {"new_gid"}


class Http:
    """Each verb over HTTP; what it returns is what the client learns."""

    name = "http"

    def __init__(self, server, client):
        self.server = server

    def post(self, verb, **fields):
        answer = self.server.post(verb, fields)
        return self.judged(answer)

    def get(self, verb, **query):
        return self.judged(self.server.get(verb, **query))

    def judged(self, answer):
        if answer.status != 200:
            return "refused" if answer.status == 409 else f"wrong: {answer.json()['message'].partition(';')[0]}"
        value = answer.json()
        return None if value == {"dtm_result": "SUCCESS"} else value

    def new_gid(self):
        return len(self.get("newGid")["gid"])

    def submit(self, gid, steps, **options):
        return self.post("submit", gid=gid, trans_type="saga", steps=steps, payloads=["1"] * len(steps), **options)

    def prepare(self, gid):
        return self.post("prepare", gid=gid, trans_type="tcc")

    def abort(self, gid):
        return self.post("abort", gid=gid, trans_type="tcc", rollback_reason="r")

    def register(self, gid, url):
        return self.post("registerBranch", gid=gid, trans_type="tcc", branch_id="01", data="d", confirm=url, cancel=url)

    def prepare_workflow(self, gid):
        value = self.post("prepareWorkflow", gid=gid, trans_type="workflow")
        return value["transaction"]["status"], len(value["progresses"])

    def force_stop(self, gid):
        return self.post("forceStop", gid=gid)

    def wake(self, gid):
        return self.post("resetNextCronTime", gid=gid)

    def wake_later(self, seconds):
        value = self.get("resetCronTime", timeout=seconds, limit=100)
        return value["succeed_count"], value["has_remaining"]

    def shown(self, value):
        if value["transaction"] is None:
            return None
        rows = [(row["branch_id"], row["op"], row["status"], row.get("url", "")) for row in value["branches"]]
        return value["transaction"]["gid"], value["transaction"]["status"], rows

    def query(self, gid):
        return self.shown(self.get("query", gid=gid))

    def wait(self, gid, seconds):
        value = self.get("wait", gid=gid, seconds=seconds)
        return value if isinstance(value, str) else self.shown(value)

    def list(self, status, limit):
        value = self.get("all", status=status, limit=limit)
        return [one["gid"] for one in value["transactions"]], bool(value["next_position"])

    def subscribe(self, topic, url):
        return self.get("subscribe", topic=topic, url=url, remark="r")

    def unsubscribe(self, topic, url):
        return self.get("unsubscribe", topic=topic, url=url)

    def delete_topic(self, topic):
        return self.judged(self.server.send("DELETE", f"/api/dtmsvr/topic/{topic}"))

    def keys(self, category):
        value = self.get("scanKV", cat=category, limit=1)
        return [(entry["k"], entry["version"]) for entry in value["kv"]], bool(value["next_position"])

    def key(self, category, key):
        found = self.get("queryKV", cat=category, key=key)["kv"]
        return found[0]["v"] if found else None


class JsonRpc(Http):
    """The same over JSON-RPC."""

    name = "json-rpc"

    def post(self, verb, **fields):
        reply = self.server.jsonrpc(verb, fields).json()
        if reply["error"] is None:
            return reply["result"]
        refused = reply["error"]["code"] == -32901
        return "refused" if refused else f"wrong: {reply['error']['message'].partition(';')[0]}"

    get = post

    def delete_topic(self, topic):
        return self.post("deleteTopic", topic=topic)


class Grpc:
    """The same over gRPC."""

    name = "grpc"

    def __init__(self, server, client):
        self.client = client

    def dtm(self, method, **fields):
        return self.judged(self.client.dtm, method, fields)

    def ours(self, method, **fields):
        return self.judged(self.client.transactions, method, fields)

    def judged(self, call, method, fields):
        import grpc

        try:
            reply = call(method, fields)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.ABORTED:
                return "refused"
            return f"wrong: {error.details().partition(';')[0]}"
        return None if reply.DESCRIPTOR.full_name == "google.protobuf.Empty" else reply

    def new_gid(self):
        return len(self.dtm("NewGid").Gid)

    def submit(self, gid, steps, **options):
        wait = {"WaitResult": options.get("wait_result", False), "RetryInterval": options.get("retry_interval", 0)}
        fields = {"Steps": json.dumps(steps), "BinPayloads": [b"1"] * len(steps), "TransOptions": wait}
        return self.dtm("Submit", Gid=gid, TransType="saga", **fields)

    def prepare(self, gid):
        return self.dtm("Prepare", Gid=gid, TransType="tcc")

    def abort(self, gid):
        return self.dtm("Abort", Gid=gid, TransType="tcc", RollbackReason="r")

    def register(self, gid, url):
        data = {"confirm": url, "cancel": url}
        return self.dtm("RegisterBranch", Gid=gid, TransType="tcc", BranchID="01", Data=data, BusiPayload=b"d")

    def prepare_workflow(self, gid):
        reply = self.dtm("PrepareWorkflow", Gid=gid, TransType="workflow")
        return reply.Transaction.Status, len(reply.Progresses)

    def force_stop(self, gid):
        return self.ours("ForceStop", gid=gid)

    def wake(self, gid):
        return self.ours("RetryNow", gid=gid)

    def wake_later(self, seconds):
        reply = self.ours("RetryLater", later_than_seconds=seconds, limit=100)
        return reply.count, reply.remaining

    def shown(self, found):
        if isinstance(found, str):
            return found
        return found.gid, found.status, [(op.branch_id, op.op, op.status, op.url) for op in found.ops]

    def query(self, gid):
        found = self.ours("Get", gid=gid)
        return None if isinstance(found, str) else self.shown(found)

    def wait(self, gid, seconds):
        return self.shown(self.ours("Wait", gid=gid, seconds=seconds))

    def list(self, status, limit):
        reply = self.ours("List", status=status, limit=limit)
        return [one.gid for one in reply.transactions], bool(reply.position)

    def subscribe(self, topic, url):
        return self.dtm("Subscribe", Topic=topic, URL=url, Remark="r")

    def unsubscribe(self, topic, url):
        return self.dtm("Unsubscribe", Topic=topic, URL=url)

    def delete_topic(self, topic):
        return self.dtm("DeleteTopic", Topic=topic)

    def keys(self, category):
        reply = self.ours("ListKeys", category=category, limit=1)
        return [(entry.key, entry.version) for entry in reply.entries], bool(reply.position)

    def key(self, category, key):
        found = self.ours("GetKey", category=category, key=key)
        return None if isinstance(found, str) else found.value


def prepare(door, bank):
    yield door.prepare("g"), door.query("g")
    yield door.prepare("g"), door.prepare("a;b"), door.force_stop("g"), door.prepare("g")


def prepare_workflow(door, bank):
    yield door.prepare_workflow("g"), door.prepare_workflow("g"), door.query("g")


def submit(door, bank):
    steps = [{"action": bank.url("/a"), "compensate": bank.url("/b")}]
    yield door.submit("g", steps, wait_result=True), door.query("g")
    yield door.submit("g", steps, wait_result=True), door.submit("g", []), bank.called()
    yield door.submit("x;y", steps), door.submit("h", [{"action": "h" * 5000}])


def abort(door, bank):
    yield door.prepare("g"), door.abort("g"), door.wait("g", 10), door.abort("unknown")


def register(door, bank):
    yield door.prepare("g"), door.register("g", bank.url("/a")), door.register("g", bank.url("/a"))
    yield door.register("g", bank.url("/other")), door.register("unknown", bank.url("/a")), door.query("g")


def force_stop(door, bank):
    yield door.prepare("g"), door.force_stop("g"), door.force_stop("g"), door.force_stop("unknown"), door.query("g")


def get(door, bank):
    yield door.query("unknown"), door.prepare("g"), door.query("g")


def wait(door, bank):
    yield door.wait("unknown", 1), door.wait("g", -1), door.prepare("g"), door.wait("g", 1), door.force_stop("g")
    yield door.wait("g", 10)


def listing(door, bank):
    yield [door.prepare(gid) for gid in "abc"], door.force_stop("b")
    yield door.list("prepared", 100), door.list("failed", 100), door.list("", 2), door.list("", 1), door.list("", 1000)


def wake(door, bank):
    from reefknot.testing.participant import ERROR, OK

    bank.script("/a", [ERROR, OK])
    steps = [{"action": bank.url("/a"), "compensate": ""}]
    yield door.submit("g", steps, retry_interval=3600), door.wait("g", 1)
    yield door.wake("unknown"), door.wake("g"), door.wait("g", 10), bank.called()


def wake_later(door, bank):
    from reefknot.testing.participant import ERROR, OK

    bank.script("/a", [ERROR, OK])
    steps = [{"action": bank.url("/a"), "compensate": ""}]
    yield door.submit("g", steps, retry_interval=3600), door.wait("g", 1)
    yield door.wake_later(1800), door.wait("g", 10), door.wake_later(1800)


def topics(door, bank):
    url = bank.url("/a")
    yield door.subscribe("t", url), door.subscribe("t", url), door.subscribe("", url), door.subscribe("t", "")
    yield door.key("topics", "t"), door.unsubscribe("t", "http://h/x"), door.unsubscribe("t", url)
    yield door.unsubscribe("t", url), door.delete_topic("t"), door.delete_topic("t"), door.key("topics", "t")


def keys(door, bank):
    yield [door.subscribe(topic, bank.url("/a")) for topic in ("a", "b")], door.keys("topics"), door.keys("none")
    yield door.key("topics", "a"), door.key("topics", "none"), door.key("none", "a")


def new_gid(door, bank):
    yield door.new_gid()


#: For each verb what is done through each API; everything that comes of it must be the same.
DONE = {
    "new_gid": new_gid,
    "prepare": prepare,
    "prepare_workflow": prepare_workflow,
    "submit": submit,
    "abort": abort,
    "register": register,
    "force_stop": force_stop,
    "get": get,
    "wait": wait,
    "list": listing,
    "wake": wake,
    "wake_later": wake_later,
    "keys": keys,
    "key": keys,
    "topics.subscribe": topics,
    "topics.unsubscribe": topics,
    "topics.delete": topics,
}


def test_every_verb_is_in_the_list():
    assert set(DONE) | STREAMS == VERBS


def test_every_method_of_grpc_is_a_verb():
    """DTM's nine and ours: each is called above, or is the stream."""
    import ast
    from pathlib import Path

    calls = [node for node in ast.walk(ast.parse(Path(__file__).read_text())) if isinstance(node, ast.Call)]
    called = {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("dtm", "ours") and call.args
    }
    assert called | {"Watch"} == {name for _, name in methods()}


@pytest.mark.parametrize("verb", sorted(DONE))
def test_a_verb_is_the_same_through_every_door(server, client, bank, verb):
    seen = {}
    for kind in (Http, JsonRpc, Grpc):
        server.run(server.store.reset())
        server.run(server.node.topics.refresh())
        before = len(bank.calls)
        door = kind(server, client)
        seen[door.name] = list(DONE[verb](door, Since(bank, before)))
    assert seen["json-rpc"] == seen["http"]
    assert seen["grpc"] == seen["http"]


class Since:
    """A participant whose earlier calls are left out."""

    def __init__(self, bank, before):
        self.bank, self.before = bank, before

    def called(self):
        return self.bank.called()[self.before :]

    def __getattr__(self, name):
        return getattr(self.bank, name)
