#!/usr/bin/env bash
# Tenzir 6.20.0 `read_cef`: a `|` in the value of an extension key drops the event.
#
# CEF requires `|` to be escaped in the header only; in an extension it is plain text. pycef 1.11 reads such a
# line. Tenzir counts the bar as another header field, prints a warning ("incorrect field count in CEF
# event"), and returns no event; the pipeline succeeds.
#
# Seen: of two lines that differ in the bar only, pycef reads both and Tenzir one.
# Exits non-zero if that changes. Needs python3 with venv, and PyPI.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM

python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps tenzir==6.20.0 pycef==1.11
binary=$(find "$folder/venv" -type f -path '*/bundled/bin/tenzir' -print -quit)

cat >"$folder/lines" <<'LINES'
CEF:0|vendor|product|1.0|id|name|5| src=192.0.2.1 msg=one or two
CEF:0|vendor|product|1.0|id|name|5| src=192.0.2.1 msg=one | two
LINES

pycef=$("$folder/venv/bin/python" -c '
import sys, pycef
print(sum(1 for line in sys.stdin if (pycef.parse(line.rstrip("\n")) or {}).get("msg", "").endswith("two")))
' <"$folder/lines")
tenzir=$(HOME="$folder" "$binary" "from_file \"$folder/lines\" { read_cef }
write_ndjson" 2>"$folder/warnings" | grep -c '"msg"')
grep 'warning' "$folder/warnings" || true
echo "pycef: $pycef of 2 lines; Tenzir: $tenzir of 2 lines"
test "$pycef" = 2 && test "$tenzir" = 1
