"""Whether flows match STIX patterns, as the OASIS reference matcher (stix2-matcher) says.

Reads a JSON object a line: {"pattern": text, "flows": [{"remote", "remote_port", "local_port"}]}.
Writes a JSON array a line: true, false or, where the matcher refuses the pattern, null for each
flow. A flow is asked about twice, with its remote end as destination and as source; of the other
end only the port is known, as in an indicator.
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


def answer(asked):
    try:
        pattern = Pattern(asked["pattern"], "2.1")
        return [
            any(
                pattern.match([observation(flow, *ends)])
                for ends in (("dst", "src"), ("src", "dst"))
            )
            for flow in asked["flows"]
        ]
    except Exception as error:  # Of several kinds, of which some are antlr's own.
        print(f"{asked['pattern']}: {error}", file=sys.stderr)
        return [None] * len(asked["flows"])


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=False)
