"""Becomes User-Mode Linux, on any processor: `python -I uml_start.py KERNEL ARGUMENT …`.

User-Mode Linux of Debian 12 keeps the registers of its processes in a buffer that is too small for those of newer
processors (AMX, 11 kB), and then stops at its first process. Where the host says that it does not know such buffers, it
uses the old form, which has the registers of SSE alone. What a program has in the upper halves of AVX registers is lost
then at any page fault; so programs inside are told not to use them (uml.py).
"""

import ctypes
import os
import platform
import struct
import sys
from errno import ENODEV

# <linux/prctl.h>, <linux/seccomp.h>
_NO_NEW_PRIVILEGES = 38
_SET_SECCOMP, _MODE_FILTER = 22, 2
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
# <linux/ptrace.h>, <linux/elf.h>; the system call's number on x86-64, for which alone Debian has User-Mode Linux.
_PTRACE, _GETREGSET, _XSTATE = 101, 0x4204, 0x202
# <linux/bpf_common.h>: load a word, compare with a constant, return a constant.
_LOAD, _IS, _RETURN = 0x20, 0x15, 0x06
# Where struct seccomp_data has the call's number and its first and third argument.
_NUMBER, _FIRST, _THIRD = 0, 16, 32


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def refuse_xstate() -> None:
    """Let ptrace(PTRACE_GETREGSET, …, NT_X86_XSTATE) say ENODEV to this process and all that come from it."""
    conditions = ((_NUMBER, _PTRACE), (_FIRST, _GETREGSET), (_THIRD, _XSTATE))
    instructions = b""
    for turn, (place, wanted) in enumerate(conditions):
        # What comes after this comparison: two instructions for each further condition, and the refusal.
        left = 2 * (len(conditions) - turn - 1) + 1
        instructions += struct.pack("HBBI", _LOAD, 0, 0, place) + struct.pack("HBBI", _IS, 0, left, wanted)
    instructions += struct.pack("HBBI", _RETURN, 0, 0, _ERRNO | ENODEV) + struct.pack("HBBI", _RETURN, 0, 0, _ALLOW)
    program = _Program(len(instructions) // 8, instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    filtered = (_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) or libc.prctl(*filtered):
        raise OSError(code := ctypes.get_errno(), f"seccomp: {os.strerror(code)}")


def main() -> None:
    """Become the kernel that the first argument names."""
    if platform.machine() == "x86_64":
        refuse_xstate()
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
