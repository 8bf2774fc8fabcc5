#!/bin/bash
# systemd_box.sh - boot a REAL systemd (PID 1 of its own pid/mount/uts/ipc/cgroup/net namespaces)
# on a throw-away overlay of this machine's "/", with a private cgroup2 subtree.
#   systemd_box.sh up   [NAME]          boot; prints "up in N.Ns"
#   systemd_box.sh sh   [NAME] CMD...   run CMD inside (nsenter + chroot into the box's root)
#   systemd_box.sh down [NAME]          stop it and remove everything
# Needs: root, overlayfs, cgroup2 mounted at /sys/fs/cgroup/unified (or /sys/fs/cgroup). No packages beyond "systemd dbus".
set -euo pipefail
CMD=${1:?up|sh|down}; NAME=${2:-epad}; shift $(( $# > 1 ? 2 : 1 ))
BASE=/tmp/sdbox/$NAME
CG2=/sys/fs/cgroup/unified; [ -f /sys/fs/cgroup/cgroup.controllers ] && CG2=/sys/fs/cgroup
CG=$CG2/sdbox-$NAME

pid1() { cat "$BASE/pid1" 2>/dev/null; }
inbox() { nsenter -t "$(pid1)" -m -p -u -i -n -C -r -w env -i \
            PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb "$@"; }

case $CMD in
up)
  T0=$(date +%s.%N)
  mkdir -p "$BASE"/{ov,merged}
  mount -t tmpfs -o size=2g,mode=755 sdbox "$BASE/ov"
  mkdir "$BASE"/ov/{upper,work}
  mkdir -p "$CG"
  # the inner script runs as the child of unshare --fork, that is as PID 1 of the new pid namespace
  cat > "$BASE/init.sh" <<'INNER'
#!/bin/bash
set -e
BASE=$1; M=$BASE/merged
mount --make-rprivate /
mount -t overlay overlay -o lowerdir=/,upperdir=$BASE/ov/upper,workdir=$BASE/ov/work,index=off,xino=off "$M"
mount -t proc proc "$M/proc"
mount -t sysfs -o ro sysfs "$M/sys"
mount -t tmpfs -o mode=755 tmpfs "$M/run"
mount -t tmpfs -o mode=755 tmpfs "$M/dev"
for d in null zero full random urandom tty; do touch "$M/dev/$d"; mount --bind /dev/$d "$M/dev/$d"; done
mkdir -p "$M"/dev/{pts,shm}; mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$M/dev/pts"; ln -s pts/ptmx "$M/dev/ptmx"
ln -s /proc/self/fd "$M/dev/fd"; ln -s fd/0 "$M/dev/stdin"; ln -s fd/1 "$M/dev/stdout"; ln -s fd/2 "$M/dev/stderr"
mount -t tmpfs -o mode=1777 tmpfs "$M/dev/shm"
mount -t tmpfs -o mode=1777 tmpfs "$M/tmp"
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 -o nsdelegate cgroup2 "$M/sys/fs/cgroup"     # cgroup namespace: shows only our subtree
# share what the tests need (read-write bind of given directories)
for b in ${SDBOX_BIND:-}; do mkdir -p "$M$b"; mount --bind "$b" "$M$b"; done
# a quiet boot: own target, nothing of the host's enabled units
rm -f "$M"/etc/machine-id; printf '%032x\n' $RANDOM$RANDOM > "$M/etc/machine-id"
rm -rf "$M"/etc/systemd/system/*.wants "$M"/var/log/journal
# the units of the lower "/" that a container must not run
for u in systemd-udevd.service systemd-udev-trigger.service systemd-modules-load.service kmod-static-nodes.service \
         systemd-timesyncd.service systemd-resolved.service systemd-networkd.service systemd-hwdb-update.service \
         apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer dpkg-db-backup.timer \
         console-getty.service getty.target systemd-logind.service systemd-remount-fs.service proc-sys-fs-binfmt_misc.automount \
         dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
         sys-fs-fuse-connections.mount systemd-firstboot.service systemd-sysctl.service postgresql.service; do
  ln -sf /dev/null "$M/etc/systemd/system/$u"; done
: > "$M/etc/fstab"
mkdir -p "$M/etc/systemd/system.conf.d" "$M/etc/systemd/journald.conf.d"
cat > "$M/etc/systemd/system/sdbox.target" <<U
[Unit]
Description=sdbox
Requires=basic.target dbus.socket systemd-journald.service
After=basic.target dbus.socket
AllowIsolate=yes
U
printf '[Manager]\nLogTarget=journal-or-kmsg\nDefaultTimeoutStopSec=5s\nShowStatus=no\n' > "$M/etc/systemd/system.conf.d/sdbox.conf"
printf '[Journal]\nStorage=volatile\nForwardToConsole=no\nReadKMsg=no\nAudit=no\n' > "$M/etc/systemd/journald.conf.d/sdbox.conf"
ip link set lo up 2>/dev/null || true
cd "$M"; mkdir -p run/oldroot; pivot_root . run/oldroot; cd /
umount -l /run/oldroot; rmdir /run/oldroot
mount --make-rshared /     # systemd in a "container" expects it: LoadCredential and mount namespaces depend on it
exec env -i container=sdbox PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
     /lib/systemd/systemd --unit=sdbox.target </dev/null
INNER
  chmod +x "$BASE/init.sh"
  # become a member of the private cgroup BEFORE unsharing the cgroup namespace, so that it becomes the namespace's root
  setsid bash -c 'echo $$ > "$1/cgroup.procs"; exec unshare --mount --pid --uts --ipc --net --cgroup --fork --kill-child=SIGKILL "$2/init.sh" "$2"' \
     _ "$CG" "$BASE" </dev/null >"$BASE/console.log" 2>&1 &
  OUTER=$!; echo $OUTER > "$BASE/outer"
  for i in $(seq 600); do
    P=$(pgrep -P $OUTER || true); [ -n "$P" ] && echo "$P" > "$BASE/pid1"
    if [ -n "$P" ] && [ "$(cat /proc/$P/comm 2>/dev/null)" = systemd ] && inbox systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'; then
      printf 'up in %.2fs pid1=%s state=%s\n' "$(echo "$(date +%s.%N) - $T0" | bc 2>/dev/null || python3 -c "import time;print(time.time()-$T0)")" "$P" "$(inbox systemctl is-system-running || true)"; exit 0; fi
    kill -0 $OUTER 2>/dev/null || { echo "died:"; cat "$BASE/console.log"; exit 1; }
    sleep 0.1
  done
  echo "not up in 60 s"; cat "$BASE/console.log"; exit 1;;
sh) inbox "$@";;
down)
  P=$(pid1 || true)
  if [ -n "${P:-}" ] && [ -d /proc/$P ]; then kill -s SIGRTMIN+4 "$P" 2>/dev/null || true   # SIGRTMIN+4 = poweroff.target
    for i in $(seq 60); do [ -d /proc/$P ] || break; sleep 0.1; done
    [ -d /proc/$P ] && echo 1 > "$CG/cgroup.kill"; fi
  for i in $(seq 30); do [ -s "$CG/cgroup.procs" ] || break; sleep 0.1; done
  find "$CG" -depth -type d -exec rmdir {} \; 2>/dev/null || true
  umount -l "$BASE/ov" 2>/dev/null || true
  rm -rf --one-file-system "$BASE"; echo down;;
esac
