# ruff: noqa: ANN001, ANN201, D103, E401, I001, PTH123, SIM115
"""Check a proof from `epactl ledger prove SEQ`: `python3 check_inclusion.py proof.json`. Python's own library only.

It shows that the record is under the root that the head states (RFC 6962). That the head was signed by this
ledger's key any Ed25519 tool tells: the signed text is the head up to its empty line, the key is in "keys".
"""

import base64, hashlib, json, sys


def sha256(data):
    return hashlib.sha256(data).digest()


proof = json.load(open(sys.argv[1]))
origin, size, root = proof["head"].split("\n")[:3]
node = bytes.fromhex(proof["leaf"])
if proof["body"] is not None and sha256(b"\0" + base64.b64decode(proof["body"])) != node:
    sys.exit("NOT PROVED: the record does not hash to its leaf")
index, last = proof["seq"] - 1, int(size) - 1
for sibling in map(bytes.fromhex, proof["path"]):
    while last and index % 2 == 0 and index == last:  # without a sibling in its row it moves up as it is
        index, last = index // 2, last // 2
    node = sha256(b"\1" + (sibling + node if index % 2 else node + sibling))
    index, last = index // 2, last // 2
if last or node != base64.b64decode(root):
    sys.exit("NOT PROVED: the path does not lead to the head's root")
print(f"PROVED: record {proof['seq']} is one of the {size} under this head of {origin}")
