"""One Chromium for a class of tests, and phones in its pages."""

import tempfile
from pathlib import Path
from typing import ClassVar

from tests.interop.browser_phone import Browser, BrowserPhone
from tests.interop.case import InteropCase

CAROL = ("carol", "singer")
"""Who has another phone beside alice and bob."""


class BrowserCase(InteropCase):
    """To be named before other bases; the browser's TLS keys let tshark read what goes over WSS."""

    browser: ClassVar[Browser]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.registrar.add_users([CAROL])
        profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        cls.addClassCleanup(profile.cleanup)
        cls.browser = Browser(Path(profile.name) / "browser")
        cls.browser.__enter__()
        cls.addClassCleanup(cls.browser.__exit__, None)
        cls.keys = cls.browser.keys

    def page(self, user: tuple[str, str], library: str, transport: str) -> BrowserPhone:
        """Open a page with a phone that is not registered yet."""
        phone = self.browser.phone(f"{user[0]}-{library}-{transport}", library)
        self.addCleanup(phone.close)
        return phone

    def registered(self, user: tuple[str, str], library: str, transport: str) -> BrowserPhone:
        """Open a page with a registered phone."""
        phone = self.page(user, library, transport)
        server = f"{transport}://{self.registrar.address(transport)}"
        self.assertEqual(phone.register(server, f"sip:{user[0]}@{self.registrar.domain}", *user), "200")
        return phone

    def aor(self, user: tuple[str, str]) -> str:
        """Return a user's address-of-record."""
        return f"sip:{user[0]}@{self.registrar.domain}"
