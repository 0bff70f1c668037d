"""Addresses in MISP events, parsed by PyMISP. Prints {file: [[uuid, address, port or null]]}.

Includes attributes, also those in objects, with `to_ids` that are not deleted.

    pip install pymisp==2.5.34.4
    python3 tests/oracles/misp_addresses.py EVENT.json …
"""

import json
import pathlib
import sys

from pymisp import MISPEvent


def addresses(path):
    event = MISPEvent()
    event.load_file(path)
    attributes = list(event.attributes)
    for each in event.objects:
        attributes.extend(each.attributes)
    for attribute in attributes:
        if not attribute.to_ids or attribute.get("deleted"):
            continue
        if attribute.type in ("ip-src", "ip-dst"):
            yield [attribute.uuid, attribute.value, None]
        elif attribute.type in ("ip-src|port", "ip-dst|port"):
            address, port = attribute.value.split("|")
            yield [attribute.uuid, address, int(port)]
        elif attribute.type == "domain|ip":
            yield [attribute.uuid, attribute.value.split("|")[1], None]


if __name__ == "__main__":
    found = {pathlib.Path(path).name: sorted(addresses(path)) for path in sys.argv[1:]}
    json.dump(found, sys.stdout)
