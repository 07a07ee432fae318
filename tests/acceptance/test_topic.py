"""Topics: who gets a message that names one."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest


def topic_of(server, name):
    """The stored entry of a topic: its version and URLs."""
    [entry] = server.get("queryKV", cat="topics", key=name).json()["kv"]
    return entry["version"], [one["url"] for one in json.loads(entry["v"])]


def refused(answer, text):
    return answer.status == 500 and text in answer.json()["message"]


@pytest.mark.conformance("TestTopicNormal")
def test_topic_normal(server):
    one, two = "http://one.example/in", "http://two.example/in"

    def subscribe(topic, url):
        return server.get("subscribe", topic=topic, url=url, remark="r")

    def unsubscribe(topic, url):
        return server.get("unsubscribe", topic=topic, url=url)

    assert subscribe("orders", one).json() == {"dtm_result": "SUCCESS"}
    assert refused(subscribe("orders", one), "this url exists")
    assert refused(subscribe("", one), "empty topic")
    assert refused(subscribe("orders", ""), "empty url")
    assert subscribe("orders", two).status == 200
    assert topic_of(server, "orders") == (2, [one, two])
    assert unsubscribe("orders", one).json() == {"dtm_result": "SUCCESS"}
    assert refused(unsubscribe("orders", one), "no such an url ")
    assert refused(unsubscribe("", one), "empty topic")
    assert refused(unsubscribe("orders", ""), "empty url")
    assert refused(unsubscribe("unknown", one), "no such a topic")
    assert unsubscribe("orders", two).status == 200
    assert refused(unsubscribe("orders", two), "this topic is empty")
    assert topic_of(server, "orders") == (4, [])
    assert refused(server.send("DELETE", "/api/dtmsvr/topic/unknown"), "storage: NotFound")
    assert server.send("DELETE", "/api/dtmsvr/topic/orders").json() == {"dtm_result": "SUCCESS"}
    assert server.get("queryKV", cat="topics", key="orders").json() == {"kv": []}


@pytest.mark.conformance("TestConcurrentUpdateTopic")
def test_concurrent_update_topic(server):
    urls = [f"http://subscriber-{number}.example/in" for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda url: server.get("subscribe", topic="rush", url=url), urls))
    accepted = [url for url, answer in zip(urls, answers, strict=True) if answer.status == 200]
    assert accepted
    assert sorted(topic_of(server, "rush")[1]) == sorted(accepted)
    for url in accepted:
        assert server.get("unsubscribe", topic="rush", url=url).status == 200
    assert topic_of(server, "rush") == (2 * len(accepted), [])


def test_a_msg_goes_to_every_subscriber(app, bank, server):
    for path in ("/TransOut", "/TransIn"):
        assert server.get("subscribe", topic="http_trans", url=bank.url(path)).status == 200
    gid = app.submit(app.msg("topic://http_trans"))
    assert app.state(gid) == ("succeed", "SS")
    assert app.called(gid) == ["/TransOut", "/TransIn"]


@pytest.mark.conformance("LiveTopicBranchIds")
def test_topic_branch_ids(app, bank, server):
    for path in ("/TransOut", "/TransIn"):
        server.get("subscribe", topic="http_trans", url=bank.url(path))
    gid = app.submit(app.msg("topic://http_trans", "/Plain"))
    assert app.state(gid) == ("succeed", "SSS")
    rows = server.get("query", gid=gid).json()["branches"]
    assert [row["branch_id"] for row in rows] == ["01-01", "01-02", "02"]
    assert [call.branch_id for call in bank.calls] == ["01-01", "01-02", "02"]
