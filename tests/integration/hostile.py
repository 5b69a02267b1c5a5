"""A server that means harm, and a road on which somebody changes what a server says.

`HostileServer(script)` listens; each connection's thread answers SSLRequest as told (b"N"; with a `tls` context
b"S" and a handshake), reads the start-up packet and calls script(peer), which may receive() and send() what it likes.
`Meddler(port, change)` relays to a real server, in the clear, and passes each of its messages through change(message), which
returns bytes in its place, or pieces of them.  `Swallower(port, stand_in)` keeps a client's huge messages from the server.
"""

import socket
import struct

import wire
from faults import Link, serve_each, stop_listening


class Peer(wire.Wire):
    """One connection that was accepted: reads and sends as the server."""

    def __init__(self, accepted):
        accepted.settimeout(20)
        self.socket = accepted
        self.first_packets = []

    def packet(self):
        """A start-up packet: its code and what follows."""
        (length,) = struct.unpack("!I", self.read_exactly(4))
        body = self.read_exactly(length - 4)
        return struct.unpack_from("!I", body)[0], body[4:]

    def ask_for_scram(self, tail):
        """SCRAM up to the server's first message, which repeats the client's nonce and goes on with `tail`."""
        self.send(wire.message("R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"))
        first = self.receive().body.split(b"\0", 1)[1][4:].decode()
        nonce = first.split("r=", 1)[1]
        return wire.message("R", struct.pack("!I", 11) + f"r={nonce}".encode() + tail)


class HostileServer:
    def __init__(self, script, encryption=b"N", tls=None):
        self.script, self.encryption, self.tls = script, b"S" if tls else encryption, tls
        self.peers, self.codes, self.problems = [], [], []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=50)
        self.port = self.listener.getsockname()[1]
        serve_each(self.listener, self._serve)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        stop_listening(self.listener)
        for peer in self.peers:
            peer.close()

    def url(self, **options):
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://hostile:secret@127.0.0.1:{self.port}/hostile?{query}"

    def _serve(self, accepted):
        peer = Peer(accepted)
        self.peers.append(peer)
        try:
            code, _ = peer.packet()
            self.codes.append(code)
            while code in (80877103, 80877104):
                peer.send(self.encryption)
                if self.tls:
                    peer.socket = self.tls.wrap_socket(peer.socket, server_side=True)
                code, _ = peer.packet()
                self.codes.append(code)
            self.script(peer)
        except (OSError, wire.Closed, struct.error):
            pass  # the other side has had enough, which is what the tests wait for
        except Exception as error:  # noqa: BLE001 - shown by the test
            self.problems.append(error)


class Meddler(Link):
    """A Link that takes the server's side apart into messages.  Only without TLS: sslmode=disable."""

    def __init__(self, target_port, change):
        self.change = change
        super().__init__(target_port)

    def _pass_on(self, source, target):
        if not self._is_servers(source):
            super()._pass_on(source, target)
            return
        server = Peer(source)
        server.socket.settimeout(None)
        try:
            while True:
                changed = self.change(server.receive())
                for piece in [changed] if isinstance(changed, bytes) else changed:
                    target.sendall(piece)
        except wire.Closed:
            pass
        finally:
            target.shutdown(socket.SHUT_RDWR)


class Swallower(Link):
    """A Link that reads a client's messages of more than a megabyte as a server would, and passes `stand_in` in place of each.
    Only without TLS."""

    def __init__(self, target_port, stand_in):
        self.stand_in, self.swallowed = stand_in, 0
        super().__init__(target_port)

    def _pass_on(self, source, target):
        if self._is_servers(source):
            super()._pass_on(source, target)
            return
        client = Peer(source)
        client.socket.settimeout(None)
        try:
            (length,) = struct.unpack("!I", client.read_exactly(4))
            target.sendall(struct.pack("!I", length) + client.read_exactly(length - 4))
            while True:
                head = client.read_exactly(5)
                left = struct.unpack_from("!I", head, 1)[0] - 4
                if left <= 1_000_000:
                    target.sendall(head + client.read_exactly(left))
                    continue
                target.sendall(self.stand_in)
                while left > 0:
                    part = source.recv(min(left, 1 << 20))
                    if not part:
                        raise wire.Closed("in mid-message")
                    left -= len(part)
                    self.swallowed += len(part)
        except wire.Closed:
            pass
