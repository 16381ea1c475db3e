"""The code of docs/integrations.md, run as a user would: by its section."""

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"


def run(section: str, which: int = 0, **replaced: str) -> dict[str, Any]:
    """Runs a block of Python of a section, with words of it replaced; returns the names that it leaves."""
    text = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    assert text
    code = re.findall(r"```python\n(.*?)```", text[1], re.S)[which]
    for old, new in replaced.items():
        assert old in code
        code = code.replace(old, new)
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(code, f"{PAGE.name}: {section}", "exec"), names)
    return names
