"""Generates tests/fixtures/stix from tests/fixtures/misp with misp-stix, as a MISP server exports it.

    pip install misp-stix==2026.10.12
    python3 tests/oracles/misp_to_stix.py
"""

import json
import pathlib

from misp_stix_converter import MISPtoSTIX21Parser

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"


def main():
    for path in sorted((FIXTURES / "misp").glob("*.json")):
        document = json.loads(path.read_text())
        parser = MISPtoSTIX21Parser()
        parser.parse_misp_event(document if "Event" in document else {"Event": document})
        bundle = json.loads(parser.bundle.serialize())
        uuid = document.get("Event", document)["uuid"]
        bundle["id"] = f"bundle--{uuid}"
        # One object per line and no spaces: small diffs and a small file.
        objects = ",\n".join(json.dumps(it, separators=(",", ":")) for it in bundle["objects"])
        head = {key: value for key, value in bundle.items() if key != "objects"}
        text = json.dumps(head, separators=(",", ":"))[:-1] + ',"objects":[\n' + objects + "\n]}\n"
        (FIXTURES / "stix" / path.name).write_text(text)
        print(path.name, len(bundle["objects"]), len(text))


if __name__ == "__main__":
    main()
