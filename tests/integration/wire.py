"""A tiny client that speaks the PostgreSQL protocol byte by byte.

For what no driver would send: pipelines cut off, lengths that lie, messages out of order, several
Syncs on the way.  Messages out are built by the functions below and joined freely; messages in come as
`Message(kind, body)`.  It knows cleartext, md5 and SCRAM-SHA-256 log-ins.  Every read has a time limit.
"""

import base64
import hashlib
import hmac
import os
import socket
import struct
from collections import namedtuple

Message = namedtuple("Message", "kind body")

SSL_REQUEST = struct.pack("!II", 8, 80877103)
GSSENC_REQUEST = struct.pack("!II", 8, 80877104)
PROTOCOL_3_0 = 196608
PROTOCOL_3_2 = 196610


class Closed(Exception):
    """The other side closed the connection."""


class ErrorResponse(Exception):
    def __init__(self, fields):
        self.fields = fields
        super().__init__(f"{fields.get('S')} {fields.get('C')} {fields.get('M')}")

    severity = property(lambda self: self.fields.get("V") or self.fields.get("S"))
    sqlstate = property(lambda self: self.fields.get("C"))
    message = property(lambda self: self.fields.get("M"))
    detail = property(lambda self: self.fields.get("D"))
    hint = property(lambda self: self.fields.get("H"))


# -- messages out -----------------------------------------------------------------------------------


def text(value):
    return (value if isinstance(value, bytes) else value.encode()) + b"\0"


def message(kind, body=b""):
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


def startup(version=PROTOCOL_3_0, **parameters):
    body = struct.pack("!I", version)
    for name, value in parameters.items():
        body += text(name) + text(value)
    body += b"\0"
    return struct.pack("!I", len(body) + 4) + body


def query(sql):
    return message("Q", text(sql))


def parse(name, sql, types=()):
    return message("P", text(name) + text(sql) + struct.pack(f"!H{len(types)}I", len(types), *types))


def bind(portal="", statement="", values=()):
    parts = [text(portal), text(statement), struct.pack("!HH", 0, len(values))]
    for value in values:
        if value is None:
            parts.append(struct.pack("!i", -1))
        else:
            raw = value if isinstance(value, bytes) else str(value).encode()
            parts += [struct.pack("!i", len(raw)), raw]
    return message("B", b"".join(parts) + struct.pack("!H", 0))


def describe(what, name=""):
    return message("D", what.encode() + text(name))


def execute(portal="", rows=0):
    return message("E", text(portal) + struct.pack("!I", rows))


def close(what, name=""):
    return message("C", what.encode() + text(name))


def sync():
    return message("S")


def flush():
    return message("H")


def copy_data(data):
    return message("d", data)


def copy_done():
    return message("c")


def copy_fail(reason):
    return message("f", text(reason))


def function_call(oid, values):
    body = struct.pack("!IHHH", oid, 1, 0, len(values))
    for value in values:
        raw = str(value).encode()
        body += struct.pack("!i", len(raw)) + raw
    return message("F", body + struct.pack("!H", 0))


def terminate():
    return message("X")


def cancel_request(pid, key):
    return struct.pack("!III", 12 + len(key), 80877102, pid) + key


def extended(sql, values=(), statement="", portal=""):
    """Parse to Execute of one statement, without the Sync."""
    return (parse(statement, sql) + bind(portal, statement, values) + describe("P", portal)
            + execute(portal))


# -- messages in ------------------------------------------------------------------------------------


def error_fields(body):
    return {part[:1].decode(): part[1:].decode(errors="replace")
            for part in body.split(b"\0") if part}


def data_row(body):
    (count,) = struct.unpack_from("!H", body)
    offset, row = 2, []
    for _ in range(count):
        (length,) = struct.unpack_from("!i", body, offset)
        offset += 4
        if length < 0:
            row.append(None)
        else:
            row.append(body[offset:offset + length].decode(errors="replace"))
            offset += length
    return row


def column_names(body):
    (count,) = struct.unpack_from("!H", body)
    offset, names = 2, []
    for _ in range(count):
        end = body.index(b"\0", offset)
        names.append(body[offset:end].decode())
        offset = end + 1 + 18
    return names


class Answer:
    """Everything up to and with one ReadyForQuery."""

    def __init__(self, messages):
        self.messages = messages

    kinds = property(lambda self: "".join(m.kind for m in self.messages))
    rows = property(lambda self: [data_row(m.body) for m in self.messages if m.kind == "D"])
    tags = property(lambda self: [m.body[:-1].decode() for m in self.messages if m.kind == "C"])
    errors = property(lambda self: [ErrorResponse(error_fields(m.body))
                                    for m in self.messages if m.kind == "E"])
    notices = property(lambda self: [error_fields(m.body) for m in self.messages if m.kind == "N"])
    state = property(lambda self: self.messages[-1].body.decode())

    @property
    def error(self):
        assert len(self.errors) == 1, f"one error expected: {self.kinds} {self.errors}"
        return self.errors[0]

    @property
    def columns(self):
        return next(column_names(m.body) for m in self.messages if m.kind == "T")

    @property
    def value(self):
        if self.errors:
            raise self.errors[0]
        return self.rows[0][0]


def scram_verifier(password, iterations=4096):
    """As pg_authid keeps it."""
    salt = b"sixteen bytes ok"
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt, stored, server = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${iterations}:{salt}${stored}:{server}"


