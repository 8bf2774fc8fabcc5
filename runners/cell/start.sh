#!/bin/sh
# Become the zygote. AppArmor gives a profile by the path of what is executed, which else would be the interpreter, and
# so every Python program's: epad-cell.apparmor names this file. Started so only where AppArmor restricts namespaces.
exec "$@"
