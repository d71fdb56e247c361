"""The pictures that the README shows."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SVG = "{http://www.w3.org/2000/svg}"
MAX_BYTES = 200_000


def texts():
    return ["".join(text.itertext()) for text in ElementTree.parse(DOCS / "system.svg").iter(f"{SVG}text")]


def test_the_picture_of_the_system_has_every_service_with_a_table_and_every_step_of_the_saga():
    with_table = {path.stem for path in (ROOT / "infra").glob("*.yaml") if "AWS::DynamoDB::Table" in path.read_text()}
    machine = json.loads((ROOT / "infra/order-saga.asl.json").read_text())
    # The picture omits Park, at which an operator takes over.
    steps = set(machine["States"]) - {"Park"}
    shown = texts()
    assert (with_table | steps) - set(shown) == set()
    assert sum(text == "table" for text in shown) == len(with_table)


def test_the_picture_shows_what_each_service_has():
    shown = texts()
    for service in ("users", "posts", "comments", "notifications", "orders", "inventory", "payments"):
        source = ROOT / "functions" / service / "src"
        kinds = {"consumers.rs": "consumers", "tasks.rs": "steps"}
        has = [kind for file, kind in kinds.items() if (source / file).exists()]
        place = shown.index(service)
        assert shown[place : place + 4] == [service, "endpoints", ", ".join(has), "table"]


def test_the_picture_of_the_system_has_a_dark_theme_and_fetches_nothing():
    svg = (DOCS / "system.svg").read_text()
    assert "prefers-color-scheme: dark" in svg
    assert re.findall(r"https?://[^\"]+", svg) == ["http://www.w3.org/2000/svg"]


def test_pictures_are_small():
    pictures = {path.name: path.stat().st_size for path in DOCS.iterdir() if path.suffix != ".md"}
    assert set(pictures) == {"system.svg", "order-trace-light.webp", "order-trace-dark.webp"}
    assert max(pictures.values()) < MAX_BYTES
