"""Start the simulation, as `python -m tools.simulate`."""

from tools.simulate.command import main

main()
