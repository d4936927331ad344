"""The worlds of a simulation."""

from twisted.trial.unittest import SynchronousTestCase

from tools.simulate.world import REGIONS, Scenario, build, carrier_of, region_of


class WorldTests(SynchronousTestCase):
    """What is true, and when."""

    def test_seeds(self) -> None:
        """A seed always gives the same world, another one another."""
        self.assertEqual(build(Scenario(), 1), build(Scenario(), 1))
        self.assertNotEqual(build(Scenario(), 1).epochs[0].ways, build(Scenario(), 2).epochs[0].ways)

    def test_size(self) -> None:
        """There is a group for each carrier and region, and each site has its nodes."""
        world = build(Scenario(carriers=3, nodes_per_site=2), 1)
        self.assertEqual({(carrier_of(group), region_of(group)) for group in world.groups},
                         {(f"carrier{number}", region) for number in (1, 2, 3) for region in REGIONS})
        self.assertEqual(len(world.nodes), 6)
        self.assertEqual(world.capacity, sum(node.capacity for node in world.nodes))

    def test_near(self) -> None:
        """On the whole packets take less time to a near site than to a far one."""
        ways = build(Scenario(carriers=8), 1).epochs[0].ways
        near = [way.delay_ms for (group, node), way in ways.items() if node.startswith(region_of(group))]
        far = [way.delay_ms for (group, node), way in ways.items() if not node.startswith(region_of(group))]
        self.assertLess(sum(near) / len(near) + 20, sum(far) / len(far))

    def test_equal(self) -> None:
        """Where all ways are equal they stay so."""
        world = build(Scenario(is_equal=True), 1)
        self.assertEqual(len(world.epochs), 1)
        self.assertEqual(len(set(world.epochs[0].ways.values())), 1)

    def test_troubles(self) -> None:
        """A brown-out makes the ways that it is about worse while it lasts, and no others."""
        world = build(Scenario(), 3)
        for trouble in world.troubles:
            then = world.at((max(trouble.begins, 0.0) + trouble.ends) / 2)
            for (group, node), way in then.ways.items():
                if group in trouble.groups and node in trouble.nodes:
                    self.assertGreaterEqual(way.up, trouble.up)
                    self.assertGreaterEqual(way.down, trouble.down)
            self.assertEqual(len({carrier_of(group) for group in trouble.groups}), 1)

    def test_sick_nodes(self) -> None:
        """A node is sick from the beginning of its sickness until its end."""
        world = build(Scenario(troubled=0.2), 3)
        sickness = next(each for each in world.sicknesses if each.begins > 0)
        self.assertEqual(world.at(sickness.begins + 0.001).sick[sickness.node].begins, sickness.begins)
        self.assertNotEqual(world.at(sickness.ends).sick[sickness.node].begins, sickness.begins)

    def test_share(self) -> None:
        """As much is in trouble as the scenario says, on average over worlds."""
        scenario = Scenario(troubled=0.05)
        sick = [sum(each.loss > 0 for each in epoch.sick.values()) / len(epoch.sick)
                for seed in range(200) for epoch in [build(scenario, seed).at(150.0)]]
        self.assertLess(abs(sum(sick) / len(sick) - 0.05), 0.02)
