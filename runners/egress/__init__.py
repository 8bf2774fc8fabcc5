"""The way out: a proxy that lets a cell reach the hosts its rules name, and tells the daemon of each connection."""