class Wire:
    def __init__(self, port, host="127.0.0.1", timeout=20.0, path=None):
        if path:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(timeout)
            self.socket.connect(path)
        else:
            self.socket = socket.create_connection((host, port), timeout=timeout)
        self.parameters = {}
        self.negotiated = None
        self.backend_pid = self.backend_key = None
        self.login_messages = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Goes without a word, as a killed process does."""
        self.socket.close()

    def reset(self):
        """Goes with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, *chunks):
        self.socket.sendall(b"".join(chunks))

    def read_exactly(self, count):
        parts, left = [], count
        while left:
            try:
                part = self.socket.recv(min(left, 1 << 20))
            except ConnectionResetError as error:
                raise Closed("reset by the other side") from error
            if not part:
                raise Closed(f"closed with {left} of {count} bytes missing")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def receive(self):
        kind, length = struct.unpack("!cI", self.read_exactly(5))
        return Message(kind.decode("latin-1"), self.read_exactly(length - 4))

    def until(self, kinds):
        """Messages up to and with the first of one of `kinds`."""
        messages = []
        while not messages or messages[-1].kind not in kinds:
            messages.append(self.receive())
        return messages

    def answer(self):
        return Answer(self.until("Z"))

    def query(self, sql):
        self.send(query(sql))
        return self.answer()

    def ask(self, *chunks):
        """Sends the chunks with a Sync behind them."""
        self.send(*chunks, sync())
        return self.answer()

    def until_closed(self):
        """Every message until the other side closes; for connections that must end."""
        messages = []
        try:
            while True:
                messages.append(self.receive())
        except Closed:
            return messages

    def final_error(self):
        """The error that the other side ended the connection with; it must be the last message."""
        messages = self.until_closed()
        assert messages and messages[-1].kind == "E", f"an error before the end: {messages}"
        return ErrorResponse(error_fields(messages[-1].body))

    def is_closed(self, timeout=10.0):
        self.socket.settimeout(timeout)
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def scram_challenge(self, user, database="app"):
        """What the server answers to a first message of SCRAM with a nonce of ours: {"r": nonce, "s": salt, "i": iterations}."""
        self.send(startup(user=user, database=database))
        self.receive()
        first = b"n,,n=,r=fixednonce"
        self.send(message("p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first))
        return dict(part.split("=", 1) for part in self.receive().body[4:].decode().split(","))

    def throw(self, junk):
        """Sends the bytes and no more, and reads to the end of the connection, which may come earlier."""
        try:
            self.send(junk)
            self.socket.shutdown(socket.SHUT_WR)
            while self.socket.recv(65536):
                pass
        except OSError:
            pass

    # -- logging in -----------------------------------------------------------------------------

    def login(self, user, password=None, database=None, version=PROTOCOL_3_0, **parameters):
        """Raises ErrorResponse when refused."""
        if database is not None:
            parameters["database"] = database
        self.send(startup(version, user=user, **parameters))
        while True:
            received = self.receive()
            self.login_messages.append(received)
            if received.kind == "R":
                self._authenticate(received.body, user, password)
            elif received.kind == "S":
                name, value = received.body.split(b"\0")[:2]
                self.parameters[name.decode()] = value.decode()
            elif received.kind == "K":
                (self.backend_pid,) = struct.unpack_from("!I", received.body)
                self.backend_key = received.body[4:]
            elif received.kind == "v":
                self.negotiated = received.body
            elif received.kind == "E":
                raise ErrorResponse(error_fields(received.body))
            elif received.kind == "Z":
                return self

    def _authenticate(self, body, user, password):
        (method,) = struct.unpack_from("!I", body)
        if method == 0:
            return
        if method == 3:
            self.send(message("p", text(password)))
        elif method == 5:
            inner = hashlib.md5((password + user).encode()).hexdigest()
            outer = hashlib.md5(inner.encode() + body[4:8]).hexdigest()
            self.send(message("p", text("md5" + outer)))
        elif method == 10:
            assert b"SCRAM-SHA-256\0" in body, body
            self._scram(password)
        else:
            raise AssertionError(f"unexpected authentication request {method}")

    def _scram(self, password):
        nonce = base64.b64encode(os.urandom(18)).decode()
        first_bare = f"n=,r={nonce}"
        first = ("n,," + first_bare).encode()
        self.send(message("p", text("SCRAM-SHA-256") + struct.pack("!I", len(first)) + first))
        received = self.receive()
        if received.kind == "E":
            raise ErrorResponse(error_fields(received.body))
        server_first = received.body[4:].decode()
        attributes = dict(part.split("=", 1) for part in server_first.split(","))
        assert attributes["r"].startswith(nonce) and len(attributes["r"]) > len(nonce)
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(),
                                     base64.b64decode(attributes["s"]), int(attributes["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        final_bare = f"c=biws,r={attributes['r']}"
        signed = f"{first_bare},{server_first},{final_bare}".encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature))).decode()
        self.send(message("p", f"{final_bare},p={proof}".encode()))
        received = self.receive()
        if received.kind == "E":
            raise ErrorResponse(error_fields(received.body))
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        expected = base64.b64encode(hmac.digest(server_key, signed, "sha256"))
        assert received.body[4:] == b"v=" + expected, "the proxy proved the wrong password"
