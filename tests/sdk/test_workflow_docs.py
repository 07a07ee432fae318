"""The page about workflows says what is true: its snippets are run, one after another, in one program."""

import re
import threading
from pathlib import Path

from werkzeug.serving import make_server

from reefknot.testing.participant import Participant
from reefknot.testing.server import LocalServer, free_port

PAGE = Path(__file__).parents[2] / "docs/sdk/workflow.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def test_the_page_runs():
    port = free_port()
    with LocalServer() as server, Participant() as bank:
        urls = {"http://bank-a": bank.url("/a"), "http://bank-b": bank.url("/b")}
        urls |= {"http://me:8000": f"http://127.0.0.1:{port}", "http://127.0.0.1:36789": server.url}
        names = {"__name__": __name__}
        for snippet in SNIPPETS:
            for written, real in urls.items():
                snippet = snippet.replace(written, real)  # noqa: PLW2901 - the page's names for real ones
            exec(compile(snippet, str(PAGE), "exec"), names)
        service = make_server("127.0.0.1", port, names["app"], threaded=True)
        threading.Thread(target=service.serve_forever, daemon=True).start()
        (started,) = server.cron(look_ahead=0)
        assert server.wait_for(started, "succeed") == "succeed"
        assert names["flows"].execution("order-17").run(names["transfer"], 30, to="bob") == "receipt for bob"
        service.shutdown()
        service.server_close()
        names["tm"].close()
        once = [("/a/out", "action"), ("/b/hold", "action"), ("/b/take", "commit")]
        assert [(call.path, call.op) for call in bank.calls] == once * 3
