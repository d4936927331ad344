"""Whether keepalived can run the check: one that it cannot run it takes for a good one, and says nothing of it."""

import os
import shlex
import subprocess
from pwd import getpwnam

TRY_SECONDS = 10
"""How long the command may take to say how it is used."""

NOT_RUN = (126, 127)
"""What shells end with when they find no program, or may not run it."""


def cannot_run(command: str, user: str) -> str:
    """Return why a user cannot run a command on this machine; empty when he can, or when we may not try."""
    words = shlex.split(command)
    if os.geteuid() or not os.path.exists(words[0]):
        return ""
    try:
        group = getpwnam(user).pw_gid
        done = subprocess.run([*words, "--help"], user=user, group=group, extra_groups=[], cwd="/", check=False,
                              capture_output=True, text=True, timeout=TRY_SECONDS)
    except KeyError:
        return "there is no such user"
    except (OSError, subprocess.TimeoutExpired) as problem:
        return str(problem)
    return done.stderr.strip() if done.returncode in NOT_RUN else ""
