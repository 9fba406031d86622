"""The dashboard: the one in the repository is the one described, laid out without gaps."""

from __future__ import annotations

import json
from itertools import pairwise

from tools import dashboard, drift


def test_the_dashboard_in_the_repository_is_up_to_date() -> None:
    assert drift.drifted(dashboard.dashboard()) == [], "run `python -m tools.dashboard`"


def test_every_panel_of_the_description_is_shown_with_its_queries() -> None:
    [content] = dashboard.dashboard().values()
    shown = {panel["title"]: panel for panel in json.loads(content)["panels"]}
    described = {panel.title: panel for panels in dashboard.ROWS.values() for panel in panels}
    assert shown.keys() == described.keys() | dashboard.ROWS.keys()
    for title, panel in described.items():
        queries = {target["legendFormat"]: target["expr"] for target in shown[title]["targets"]}
        assert queries.keys() == panel.queries.keys()
        assert "§" not in str(queries)


def test_rows_are_filled_from_the_left() -> None:
    [content] = dashboard.dashboard().values()
    places = [panel["gridPos"] for panel in json.loads(content)["panels"]]
    for before, place in pairwise(places):
        beside = place["y"] == before["y"] and place["x"] == before["x"] + before["w"]
        below = place["x"] == 0 and place["y"] == before["y"] + before["h"]
        assert beside or below
