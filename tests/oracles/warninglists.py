"""Networks in the MISP warning lists of PyPI's pymispwarninglists, parsed by Python's ipaddress.
Prints as JSON: the directory of the lists, the number of lists, the networks in lists of type cidr,
those in lists of type string, and the number of remaining entries.

    pip install pymispwarninglists==1.7.0
    python3 tests/oracles/warninglists.py
"""

import ipaddress
import json
import pathlib
import sys

import pymispwarninglists


def network(text):
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def main():
    folder = pathlib.Path(pymispwarninglists.__file__).parent / "data"
    counts = {"folder": str(folder), "lists": 0, "cidr": 0, "string": 0, "left": 0}
    for path in folder.rglob("list.json"):
        document = json.loads(path.read_text())
        counts["lists"] += 1
        for text in document["list"]:
            kind = document["type"]
            # Fast path for millions of names: an address begins with a digit or has a colon.
            may_be = kind in ("cidr", "string") and (text[:1].isdigit() or ":" in text)
            if may_be and network(text) is not None:
                counts[kind] += 1
            else:
                counts["left"] += 1
    json.dump(counts, sys.stdout)


if __name__ == "__main__":
    main()
