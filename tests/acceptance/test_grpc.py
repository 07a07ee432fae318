"""The codes of gRPC, as seen on a running DTM."""

import pytest

from acceptance.test_topic import topic_of


def code(answer):
    return answer.json()["code"]


@pytest.mark.conformance(
    "LiveGrpcErrors", differs="a second submit of a finished saga is refused only with other content"
)
def test_grpc_errors(grpc_app):
    assert code(grpc_app.abort("tcc", "unknown")) == "INTERNAL"
    branch = {"gid": "unknown", "trans_type": "tcc", "branch_id": "01", "confirm": "", "cancel": ""}
    assert code(grpc_app.post("registerBranch", branch)) == "ABORTED"
    assert code(grpc_app.post("registerBranch", {**branch, "trans_type": "saga"})) == "UNKNOWN"
    body = grpc_app.saga(wait_result=True)
    grpc_app.submit(body)
    grpc_app.submit(body)
    assert code(grpc_app.post("submit", grpc_app.saga("Elsewhere", gid=body["gid"]))) == "ABORTED"


@pytest.mark.conformance("TestGrpcPanic")
def test_grpc_panic(grpc_app):
    assert code(grpc_app.post("submit", {"gid": "no-type"})) == "INTERNAL"
    assert grpc_app.client.dtm("NewGid").Gid


@pytest.mark.conformance("TestMustGenGid")
def test_must_gen_gid_over_grpc(grpc_app, server):
    assert "" < server.new_gid() < grpc_app.client.dtm("NewGid").Gid


@pytest.mark.conformance("TestTopicNormal")
def test_topic_normal_over_grpc(grpc_app, server):
    import grpc

    def refused(method, topic, url=""):
        with pytest.raises(grpc.RpcError) as error:
            grpc_app.client.dtm(method, {"Topic": topic, "URL": url})
        return error.value.code().name == "UNKNOWN"

    def accepted(method, topic, url=""):
        grpc_app.client.dtm(method, {"Topic": topic, "URL": url, "Remark": "r"})

    one, two = "http://one.example/in", "http://two.example/in"
    accepted("Subscribe", "orders", one)
    assert refused("Subscribe", "orders", one)
    assert refused("Subscribe", "", one)
    assert refused("Subscribe", "orders")
    accepted("Subscribe", "orders", two)
    assert topic_of(server, "orders") == (2, [one, two])
    accepted("Unsubscribe", "orders", one)
    assert refused("Unsubscribe", "orders", one)
    assert refused("Unsubscribe", "", one)
    assert refused("Unsubscribe", "orders")
    assert refused("Unsubscribe", "unknown", one)
    accepted("Unsubscribe", "orders", two)
    assert refused("Unsubscribe", "orders", two)
    assert refused("DeleteTopic", "unknown")
    accepted("DeleteTopic", "orders")
    assert server.get("queryKV", cat="topics", key="orders").json() == {"kv": []}
