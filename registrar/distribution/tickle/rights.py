"""How a process that has opened what it needs gives up all its rights. The standard library alone is used here."""

import ctypes
import grp
import os
import pwd

PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 38, 24, 47, 4
CAPABILITY_VERSION = 0x20080522
CAPABILITIES = 64
"""So many there may be; linux/capability.h has 41."""

_libc = ctypes.CDLL(None, use_errno=True)


def give_up_rights(user: str) -> None:
    """Become `user`, if one is given, and keep no capability. Raises OSError and KeyError."""
    if os.geteuid() == 0:
        for capability in range(CAPABILITIES):
            _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    if user:
        entry = pwd.getpwnam(user)
        os.setgroups([group.gr_gid for group in grp.getgrall() if user in group.gr_mem])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    header, none = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)()
    if _libc.capset(header, none):
        raise OSError(code := ctypes.get_errno(), f"capset: {os.strerror(code)}")
