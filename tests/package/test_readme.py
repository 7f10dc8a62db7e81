"""The README's Python snippets run unchanged, except for a smaller number of epochs."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_a_snippet_runs(snippet, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet.replace("range(20)", "range(1)"), "README.md", "exec"), {})


def test_there_are_snippets():
    assert len(SNIPPETS) == 8
