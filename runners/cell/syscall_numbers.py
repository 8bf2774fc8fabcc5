"""List the numbers of the system calls that the filter names, by machine; a call that a machine lacks is not there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Newer than Linux 5.0: the same number everywhere.
_COMMON: Final = {
    "pidfd_getfd": 438,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "clone3": 435,
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "set_mempolicy_home_node": 450,
    "open_tree_attr": 467,
}
_X86_64: Final = {
    **{"socket": 41, "sendto": 44, "sendmsg": 46, "socketpair": 53, "setsockopt": 54, "sendmmsg": 307},
    **{"clone": 56, "ioctl": 16, "memfd_create": 319},
    **{"ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312},
    **{"mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "unshare": 272, "setns": 308},
    **{"name_to_handle_at": 303, "open_by_handle_at": 304, "quotactl": 179, "swapon": 167, "swapoff": 168},
    **{"add_key": 248, "request_key": 249, "keyctl": 250},
    **{"bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "fanotify_init": 300},
    **{"kexec_load": 246, "kexec_file_load": 320, "init_module": 175, "finit_module": 313, "delete_module": 176},
    **{"reboot": 169, "acct": 163, "syslog": 103, "iopl": 172, "ioperm": 173, "vhangup": 153, "modify_ldt": 154},
    **{"settimeofday": 164, "clock_settime": 227, "clock_adjtime": 305, "adjtimex": 159},
    **{"sethostname": 170, "setdomainname": 171, "lookup_dcookie": 212, "nfsservctl": 180},
    **{"move_pages": 279, "migrate_pages": 256, "uselib": 134, "_sysctl": 156},
}
_AARCH64: Final = {
    **{"socket": 198, "sendto": 206, "sendmsg": 211, "socketpair": 199, "setsockopt": 208, "sendmmsg": 269},
    **{"clone": 220, "ioctl": 29, "memfd_create": 279},
    **{"ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272},
    **{"mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "unshare": 97, "setns": 268},
    **{"name_to_handle_at": 264, "open_by_handle_at": 265, "quotactl": 60, "swapon": 224, "swapoff": 225},
    **{"add_key": 217, "request_key": 218, "keyctl": 219},
    **{"bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "fanotify_init": 262},
    **{"kexec_load": 104, "kexec_file_load": 294, "init_module": 105, "finit_module": 273, "delete_module": 106},
    **{"reboot": 142, "acct": 89, "syslog": 116, "vhangup": 58},
    **{"settimeofday": 170, "clock_settime": 112, "clock_adjtime": 266, "adjtimex": 171},
    **{"sethostname": 161, "setdomainname": 162, "lookup_dcookie": 18, "nfsservctl": 42},
    **{"move_pages": 239, "migrate_pages": 238},
}

NUMBERS: Final[Mapping[str, Mapping[str, int]]] = {
    "x86_64": {**_COMMON, **_X86_64},
    "aarch64": {**_COMMON, **_AARCH64},
}
ARCHITECTURES: Final[Mapping[str, int]] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""The word by which the kernel tells a filter which table a call's number is of (AUDIT_ARCH_*)."""
