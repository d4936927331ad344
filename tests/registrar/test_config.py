"""The registrar's configuration: the example that operators copy, and mistakes that are named."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import attrs
from twisted.trial.unittest import SynchronousTestCase

from registrar.config import RegistrarConfig
from rollcall.net.config import ListenerConfig
from rollcall.ops.config import ConfigError, load, loads

EXAMPLE = Path(__file__).parents[2] / "etc" / "registrar.toml"
LEAST = """
[[domain]]
name = "example.com"
[[listen]]
name = "udp"
transport = "udp"
"""
# What has no default that could be written down: the example shows what one may look like.
ILLUSTRATED = {
    "registrar.node", "domain.aliases", "listen.name", "listen.transport", "listen.host", "listen.advertise_host",
    "listen.advertise_port", "listen.proxy_protocol_from", "listen.allowed_origins", "tls.certificates",
    "tls.trust_roots_file", "redis.tls_authority_file", "redis.tls_certificate_file", "redis.tls_key_file",
    "cluster.internal_certificate_file", "cluster.internal_key_file", "cluster.internal_authority_file",
    "mysql.replicas", "mysql.tls_authority_file", "mysql.tls_certificate_file", "mysql.tls_key_file", "bans.never",
    "resolver.servers", "regevent.watchers", "admin.token", "log.levels", "log.file", "access.prefix_file",
    "access.asn_file", "access.country_file", "site.name", "site.addresses", "site.members", "dns.listen",
    "dns.secondaries", "dns.transfer_networks",
    "dns.domains", "dns.listeners", "dns.addresses", "dns.name_servers", "dns.routes",
    "health.agent", "health.agent_networks", "directors.addresses", "directors.directors", "directors.nodes",
    "directors.gateways",
}
# What follows from other settings when it is not given.
DERIVED = {"registrar.secret_file", "location.file", "location.journal_file", "subscribers.file",
           "database.file", "calls.spool_dir", "keepalive.user_timeout"}


def sections() -> dict[str, Any]:
    """Return the class of each section by its name in the file."""
    attrs.resolve_types(RegistrarConfig)
    types: dict[str, Any] = {str(field.alias): field.type for field in attrs.fields(RegistrarConfig)}
    return {name: kind if attrs.has(kind) else get_args(kind)[0] for name, kind in types.items()}


def keys(cls: Any) -> dict[str, str]:
    """Return the names of a section's settings in the code by those in the file."""
    return {str(field.alias): field.name for field in attrs.fields(cls)}


class ExampleTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Put the example, with everything uncommented, where its token file is."""
        self.directory = Path(self.enterContext(TemporaryDirectory()))
        (self.directory / "data").mkdir()
        (self.directory / "data" / "admin.token").write_text("t0p\n")
        self.text = re.sub(r"(?m)^# (\w+ = |\[)", r"\1", EXAMPLE.read_text())
        self.path = self.directory / "registrar.toml"
        self.path.write_text(self.text)

    def test_as_it_stands(self) -> None:
        """The example is good as it is, and sets nothing but a domain and listeners."""
        config = load(EXAMPLE, RegistrarConfig)
        least = loads(LEAST, RegistrarConfig, EXAMPLE)
        for name in sections():
            if name not in ("domain", "listen", "site"):
                self.assertEqual(getattr(config, name), getattr(least, name), name)
        self.assertEqual([listener.name for listener in config.listeners], ["udp", "tcp"])

    def test_defaults(self) -> None:
        """Every setting that is commented out has the value that it has without the line."""
        shown, least = load(self.path, RegistrarConfig), loads(LEAST, RegistrarConfig, self.path)
        for section, cls in sections().items():
            if section in ("domain", "listen", "site"):
                continue
            for key, name in keys(cls).items():
                if f"{section}.{key}" not in ILLUSTRATED | DERIVED:
                    value, default = (getattr(getattr(config, section), name) for config in (shown, least))
                    self.assertEqual(value, default, f"{section}.{key}")
        plain = ListenerConfig(name="udp", transport="udp")
        for key, name in keys(ListenerConfig).items():
            if f"listen.{key}" not in ILLUSTRATED:
                self.assertEqual(getattr(shown.listeners[0], name), getattr(plain, name), f"listen.{key}")

    def test_derived_defaults(self) -> None:
        """What follows from other settings is shown as it follows from their defaults."""
        shown, least = load(self.path, RegistrarConfig), loads(LEAST, RegistrarConfig, self.path)
        self.assertEqual(shown.keepalive.user_timeout_ms, least.keepalive.user_timeout_ms)
        for given, name in ((shown.registrar.secret_file, "node.secret"), (shown.location.file, "location.sqlite"),
                            (shown.subscribers.file, "subscribers.sqlite")):
            self.assertEqual(given, least.path(None, name))

    def test_nothing_is_missing(self) -> None:
        """Every setting that there is stands in the example, in its section."""
        shown: dict[str, set[str]] = {}
        section = ""
        for line in self.text.splitlines():
            if found := re.match(r"\[+(\w+)\]+", line):
                section = found[1]
            elif found := re.match(r"(\w+) = ", line):
                shown.setdefault(section, set()).add(found[1])
        known = {section: set(keys(cls)) for section, cls in sections().items()}
        known["admin"].symmetric_difference_update({"token", "token_file"})
        for section in known | shown:
            self.assertEqual(shown.get(section), known.get(section), section)

    def test_secrets(self) -> None:
        """The token stands in a file of its own, and is shown nowhere."""
        config = load(self.path, RegistrarConfig)
        self.assertEqual(config.admin.token, "t0p")
        self.assertNotIn("t0p", repr(config))


class MistakeTests(SynchronousTestCase):
    def mistakes(self, text: str) -> dict[str, str]:
        """Return what is wrong with a configuration, by key."""
        error = self.assertRaises(ConfigError, loads, text, RegistrarConfig)
        return {problem.key: problem.allowed for problem in error.problems}

    def test_least(self) -> None:
        """A domain and a listener are all that is needed; without one of them there is nothing to do."""
        loads(LEAST, RegistrarConfig)
        self.assertEqual(set(self.mistakes("")), {"domain", "listen"})
        self.assertEqual(set(self.mistakes("domain = []\nlisten = []")), {"domain", "listen"})

    def test_one_in_each_section(self) -> None:
        """A value that cannot be is named with its section, whichever it is, and all of them at once."""
        wrong = {
            "registrar.retry_after_seconds": "0", "registrar.node": '"a b"', "keepalive.probes": "0",
            "limits.max_head_bytes": "10", "tls.minimum_version": '"1.1"', "resolver.timeout_seconds": "0",
            "admission.window_seconds": "0", "transactions.t1_seconds": "0", "auth.algorithms": '["SHA-1"]',
            "auth.required": '"no"',
            "bindings.max_contacts": "0", "bindings.service_route": '["<sip:edge.example.com>"]',
            "proxy.strangers": '"welcome"', "proxy.timer_c_seconds": "180", "location.kind": '"tables"',
            "location.synchronous": '"OFF"', "subscribers.threads": "0", "admin.port": "65536", "log.level": '"loud"',
        }
        text = LEAST
        section = ""
        for place, value in wrong.items():
            if not place.startswith(f"{section}."):
                section = place.partition(".")[0]
                text += f"[{section}]\n"
            text += f"{place.partition('.')[2]} = {value}\n"
        self.assertEqual(set(self.mistakes(text)), set(wrong))

    def test_unknown_keys(self) -> None:
        """A key or section that nobody knows is a mistake, with the nearest that is known."""
        for text, key, near in (
            ("[bindings]\nmax_expiry_seconds = 60", "bindings.max_expiry_seconds", "max_expires_seconds"),
            ("[binding]\nmax_contacts = 1", "binding", "bindings"),
        ):
            self.assertIn(near, self.mistakes(LEAST + text)[key])

    def test_domains(self) -> None:
        """Domains and aliases are host names or addresses."""
        text = LEAST.replace('"example.com"', '"sip:example.com"\naliases = ["192.0.2.1", "a b"]')
        self.assertEqual(set(self.mistakes(text)), {"domain[0].name", "domain[0].aliases"})

    def test_the_same_domain_twice(self) -> None:
        """A name that two domains claim is nobody's, however it is spelt; the mistake names it."""
        for second in ('name = "EXAMPLE.com"', 'name = "example.org"\naliases = ["example.com."]',
                       'name = "::1"\naliases = ["example.net", "Example.Com"]'):
            mistakes = self.mistakes(LEAST + f"[[domain]]\n{second}")
            self.assertEqual(set(mistakes), {"domain"}, second)

    def test_the_same_listener_twice(self) -> None:
        """Two listeners cannot have the same name."""
        (said,) = self.mistakes(LEAST + '[[listen]]\nname = "udp"\ntransport = "tcp"').values()
        self.assertIn("udp is there twice", said)

    def test_no_certificate(self) -> None:
        """A TLS or WSS listener needs a certificate."""
        certificate = '[tls]\ncertificates = [{certificate_file = "c", key_file = "k"}]\n'
        for transport in ("tls", "wss"):
            text = LEAST.replace('transport = "udp"', f'transport = "{transport}"')
            (said,) = self.mistakes(text).values()
            self.assertIn("tls.certificates is empty", said)
            loads(text + certificate, RegistrarConfig)

    def test_one_file_for_two_stores(self) -> None:
        """Bindings and subscribers cannot share a file, whoever names it."""
        for text in ('[location]\nfile = "data/subscribers.sqlite"', '[subscribers]\nfile = "data/./location.sqlite"',
                     '[location]\nfile = "a"\n[subscribers]\nfile = "a"'):
            self.assertEqual(set(self.mistakes(LEAST + text)), {"location.file"}, text)

    def test_times_that_contradict_each_other(self) -> None:
        """Expiry times have an order."""
        self.assertEqual(set(self.mistakes(LEAST + "[bindings]\nmin_expires_seconds = 9000")),
                         {"bindings.min_expires_seconds"})
        self.assertEqual(set(self.mistakes(LEAST + "[bindings]\ndefault_expires_seconds = 30")),
                         {"bindings.default_expires_seconds"})

    def test_workers(self) -> None:
        """Workers share their ports, so each has to have one; their pauses have an order."""
        self.assertEqual(set(self.mistakes(LEAST + "port = 0\n[registrar]\nworkers = 2")), {"listen.port"})
        self.assertEqual(set(self.mistakes(LEAST + "[registrar]\nworkers = 0")), {"registrar.workers"})
        self.assertEqual(set(self.mistakes(LEAST + "[workers]\nrestart_seconds = 31")), {"workers.restart_seconds"})
        for number, shared in ((1, False), (2, True)):
            config = loads(LEAST + f"[registrar]\nworkers = {number}", RegistrarConfig)
            self.assertEqual([listener.reuse_port for listener in config.net.listeners], [shared])

    def test_open_admin_site(self) -> None:
        """An admin site that others can reach needs a token."""
        self.assertEqual(set(self.mistakes(LEAST + '[admin]\nhost = "0.0.0.0"')), {"admin.token"})
