"""Ways to files outside, and to those inside that run or open something outside."""

from __future__ import annotations

import os
import socket
import subprocess

from escapes.case import LIBC, Facts, escape, read, write

EITHER = ("files", "landlock")


@escape(*EITHER)
def read_a_neighbours_file(facts: Facts) -> bool:
    return facts["secret"] in read(f"{facts['outside']}/secret")


@escape(*EITHER)
def write_a_neighbours_file(facts: Facts) -> bool:
    return write(f"{facts['outside']}/scratch")


@escape(*EITHER)
def make_a_file_beside_a_neighbours(facts: Facts) -> bool:
    return write(f"{facts['outside']}/new-{os.getpid()}")


@escape(*EITHER)
def delete_a_neighbours_file(facts: Facts) -> bool:
    os.unlink(f"{facts['outside']}/doomed")
    return True


@escape(*EITHER)
def read_an_ssh_key(facts: Facts) -> bool:
    return facts["secret"] in read(f"{facts['outside']}/.ssh/id_ed25519")


@escape(*EITHER)
def read_cloud_credentials(facts: Facts) -> bool:
    return facts["secret"] in read(f"{facts['outside']}/.aws/credentials")


@escape(*EITHER)
def write_a_shells_rc_file(facts: Facts) -> bool:
    return write(f"{facts['outside']}/.bashrc", "touch /tmp/owned\n")


@escape(*EITHER)
def start_with_the_session(facts: Facts) -> bool:
    return write(f"{facts['outside']}/.config/autostart/x.desktop")


@escape(*EITHER)
def list_a_neighbours_directory(facts: Facts) -> bool:
    return "secret" in os.listdir(facts["outside"])


@escape(*EITHER)
def read_through_a_link_that_was_planted(facts: Facts) -> bool:
    return facts["secret"] in read(f"{facts['workspace']}/planted")


@escape(*EITHER)
def read_through_a_link_of_ones_own(facts: Facts) -> bool:
    link = f"{facts['workspace']}/link-{os.getpid()}"
    os.symlink(f"{facts['outside']}/secret", link)
    return facts["secret"] in read(link)


@escape(*EITHER)
def read_through_the_parent_directory(facts: Facts) -> bool:
    up = "/".join([".."] * 12)
    return facts["secret"] in read(f"/proc/self/cwd/{up}{facts['outside']}/secret")


@escape(*EITHER)
def link_a_neighbours_file_in(facts: Facts) -> bool:
    os.link(f"{facts['outside']}/secret", f"{facts['workspace']}/hard-{os.getpid()}")
    return True


@escape(*EITHER)
def move_a_neighbours_file_in(facts: Facts) -> bool:
    os.rename(f"{facts['outside']}/moved", f"{facts['workspace']}/moved-{os.getpid()}")
    return True


@escape("files", "landlock-truncate")
def cut_a_neighbours_file(facts: Facts) -> bool:
    os.truncate(f"{facts['outside']}/scratch", 0)
    return True


@escape("files")
def change_a_neighbours_rights(facts: Facts) -> bool:
    os.chmod(f"{facts['outside']}/scratch", 0o666)
    return True


@escape("files")
def change_a_neighbours_times(facts: Facts) -> bool:
    os.utime(f"{facts['outside']}/scratch", (1, 1))
    return True


@escape("files")
def tell_if_a_file_is_there(facts: Facts) -> bool:
    return os.stat(f"{facts['outside']}/secret").st_size > 0


@escape("files")
def watch_a_neighbours_directory(facts: Facts) -> bool:
    watcher = LIBC.inotify_init1(0)
    return int(LIBC.inotify_add_watch(watcher, facts["outside"].encode(), 0xFFF)) >= 0


@escape(*EITHER)
def run_a_neighbours_program(facts: Facts) -> bool:
    return subprocess.run([f"{facts['outside']}/program"], check=False).returncode == 0


@escape("files", "landlock")
def read_a_hidden_directory(facts: Facts) -> bool:
    return facts["secret"] in read(f"{facts['readable']}/hidden/token")


@escape("files", "landlock")
def write_a_readable_file(facts: Facts) -> bool:
    return write(f"{facts['readable']}/open")


@escape(*EITHER)
def leave_a_file_in_the_shared_tmp(facts: Facts) -> bool:
    path = f"/tmp/{facts['unique']}-{os.getpid()}"
    write(path)
    return bool(facts["tmp_inode"] == os.stat("/tmp").st_ino)


@escape(*EITHER)
def read_shared_memory(facts: Facts) -> bool:
    return facts["secret"] in read(f"/dev/shm/{facts['unique']}")


@escape(*EITHER)
def look_round_in_sys(facts: Facts) -> bool:
    return len(os.listdir("/sys/class")) > 0


@escape(*EITHER)
def read_the_hosts_settings(facts: Facts) -> bool:
    return len(os.listdir("/etc/systemd")) > 0


@escape("files")
def plant_a_git_hook(facts: Facts) -> bool:
    return write(f"{facts['workspace']}/.git/hooks/post-checkout-{os.getpid()}")


@escape("files")
def change_gits_configuration(facts: Facts) -> bool:
    return write(f"{facts['workspace']}/.git/config", "\n[core]\n\thooksPath = /tmp\n")


@escape("files")
def put_another_git_directory_there(facts: Facts) -> bool:
    os.rename(f"{facts['workspace']}/.git", f"{facts['workspace']}/.git-{os.getpid()}")
    os.rename(f"{facts['workspace']}/.git-{os.getpid()}", f"{facts['workspace']}/.git")
    return True


@escape("files")
def replace_gits_configuration(facts: Facts) -> bool:
    draft = f"{facts['workspace']}/.git/config.lock"
    write(draft, "[core]\n")
    os.rename(draft, f"{facts['workspace']}/.git/config")
    return True


@escape("files")
def make_an_envrc(facts: Facts) -> bool:
    return write(f"{facts['workspace']}/.envrc", "touch /tmp/owned\n")


@escape("files")
def make_an_editors_task(facts: Facts) -> bool:
    os.makedirs(f"{facts['workspace']}/.vscode", exist_ok=True)
    return write(f"{facts['workspace']}/.vscode/tasks-{os.getpid()}.json")


@escape("files")
def reach_a_docker_socket(facts: Facts) -> bool:
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(f"{facts['outside']}/docker.sock")
    return True


@escape("files")
def send_to_a_bus_by_its_path(facts: Facts) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.sendto(b"x", f"{facts['outside']}/bus")
    return True


@escape("files", "privileges", "syscalls", "landlock")
def become_root_by_a_set_user_id_program(facts: Facts) -> bool:
    shown = subprocess.run([facts["suid"], "-u"], capture_output=True, check=False).stdout.strip()
    return os.geteuid() != 0 and shown == b"0"


@escape("files", "landlock")
def open_a_neighbours_terminal(facts: Facts) -> bool:
    os.close(os.open(facts["terminal"], os.O_RDWR | os.O_NOCTTY))
    return True
