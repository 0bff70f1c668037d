"""Stands before a broker of Kafka that has neither TLS nor SASL, and has both: whom it lets in talks
to the broker itself.

    kafka_gate.py LISTEN BROKER FOLDER MECHANISM

FOLDER has `server`, `server.key` and `ca` (PEM), all of which it uses where there is a file `tls` in
it; clients must show a certificate where there is a file `mutual`. MECHANISM is PLAIN,
SCRAM-SHA-256 (RFC 7677), SCRAM-SHA-512, or - for nobody is asked. The user is `sensor`, the password
`right-password`.
"""

import base64
import hashlib
import hmac
import os
import socket
import ssl
import struct
import sys
import threading

USER, PASSWORD = "sensor", b"right-password"
HANDSHAKE, API_VERSIONS, AUTHENTICATE = 17, 18, 36
UNSUPPORTED_MECHANISM, REFUSED = 33, 58
ROUNDS = 4096


class Refused(Exception):
    pass


def exactly(stream, count):
    data = b""
    while len(data) < count:
        part = stream.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def frame(stream):
    (size,) = struct.unpack(">i", exactly(stream, 4))
    return exactly(stream, size)


def answer(stream, correlation, body):
    stream.sendall(struct.pack(">ii", len(body) + 4, correlation) + body)


def text(value):
    data = value.encode()
    return struct.pack(">h", len(data)) + data


def attributes(message):
    return dict(part.split("=", 1) for part in message.split(",") if "=" in part)


def plain(message):
    """As `scram`, without a challenge."""
    _authorized, user, password = message.split(b"\0")
    if user.decode() != USER or password != PASSWORD:
        raise Refused
    return b""
    yield b""  # Makes it a generator; never reached.


def scram(digest, message):
    """Yields the challenge, is sent the proof, returns what proves the server."""
    bare = message.decode().removeprefix("n,,")
    first = attributes(bare)
    salt, nonce = os.urandom(16), first["r"] + base64.b64encode(os.urandom(18)).decode()
    challenge = f"r={nonce},s={base64.b64encode(salt).decode()},i={ROUNDS}"
    last = (yield challenge.encode()).decode()
    without_proof, proof = last.rsplit(",p=", 1)
    salted = hashlib.pbkdf2_hmac(digest, PASSWORD, salt, ROUNDS)
    client_key = hmac.digest(salted, b"Client Key", digest)
    signed = f"{bare},{challenge},{without_proof}".encode()
    signature = hmac.digest(hashlib.new(digest, client_key).digest(), signed, digest)
    expected = bytes(a ^ b for a, b in zip(client_key, signature))
    is_known = first["n"] == USER and attributes(without_proof)["r"] == nonce
    if not is_known or not hmac.compare_digest(base64.b64decode(proof), expected):
        raise Refused
    server_key = hmac.digest(salted, b"Server Key", digest)
    return b"v=" + base64.b64encode(hmac.digest(server_key, signed, digest))


def started(mechanism, message):
    if mechanism == "PLAIN":
        return plain(message)
    return scram(mechanism.removeprefix("SCRAM-").replace("-", "").lower(), message)


def let_in(client, broker, mechanism):
    """Returns when the client is known."""
    exchange, asked = None, False
    while True:
        request = frame(client)
        api, version, correlation, name = struct.unpack(">hhih", request[:10])
        body = request[10 + max(name, 0) :]
        if api == API_VERSIONS:
            broker.sendall(struct.pack(">i", len(request)) + request)
            versions = frame(broker)
            client.sendall(struct.pack(">i", len(versions)) + versions)
        elif api == HANDSHAKE:
            asked = body[2:].decode() == mechanism
            code = 0 if asked else UNSUPPORTED_MECHANISM
            answer(client, correlation, struct.pack(">hi", code, 1) + text(mechanism))
        elif api == AUTHENTICATE and asked and version in (0, 1):
            message = body[4:]
            lifetime = struct.pack(">q", 0) if version == 1 else b""
            try:
                if exchange is None:
                    exchange = started(mechanism, message)
                    told, is_done = next(exchange), False
                else:
                    told, is_done = exchange.send(message), False
            except StopIteration as end:
                told, is_done = end.value, True
            except Refused:
                nothing = struct.pack(">i", 0)
                why = text("Authentication failed: wrong user or password")
                answer(client, correlation, struct.pack(">h", REFUSED) + why + nothing + lifetime)
                return False
            told = struct.pack(">hhi", 0, -1, len(told)) + told
            answer(client, correlation, told + lifetime)
            if is_done:
                return True
        else:
            return False


def copy(source, target):
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve(client, port, context, mechanism):
    try:
        if context:
            client = context.wrap_socket(client, server_side=True)
        broker = socket.create_connection(("127.0.0.1", port))
        if mechanism == "-" or let_in(client, broker, mechanism):
            threading.Thread(target=copy, args=(broker, client), daemon=True).start()
            copy(client, broker)
    except (OSError, EOFError) as error:
        print("gate:", error, flush=True)
    finally:
        client.close()


def main():
    listen, port, folder, mechanism = sys.argv[1:]
    context = None
    has = lambda name: os.path.exists(os.path.join(folder, name))
    if has("tls"):
        path = lambda name: os.path.join(folder, name)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=path("ca"))
        context.load_cert_chain(path("server"), path("server.key"))
        if has("mutual"):
            context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", int(listen)))
    while True:
        client, _ = listener.accept()
        arguments = (client, int(port), context, mechanism)
        threading.Thread(target=serve, args=arguments, daemon=True).start()


main()
