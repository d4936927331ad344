"""A real MariaDB for each class of tests."""

import tempfile
from pathlib import Path
from typing import ClassVar

from tools.laboratory.mariadb_servers import Kind, MariadbServers


class MariadbCase:
    """To be mixed into a TestCase, before it."""

    kind: ClassVar[Kind] = "single"
    mysql: ClassVar[MariadbServers]
    _folder: ClassVar["tempfile.TemporaryDirectory[str]"]

    @classmethod
    def setUpClass(cls) -> None:
        cls._folder = tempfile.TemporaryDirectory()
        cls.mysql = MariadbServers(Path(cls._folder.name) / "mysql", cls.kind)
        cls.mysql.start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.mysql.stop()
        cls._folder.cleanup()
