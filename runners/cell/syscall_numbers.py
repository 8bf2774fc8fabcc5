"""List the numbers of the system calls that the filter names, by machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_MACHINES: Final = ("x86_64", "aarch64")
# From the kernel's arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h; a dash is a call that
# the machine lacks. Those of 424 and above are newer than Linux 5.0, and the same everywhere.
_TABLE: Final = """
socket                     41  198
sendto                     44  206
sendmsg                    46  211
socketpair                 53  199
setsockopt                 54  208
sendmmsg                  307  269
clone                      56  220
ioctl                      16   29
memfd_create              319  279
ptrace                    101  117
process_vm_readv          310  270
process_vm_writev         311  271
kcmp                      312  272
mount                     165   40
umount2                   166   39
pivot_root                155   41
chroot                    161   51
unshare                   272   97
setns                     308  268
name_to_handle_at         303  264
open_by_handle_at         304  265
quotactl                  179   60
swapon                    167  224
swapoff                   168  225
add_key                   248  217
request_key               249  218
keyctl                    250  219
bpf                       321  280
perf_event_open           298  241
userfaultfd               323  282
fanotify_init             300  262
kexec_load                246  104
kexec_file_load           320  294
init_module               175  105
finit_module              313  273
delete_module             176  106
reboot                    169  142
acct                      163   89
syslog                    103  116
iopl                      172    -
ioperm                    173    -
vhangup                   153   58
modify_ldt                154    -
settimeofday              164  170
clock_settime             227  112
clock_adjtime             305  266
adjtimex                  159  171
sethostname               170  161
setdomainname             171  162
lookup_dcookie            212   18
nfsservctl                180   42
move_pages                279  239
migrate_pages             256  238
uselib                    134    -
_sysctl                   156    -
pidfd_getfd               438  438
io_uring_setup            425  425
io_uring_enter            426  426
io_uring_register         427  427
open_tree                 428  428
move_mount                429  429
fsopen                    430  430
fsconfig                  431  431
fsmount                   432  432
fspick                    433  433
clone3                    435  435
process_madvise           440  440
mount_setattr             442  442
quotactl_fd               443  443
set_mempolicy_home_node   450  450
open_tree_attr            467  467
"""

ARCHITECTURES: Final[Mapping[str, int]] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""The word by which the kernel tells a filter which table a call's number is of (AUDIT_ARCH_*)."""


def _column(index: int) -> dict[str, int]:
    rows = (line.split() for line in _TABLE.splitlines() if line)
    return {name: int(numbers[index]) for name, *numbers in rows if numbers[index] != "-"}


NUMBERS: Final[Mapping[str, Mapping[str, int]]] = {
    machine: _column(index) for index, machine in enumerate(_MACHINES)
}
