"""Shared code of the matrix programs. Each writes one JSON line per end of a connection."""
import ctypes, errno, json, os, select, signal, socket, struct, sys, threading, time

MSG_FASTOPEN, TCP_FASTOPEN, TCP_FASTOPEN_CONNECT = 0x20000000, 23, 30
libc = ctypes.CDLL(None, use_errno=True)


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def myself():
    return {"pid": os.getpid(), "parent": os.getppid(), "path": os.readlink("/proc/self/exe")}


def ends(connection):
    return {"local": connection.getsockname()[:2], "remote": connection.getpeername()[:2]}


def report(direction, ends, sent=0, received=0, **more):
    """Writes one line with a single write, so that lines of several processes do not mix."""
    line = {"direction": direction, "sent": sent, "received": received, **myself()}
    os.write(1, (json.dumps({**line, **ends, **more}) + "\n").encode())


def ready(port, *more):
    print("ready", port, *more, file=sys.stderr, flush=True)


def request(number):
    """The payload of a connection, with the sizes of request and response, and the response size."""
    request_size = 8 + (100_000 if number % 100 == 50 else number * 7 % 1000)
    response_size = 1 + (200_000 if number % 100 == 70 else number * 13 % 3000)
    return struct.pack("!II", request_size, response_size).ljust(request_size, b"q"), response_size


def receive(connection, size):
    while size > 0:
        part = connection.recv(min(size, 65536))
        if not part:
            raise EOFError(f"{size} bytes are missing")
        size -= len(part)


def send_request(connection, number):
    """The client's half of an exchange; returns the bytes sent and received."""
    payload, response_size = request(number)
    connection.sendall(payload)
    receive(connection, response_size)
    return len(payload), response_size


def send_response(connection):
    """The server's half up to the response; returns the bytes sent and received."""
    head = connection.recv(8, socket.MSG_WAITALL)
    request_size, response_size = struct.unpack("!II", head)
    receive(connection, request_size - len(head))
    connection.sendall(b"a" * response_size)
    return response_size, request_size


def exchange(connection, number, **more):
    """An exchange that the client ends."""
    known = ends(connection)
    sent, received = send_request(connection, number)
    report("outbound", known, sent, received, **{"by": "local", **more})
    connection.close()


def serve(connection, **more):
    """An exchange that the client ends or aborts."""
    known = ends(connection)
    sent, received = send_response(connection)
    try:
        end = {"by": "remote"} if connection.recv(1) == b"" else {"by": "more data"}
    except ConnectionResetError:
        end = {"by": "remote", "error": errno.ECONNRESET}
    report("inbound", known, sent, received, **{**end, **more})
    connection.close()


def listen(address, port=0, shared=False, protocol=0):
    listener = socket.socket(family_of(address), socket.SOCK_STREAM, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if listener.family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind((address, port))
    listener.listen(512)
    return listener


def accept_all(listening, /, **more):
    while True:
        serve(listening.accept()[0], **more)


def workers(count, work):
    """Forks the workers; they run until the test ends this process."""
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            work(number)
            os._exit(0)
        children.append(child)
    return children


def run(work):
    """Runs `work` on a thread until the test ends this process."""
    threading.Thread(target=work, daemon=True).start()
    until_terminated()


def until_terminated(children=()):
    signal.sigwait({signal.SIGTERM})
    for child in children:
        os.kill(child, signal.SIGKILL)
    os._exit(0)


signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
ADDRESS = sys.argv[1]
PORT, COUNT = (int(word) if word.isdigit() else 0 for word in (sys.argv[2:4] + ["", ""])[:2])
