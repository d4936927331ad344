"""The `rollcall` command: what is run, and nothing that takes long to import.

keepalived runs `rollcall check-sip` every second or so for each real server. All the other commands are in
registrar.command.commands, which knows the whole registrar and takes more than half a second of processor time to
import; the check takes hundredths of one.
"""

import sys


def main() -> None:
    """Run the words of the command line."""
    if sys.argv[1:2] == ["check-sip"]:
        from registrar.distribution.directors.check_sip import run

        sys.exit(run(sys.argv[2:]))
    from registrar.command.commands import main as all_commands

    all_commands()
