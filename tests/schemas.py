"""The published schemas of what ``--json`` prints."""

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "docs" / "schemas"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def schema(name):
    """Returns a schema."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def printed(name, text):
    """Returns what a text in JSON holds, which the schema of that name describes in full."""
    jsonschema = pytest.importorskip("jsonschema")
    found = json.loads(text)
    jsonschema.Draft202012Validator(schema(name)).validate(found)
    assert list(_undescribed(found, schema(name))) == []
    return found


def _undescribed(found, described, path=""):
    """Yields the fields that the schema does not name."""
    if isinstance(found, dict) and "properties" in described:
        for key, value in found.items():
            if key in described["properties"]:
                yield from _undescribed(value, described["properties"][key], f"{path}.{key}")
            elif not any(re.search(pattern, key) for pattern in described.get("patternProperties", ())):
                yield f"{path}.{key}"
    elif isinstance(found, list) and "items" in described:
        for value in found:
            yield from _undescribed(value, described["items"], f"{path}[]")
