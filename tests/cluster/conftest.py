"""The figures that the tests of the cluster have measured stand in the summary of a run, whether they passed or not."""

from collections.abc import Callable

import pytest

from tests.cluster.case import FIGURE


@pytest.fixture(autouse=True)
def _figures(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    if hasattr(request.instance, "record"):
        request.instance.record = record_property


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print them, also those that came from other processes of the run."""
    lines = [
        f"{report.nodeid.partition('::')[2]}: {value}"
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
        if name == FIGURE
    ]
    if lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.line(line)
