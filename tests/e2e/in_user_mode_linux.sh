#!/bin/sh
# Run tests that need a control group with a memory controller where this machine has none: in a kernel of its own.
# usage: tests/e2e/in_user_mode_linux.sh LINUX [TEST ...]    LINUX: `linux.uml` of Debian's package user-mode-linux
# Its root is this machine's; what it writes below /tmp and /run stays in it. Two gigabytes, a minute or three.
set -eu
linux=${1:?usage: in_user_mode_linux.sh LINUX [TEST ...]}
shift
here=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d /var/tmp/epad-uml.XXXXXX)
trap 'rm -rf "$work"' EXIT
cat >"$work/init" <<END
#!/bin/sh
exec >"$work/console" 2>&1
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t tmpfs tmpfs /tmp; mount -t tmpfs tmpfs /run
mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts; mount -t tmpfs shm /dev/shm
ip link set lo up; mount -t cgroup2 cgroup2 /sys/fs/cgroup
cd "$here"
.venv/bin/python -m pytest -n 0 -p no:cacheprovider --timeout 300 -rA ${*:-tests/e2e/test_memory.py}
echo "exit \$?"
sync; echo o >/proc/sysrq-trigger
sleep 60
END
chmod +x "$work/init"
"$linux" mem=3G rootfstype=hostfs rootflags=/ rw init="$work/init" con=null con0=fd:0,fd:1 </dev/null >"$work/kernel" 2>&1 || { tail -5 "$work/kernel"; exit 1; }
cat "$work/console"
grep -q '^exit 0$' "$work/console"
