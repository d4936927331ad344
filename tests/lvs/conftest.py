"""What directors have known is shown with each failure, and what was measured at the end of a run."""

from collections.abc import Generator

import pytest

from tests.cluster import conftest as of_clusters
from tests.cluster.namespaces import Namespace, NoNamespaces
from tools.laboratory.uml import NoUml, UmlFiles

figures = of_clusters._figures


@pytest.fixture(scope="session", autouse=True)
def _possible() -> None:
    """End the run with one sentence where there can be no directors: who asks for these tests wants to know."""
    try:
        UmlFiles().check()
        Namespace().close()
    except (NoUml, NoNamespaces) as problem:
        pytest.exit(f"no directors here: {problem}", returncode=1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the directors have known when something failed."""
    report = yield
    lab = getattr(getattr(item, "cls", None), "lab", None)
    if report.failed and lab is not None:
        report.sections.append(("directors", lab.told()))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures, unless the tests of the cluster print them with theirs."""
    if not terminalreporter.config.pluginmanager.is_registered(of_clusters):
        of_clusters.pytest_terminal_summary(terminalreporter)
