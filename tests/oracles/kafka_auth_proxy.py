"""Authenticating proxy that adds TLS and SASL to a Kafka broker without both. After authentication it
forwards the connection to the broker unchanged.

    kafka_auth_proxy.py LISTEN_PORT BROKER_PORT DIRECTORY MECHANISM

DIRECTORY contains `server`, `server.key` and `ca` (PEM). A file `tls` in it enables TLS; a file
`mutual` requires client certificates. MECHANISM is PLAIN, SCRAM-SHA-256 (RFC 7677), SCRAM-SHA-512, or
- for no authentication. The user is `sensor`, the password `right-password`.
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
UNSUPPORTED_SASL_MECHANISM, SASL_AUTHENTICATION_FAILED = 33, 58
ITERATIONS = 4096


class AuthenticationFailed(Exception):
    pass


def read_exactly(stream, count):
    data = b""
    while len(data) < count:
        part = stream.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def read_frame(stream):
    (size,) = struct.unpack(">i", read_exactly(stream, 4))
    return read_exactly(stream, size)


def send_response(stream, correlation, body):
    stream.sendall(struct.pack(">ii", len(body) + 4, correlation) + body)


def encode_string(value):
    data = value.encode()
    return struct.pack(">h", len(data)) + data


def attributes(message):
    return dict(part.split("=", 1) for part in message.split(",") if "=" in part)


def plain(message):
    """SASL PLAIN (RFC 4616): same interface as `scram`, without a challenge."""
    _authorized, user, password = message.split(b"\0")
    if user.decode() != USER or password != PASSWORD:
        raise AuthenticationFailed
    return b""
    yield b""  # Makes the function a generator; never reached.


def scram(digest, message):
    """SASL SCRAM (RFC 5802): yields the challenge, receives the proof, returns the server signature."""
    bare = message.decode().removeprefix("n,,")
    first = attributes(bare)
    salt, nonce = os.urandom(16), first["r"] + base64.b64encode(os.urandom(18)).decode()
    challenge = f"r={nonce},s={base64.b64encode(salt).decode()},i={ITERATIONS}"
    last = (yield challenge.encode()).decode()
    without_proof, proof = last.rsplit(",p=", 1)
    salted = hashlib.pbkdf2_hmac(digest, PASSWORD, salt, ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", digest)
    signed = f"{bare},{challenge},{without_proof}".encode()
    signature = hmac.digest(hashlib.new(digest, client_key).digest(), signed, digest)
    expected = bytes(a ^ b for a, b in zip(client_key, signature))
    is_known = first["n"] == USER and attributes(without_proof)["r"] == nonce
    if not is_known or not hmac.compare_digest(base64.b64decode(proof), expected):
        raise AuthenticationFailed
    server_key = hmac.digest(salted, b"Server Key", digest)
    return b"v=" + base64.b64encode(hmac.digest(server_key, signed, digest))


def start_exchange(mechanism, message):
    if mechanism == "PLAIN":
        return plain(message)
    return scram(mechanism.removeprefix("SCRAM-").replace("-", "").lower(), message)


def authenticate(client, broker, mechanism):
    """Performs the SASL exchange. Returns true if the client is authenticated."""
    exchange, has_handshake = None, False
    while True:
        request = read_frame(client)
        api, version, correlation, name = struct.unpack(">hhih", request[:10])
        body = request[10 + max(name, 0) :]
        if api == API_VERSIONS:
            broker.sendall(struct.pack(">i", len(request)) + request)
            versions = read_frame(broker)
            client.sendall(struct.pack(">i", len(versions)) + versions)
        elif api == HANDSHAKE:
            has_handshake = body[2:].decode() == mechanism
            code = 0 if has_handshake else UNSUPPORTED_SASL_MECHANISM
            send_response(client, correlation, struct.pack(">hi", code, 1) + encode_string(mechanism))
        elif api == AUTHENTICATE and has_handshake and version in (0, 1):
            message = body[4:]
            lifetime = struct.pack(">q", 0) if version == 1 else b""
            try:
                if exchange is None:
                    exchange = start_exchange(mechanism, message)
                    reply, is_done = next(exchange), False
                else:
                    reply, is_done = exchange.send(message), False
            except StopIteration as end:
                reply, is_done = end.value, True
            except AuthenticationFailed:
                no_bytes = struct.pack(">i", 0)
                message = encode_string("Authentication failed: wrong user or password")
                code = struct.pack(">h", SASL_AUTHENTICATION_FAILED)
                send_response(client, correlation, code + message + no_bytes + lifetime)
                return False
            reply = struct.pack(">hhi", 0, -1, len(reply)) + reply
            send_response(client, correlation, reply + lifetime)
            if is_done:
                return True
        else:
            return False


def forward(source, target):
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


def serve(client, broker_port, context, mechanism):
    try:
        if context:
            client = context.wrap_socket(client, server_side=True)
        broker = socket.create_connection(("127.0.0.1", broker_port))
        if mechanism == "-" or authenticate(client, broker, mechanism):
            threading.Thread(target=forward, args=(broker, client), daemon=True).start()
            forward(client, broker)
    except (OSError, EOFError) as error:
        print("proxy:", error, flush=True)
    finally:
        client.close()


def main():
    listen_port, broker_port, directory, mechanism = sys.argv[1:]
    context = None
    has = lambda name: os.path.exists(os.path.join(directory, name))
    if has("tls"):
        path = lambda name: os.path.join(directory, name)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=path("ca"))
        context.load_cert_chain(path("server"), path("server.key"))
        if has("mutual"):
            context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", int(listen_port)))
    while True:
        client, _ = listener.accept()
        arguments = (client, int(broker_port), context, mechanism)
        threading.Thread(target=serve, args=arguments, daemon=True).start()


main()
