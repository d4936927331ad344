"""`rollcall check` of a configuration with several sites."""

from tests.registrar.command.running import CommandCase, run

TWO = ('[[site]]\nname = "fra"\nmembers = ["192.0.2.11:5070"]\n'
       '[[site]]\nname = "ams"\nmembers = ["192.0.2.21:5070"]\n')
OURS = '[cluster]\nsite = "fra"\ninternal_host = "192.0.2.11"\n'
REDIS = '[location]\nkind = "redis"\n'


class SitesCheckTests(CommandCase):
    def configure(self, text: str) -> None:
        """Add to the configuration."""
        self.config.write_text(self.config.read_text() + text)

    def test_without_redis(self) -> None:
        """Several sites without Redis are a mistake: only nodes above Redis speak to each other."""
        self.configure(TWO + OURS)
        problem = " ".join(self.run_failing("check").split())
        self.assertIn('location.kind: "sqlite" is not allowed; allowed: "redis" where there are several sites', problem)

    def test_no_own_site(self) -> None:
        """With several sites a node has to know in which it stands."""
        self.configure(TWO + REDIS)
        problem = " ".join(self.run_failing("check").split())
        self.assertIn('cluster.site: "" is not allowed; allowed: the name of the [[site]] that this node stands in',
                      problem)

    def test_without_members(self) -> None:
        """Another site that has no members is not asked, which is told."""
        self.configure(TWO.replace('members = ["192.0.2.21:5070"]', "") + OURS + REDIS)
        result = run("check", ROLLCALL_CONFIG=str(self.config))
        self.assertIn("[[site]] ams has no members", " ".join(result.stderr.split()))
