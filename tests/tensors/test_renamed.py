"""Names of the release before: they work, with a warning that gives the present name."""

import importlib

import pytest

from thalweg.tensors.renamed import renamed


@pytest.mark.parametrize(
    ("module", "former", "name"),
    [("thalweg.training", "Watch", "TrainingCallback"), ("thalweg.compare.log", "Run", "TrackedRun")],
)
def test_a_former_name_is_the_present_thing(module, former, name):
    found = importlib.import_module(module)
    with pytest.warns(DeprecationWarning, match=f"{module}.{former} is now called {name}: rename it"):
        assert getattr(found, former) is getattr(found, name)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        found.Nothing  # noqa: B018


def test_an_option_under_both_names_is_refused():
    with pytest.raises(ValueError, match="two names for one thing: keep 'new'"):
        renamed({"old": 1, "new": 2}, {"old": "new"})
