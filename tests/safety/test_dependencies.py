"""What is depended on is named with its reason, pinned, and installed as pinned, as far as no network is needed."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = {
    canonicalize_name(name): version
    for name, _, version in (line.partition("==") for line in (ROOT / "constraints.txt").read_text().splitlines())
}


def direct():
    """Returns the names of all that the project or an extra asks for."""
    lines = [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]
    return {canonicalize_name(Requirement(line).name) for line in lines} - {"thalweg"}


def needed(names):
    """Returns the distributions that these come to, themselves included, as far as they are installed."""
    found, open_ = set(), set(names)
    while open_:
        name = open_.pop()
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        asked = [Requirement(line) for line in requires]
        usual = {canonicalize_name(r.name) for r in asked if r.marker is None or r.marker.evaluate({"extra": ""})}
        open_ |= usual - found
    return found


def test_each_is_named_with_its_reason():
    page = (ROOT / "docs" / "dependencies.md").read_text().lower()
    assert {name for name in direct() if not re.search(rf"\b{re.escape(name)}\b", page)} == set()


def test_each_is_pinned():
    assert direct() - PINS.keys() == set()


def test_what_the_package_asks_for_is_installed_in_the_range_that_it_names():
    asked = [Requirement(line) for line in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["compare"])]
    versions = {r.name: metadata.version(r.name) for r in asked}
    assert {r.name: versions[r.name] for r in asked if not r.specifier.contains(versions[r.name])} == {}


def test_all_that_it_comes_to_is_installed_as_pinned_but_torch_whose_range_is_tested():
    lines = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["compare"]]
    asked = {canonicalize_name(Requirement(line).name) for line in lines}
    torch_alone = needed({"torch"}) - needed(asked - {"torch"})  # its builds bring the drivers of their devices
    differ = {n: metadata.version(n) for n in needed(asked) - {"torch"} if metadata.version(n) != PINS.get(n)}
    assert {n for n in differ if n in PINS or n not in torch_alone} == set(), differ


def test_what_is_installed_fits_together():
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
