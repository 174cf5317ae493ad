"""The Python code of the documents runs, and the documents know what the package has."""

import re
from pathlib import Path

import pytest

from ppo_fast.integrations import LIBRARIES

ROOT = Path(__file__).parents[1]
ADVANTAGE = ROOT / "docs" / "advantage.md"


def python_blocks(path):
    """The blocks marked as Python, each behind as many empty lines as stand before it."""
    text = path.read_text(encoding="utf-8")
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield "\n" * text.count("\n", 0, match.start(1)) + match[1]


@pytest.mark.filterwarnings("ignore")  # other libraries' warnings are not our subject
@pytest.mark.parametrize("path", [ROOT / "README.md", ADVANTAGE], ids=lambda path: path.name)
def test_the_code_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = list(python_blocks(path))
    assert blocks
    missing = set()
    names = {"__name__": path.stem}  # later blocks use what earlier ones made
    for block in blocks:
        try:
            exec(compile(block, path, "exec"), names)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("ppo_fast"):
                raise
            missing.add(error.name.partition(".")[0])
    if missing:
        pytest.skip(f"the rest runs; not installed: {', '.join(sorted(missing))}")


@pytest.mark.parametrize("name", LIBRARIES)
def test_every_integration_is_in_the_table(name):
    source = ROOT / "ppo_fast" / "integrations" / f"{name}.py"
    can_be_patched = "\ndef targets(" in source.read_text(encoding="utf-8")
    words = f'`patch("{name}")`' if can_be_patched else f"ppo_fast.integrations.{name}"
    rows = [line for line in ADVANTAGE.read_text(encoding="utf-8").splitlines() if words in line]
    assert any(row.startswith("|") for row in rows)
