"""The page about tests: its tests pass, beside the programs of the tutorial that they are for."""

import os
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
SNIPPET = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_tests_of_the_page_pass(tmp_path):
    tutorial = (DOCS / "tutorial.md").read_text("utf-8")
    for name in ("bank.py", "create.py"):
        _, _, rest = tutorial.partition(f"**{name}**\n")
        (tmp_path / name).write_text(SNIPPET.search(rest)[1], "utf-8")
    page = "\n\n".join(SNIPPET.findall((DOCS / "sdk" / "testing.md").read_text("utf-8")))
    (tmp_path / "test_bank.py").write_text(page, "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_bank.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{page.count('def test_')} passed" in done.stdout
