"""Matches flows against STIX patterns with the OASIS reference matcher (stix2-matcher).

Reads one JSON object per line: {"pattern": text, "flows": [{"remote", "remote_port", "local_port"}]}.
Writes one JSON array per line: for each flow true, false, or null if the matcher rejects the pattern.
Each flow is matched twice, with its remote end as destination and as source. Of the local end only the
port is known, as in an indicator.
"""

import json
import sys

from stix2matcher.matcher import Pattern

TIME = "2026-11-24T12:00:00Z"


def observation(flow, remote, local):
    kind = "ipv6-addr" if ":" in flow["remote"] else "ipv4-addr"
    address = {"type": kind, "id": f"{kind}--1", "value": flow["remote"]}
    traffic = {"type": "network-traffic", "id": "network-traffic--1", "protocols": ["tcp"]}
    traffic[f"{remote}_ref"] = address["id"]
    for end, port in ((remote, flow["remote_port"]), (local, flow["local_port"])):
        if port is not None:
            traffic[f"{end}_port"] = port
    observed = {
        "type": "observed-data",
        "id": "observed-data--1",
        "first_observed": TIME,
        "last_observed": TIME,
        "number_observed": 1,
        "object_refs": [address["id"], traffic["id"]],
    }
    return {"type": "bundle", "id": "bundle--1", "objects": [observed, address, traffic]}


def match(request):
    try:
        pattern = Pattern(request["pattern"], "2.1")
        return [
            any(
                pattern.match([observation(flow, *ends)])
                for ends in (("dst", "src"), ("src", "dst"))
            )
            for flow in request["flows"]
        ]
    except Exception as error:  # Several types, some of them antlr's.
        print(f"{request['pattern']}: {error}", file=sys.stderr)
        return [None] * len(request["flows"])


for line in sys.stdin:
    print(json.dumps(match(json.loads(line))), flush=False)
