#!/bin/sh
# Installs epad as a system service: `sudo sh systemd/install.sh`. Doing it again upgrades; nothing configured is touched.
# EPAD_PROGRAM names an epad that is installed already, to be used instead of one in /opt/epad/.venv.
set -eu
[ "$(id -u)" = 0 ] || { echo "systemd/install.sh: run it as root: sudo sh systemd/install.sh" >&2; exit 1; }
[ -d /run/systemd/system ] || { echo "systemd/install.sh: systemd does not run here; see docs/systemd.md" >&2; exit 1; }
here=$(cd "$(dirname "$0")" && pwd)
source=$(dirname "$here")
program=${EPAD_PROGRAM:-/opt/epad/.venv/bin/epad}

if [ -z "${EPAD_PROGRAM:-}" ]; then
    mkdir -p /opt/epad
    [ -x /opt/epad/.venv/bin/python ] || "${PYTHON:-python3}" -m venv /opt/epad/.venv
    /opt/epad/.venv/bin/pip install --quiet -c "$source/constraints.txt" "$source"
    install -m 0644 "$source/README.md" /opt/epad/README.md
fi

install -D -m 0644 "$here/epad.sysusers" /usr/lib/sysusers.d/epad.conf
systemd-sysusers /usr/lib/sysusers.d/epad.conf
number=$(id -u epad)

install -d -m 0750 -g epad /etc/epad /etc/epad/epad.toml.d
[ -e /etc/epad/epad.toml ] || printf '# What differs from `epad default-config`.\n' >/etc/epad/epad.toml
printf '# Children are transient units of user epad. Written by systemd/install.sh.\n[daemon]\nengine = "systemd"\n' \
    >/etc/epad/epad.toml.d/10-systemd.toml
chgrp epad /etc/epad/epad.toml /etc/epad/epad.toml.d/10-systemd.toml
chmod 0640 /etc/epad/epad.toml /etc/epad/epad.toml.d/10-systemd.toml
install -D -m 0644 "$here/epad.tmpfiles" /usr/lib/tmpfiles.d/epad.conf
systemd-tmpfiles --create /usr/lib/tmpfiles.d/epad.conf

sed -e "s#^ExecStart=[^ ]*#ExecStart=$program#" -e "s#^ExecReload=[^ ]*#ExecReload=$(dirname "$program")/epactl#" \
    "$here/epad.service" >/etc/systemd/system/epad.service
mkdir -p /etc/systemd/system/epad.service.d
printf '# The manager that the children are units of. Written by systemd/install.sh.\n[Unit]\nWants=user@%s.service\nAfter=user@%s.service\n' \
    "$number" "$number" >/etc/systemd/system/epad.service.d/10-user-manager.conf
# Lingering: a login session of user epad that ends must not take the manager, and the children, with it.
mkdir -p /var/lib/systemd/linger
: >/var/lib/systemd/linger/epad

systemctl daemon-reload
systemctl enable epad.service
systemctl restart epad.service
systemctl --no-pager --lines=0 status epad.service
