"""Hold the words that mean the same to whoever looks for a tool: a line each. They are the field's words, no tool's."""

from __future__ import annotations

from typing import Final

_LINES: Final = """
copy duplicate clone
move rename
delete remove erase forget drop
directory folder
content text
first head beginning begin top start
last tail end bottom latest recent
create make new add generate
append add
change modify edit update modification
replace substitute
save write store
open read get
find search locate
use usage reference
difference diff compare
part chunk piece
extract unpack
zip unzip
tar tarball tgz
run execute start
stop kill
hold held quarantine frozen
refuse deny block
task todo
memory remember recall forget memorize
message chat
machine system computer host
picture screenshot image
hash checksum digest
regex regular pattern
uppercase lowercase case
key secret token password
uuid identifier id
url link address
download fetch
command exec
gpu graphics
"""
SYNONYMS: Final = tuple(tuple(line.split()) for line in _LINES.strip().splitlines())
