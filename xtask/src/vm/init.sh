#!/bin/busybox sh
# PID 1 of the test machine. Runs the agent on this kernel, prints `vm: passed NAME` or
# `vm: failed NAME` for each check, and powers the machine off.
/bin/busybox --install -s /bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tracefs none /sys/kernel/tracing
mount -t cgroup2 none /sys/fs/cgroup
ip link set lo up
export HOME=/root
echo "vm: kernel $(uname -r) $(uname -m)"

check() {
    name=$1
    shift
    if "$@"; then echo "vm: passed $name"; else
        echo "vm: failed $name"
        cat /tmp/log
        cat /tmp/recorded
    fi
}

# Self-test of the whole path with the best available probes, $exact (fexit or kretprobe) among them.
self_test() {
    netsensor self-test --log info >/tmp/log 2>&1
    grep -q 'the path from kernel to alert works' /tmp/log &&
        grep -q "probes on: tp_btf inet_sock_set_state, $exact inet_csk_accept" /tmp/log
}

# owner CAPTURE ATTRIBUTION BYTES: the server owns the connection that it accepted, with this
# attribution and this number of received bytes. An emulated machine may take longer to schedule the
# server than the agent waits for an owner (the listener's owner is used then), hence three attempts.
owner() {
    owner_once "$@" || owner_once "$@" || owner_once "$@"
}

# record CAPTURE: starts `netsensor record` in the background; its process id is $agent.
record() {
    printf '[capture]\n%s\n' "$1" >/tmp/netsensor.toml
    : >/tmp/log
    netsensor record --out /tmp/recorded --config /tmp/netsensor.toml --log debug 2>/tmp/log &
    agent=$!
    tries=0
    until grep -q 'processes read' /tmp/log || [ $tries -ge 200 ]; do
        tries=$((tries + 1))
        sleep 0.1
    done
}

owner_once() {
    record "$1"
    nc -l -p 8000 >/dev/null &
    server=$!
    sleep 0.3
    echo hi | nc 127.0.0.1 8000
    wait $server
    sleep 0.3
    kill $agent
    wait $agent || return 1
    grep '"Event":"closed"' /tmp/recorded | grep '"Direction":"inbound"' |
        grep "\"BytesReceived\":$3," | grep "\"Attribution\":\"$2\"" | grep -q "\"ProcessId\":$server,"
}

# A connect without a route is recorded with its errno, ENETUNREACH or EHOSTUNREACH.
no_route() {
    ip route add unreachable 203.0.113.0/24
    record ''
    nc 203.0.113.7 80
    sleep 0.3
    kill $agent
    wait $agent || return 1
    [ "$(grep -c '"DestinationIp":"203.0.113.7"' /tmp/recorded)" = 2 ] &&
        grep '"Event":"failed"' /tmp/recorded | grep '"ErrorNumber":1[01][13],' |
        grep '"ProcessName":"busybox"' | grep -q '"DestinationPort":80,'
}

# Every active hook, the exact one of accept among them, reports the canary's events.
canary() {
    canary_once || canary_once || canary_once
}

canary_once() {
    printf '[health]\ncanary_interval = "1s"\n' >/tmp/netsensor.toml
    netsensor run --config /tmp/netsensor.toml >/dev/null 2>/tmp/log &
    agent=$!
    tries=0
    until hooks_are_ok || [ $tries -ge 60 ]; do
        tries=$((tries + 1))
        sleep 0.5
    done
    # Waits for several more canary connections.
    sleep 8
    hooks_are_ok
    state=$?
    kill $agent
    wait $agent || return 1
    [ $state = 0 ]
}

# The agent reports the canary and the hooks as OK.
hooks_are_ok() {
    netsensor status --json --config /tmp/netsensor.toml >/tmp/recorded 2>&1 || return 1
    tr -d ' \n' </tmp/recorded >/tmp/flat
    for hook in canary "${exact}inet_csk_accept" rawtracepointsched_process_exit; do
        grep -q "\"Name\":\"$hook\",\"State\":\"OK\"" /tmp/flat || return 1
    done
}

# UDP datagrams in both directions: both ends have a flow with process and bytes.
udp() {
    udp_once || udp_once || udp_once
}

udp_once() {
    record ''
    peer udp-echo 127.0.0.1:8001 >/dev/null &
    server=$!
    sleep 0.5
    peer udp-query 127.0.0.1:8001 3 &
    client=$!
    wait $client
    sleep 0.3
    kill $server
    wait $server
    sleep 0.3
    kill $agent
    wait $agent || return 1
    grep '"Event":"closed"' /tmp/recorded | grep '"Protocol":"udp"' |
        grep '"BytesSent":5,"BytesReceived":5,"PacketsSent":1,"PacketsReceived":1,' >/tmp/udp
    has_flows '"Direction":"outbound"' connect $client && has_flows '"Direction":"inbound"' first_io $server
}

# has_flows DIRECTION ATTRIBUTION PROCESS: all three flows have these values.
has_flows() {
    [ "$(grep "$1" /tmp/udp | grep "\"Attribution\":\"$2\"" | grep -c "\"ProcessId\":$3,")" = 3 ]
}

no_fexit='"inet_csk_accept_fexit2", "inet_csk_accept_fexit4"'
check self-test self_test
check canary canary
[ "$exact" = fexit ] && check fexit owner '' accept 3
check kretprobe owner "disable = [$no_fexit]" accept 3
check raw-tracepoint owner 'disable = ["inet_sock_set_state_btf"]' accept 3
check first-read owner "disable = [$no_fexit, \"inet_csk_accept_kretprobe\"]" first_io 3
# Only fexit reports a failure before the SYN.
[ "$exact" = fexit ] && check no-route no_route
check udp udp
check without-types owner 'btf = "/nonexistent"' accept 0
echo 'vm: done'
poweroff -f
