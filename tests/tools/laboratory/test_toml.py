"""What the lab writes as TOML."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tools.laboratory.toml import joined, toml_of

NAMES = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
TABLES = st.dictionaries(NAMES, VALUES, max_size=3)


class TomlTests(SynchronousTestCase):
    @given(st.dictionaries(NAMES, TABLES | st.lists(TABLES, min_size=1, max_size=3), max_size=4))
    def test_reads_back(self, sections: dict[str, object]) -> None:
        """What is written says what was meant, whatever characters are in it."""
        self.assertEqual(tomllib.loads(toml_of(sections)), sections)

    def test_joined(self) -> None:
        """Of a table that both have, each gives its keys, and the second one's count."""
        ours = {"cluster": {"port": 1, "host": "a"}, "log": {"level": "info"}, "listen": [{"port": 1}]}
        theirs = {"cluster": {"port": 2}, "listen": [{"port": 3}], "redis": {"tls": True}}
        self.assertEqual(
            joined(ours, theirs),
            {"cluster": {"port": 2, "host": "a"}, "log": {"level": "info"}, "listen": [{"port": 3}],
             "redis": {"tls": True}},
        )
