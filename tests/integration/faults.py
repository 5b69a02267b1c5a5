"""A network on either side of the proxy that misbehaves on command.

`Link(port)` listens on a port of its own and relays to `port`.  It can hold new connections back
(`delay`), go silent like a dead route (`silence()`, nothing is closed), cut everything (`cut()`), refuse
(`refuse()`), and come back (`restore()`).  One thread a direction: plain and slow, which tests may be.
`Scissors` cuts each connection behind a byte that is chosen beforehand; `Dripper` hands on one byte at a time.
"""

import select
import socket
import struct
import threading
import time

from server import free_port

RESET = struct.pack("ii", 1, 0)


def serve_each(listener, serve):
    """Calls serve(socket) for each connection, in a thread of its own, until the listener is closed."""
    def accept():
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(accepted,), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()


def stop_listening(listener):
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


class Link:
    shuts = socket.SHUT_WR  # how the other side is told that this one has ended

    def __init__(self, target_port):
        self.target_port = target_port
        self.port = free_port()
        self.delay = 0.0
        self.open_road = threading.Event()
        self.open_road.set()
        self.ended = threading.Event()
        self.pairs = []
        self.lock = threading.Lock()
        self.listener = None
        self.restore()

    def restore(self):
        """Listens and relays (again)."""
        self.open_road.set()
        if self.listener is None:
            self.listener = socket.create_server(("127.0.0.1", self.port), backlog=200)
            serve_each(self.listener, self._serve)

    def refuse(self):
        """Nobody listens any more; what is open stays."""
        listener, self.listener = self.listener, None
        if listener:
            stop_listening(listener)

    def silence(self):
        """Bytes vanish in both directions, and no one is told."""
        self.open_road.clear()

    def cut(self):
        """Every open connection is reset."""
        with self.lock:
            pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for end in pair:
                try:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self):
        self.ended.set()
        self.open_road.set()
        self.refuse()
        self.cut()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _serve(self, near):
        if self.delay:
            self.ended.wait(self.delay)
        self.open_road.wait()
        try:
            far = socket.create_connection(("127.0.0.1", self.target_port))
        except OSError:
            near.close()
            return
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as both parties' own are: nothing is held back
        with self.lock:
            self.pairs.append((near, far))
        threading.Thread(target=self._relay, args=(near, far), daemon=True).start()
        self._relay(far, near)

    def _relay(self, source, target):
        try:
            self._pass_on(source, target)
        except OSError:
            pass
        try:
            target.shutdown(self.shuts)
        except OSError:
            pass

    def _pass_on(self, source, target):
        """Until the source has ended; OSError does that too."""
        while part := source.recv(65536):
            self.open_road.wait()
            target.sendall(part)

    def _is_servers(self, source):
        try:
            return source.getpeername()[1] == self.target_port
        except OSError:  # gone already
            return False


class Scissors:
    """Relays to `port`; each connection is reset at both its ends when so many bytes have passed in one direction.

    `positions` gives (direction, bytes) for one connection after the other, and nothing is cut when it has no more.  In the
    place of a number may stand bytes: the reset comes a moment behind the piece that they are in.  With a `mark`, connections are
    given their position, and their bytes are counted, when the mark goes up; without, from the start.
    """

    def __init__(self, port, positions, mark=None):
        self.target_port, self.positions, self.mark = port, positions, mark
        self.port = free_port()
        self.cuts = 0                       # connections ended by us
        self.passed = {"up": 0, "down": 0}  # the most bytes that one went without being cut
        self.is_done = threading.Event()    # every position has been given to a connection
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=200)
        serve_each(self.listener, self._relay)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        stop_listening(self.listener)

    def _relay(self, near):
        try:
            far = socket.create_connection(("127.0.0.1", self.target_port))
        except OSError:
            near.close()
            return
        with near, far:
            try:
                is_cut = self._pass_bytes({near: (far, "up"), far: (near, "down")})
            except OSError:
                is_cut = False
            if is_cut:
                with self.lock:
                    self.cuts += 1
                for end in (near, far):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def _next_position(self):
        with self.lock:
            cut = next(self.positions, None)
        if not cut:
            self.is_done.set()
        return cut

    def _pass_bytes(self, roads):
        """True when it is to be cut now, False when both sides have closed it."""
        cut = None if self.mark else self._next_position()
        counts = {"up": 0, "down": 0}
        is_counting = not self.mark
        while roads:
            for source in select.select(list(roads), [], [])[0]:
                target, way = roads[source]
                part = source.recv(65536)
                if not part:
                    del roads[source]
                    target.shutdown(socket.SHUT_WR)
                    continue
                if self.mark and not cut and way == "up" and self.mark in part:
                    cut, counts, is_counting = self._next_position(), {"up": 0, "down": 0}, True
                is_due = False
                if cut and way == cut[0] and isinstance(cut[1], bytes):
                    is_due = cut[1] in part
                elif cut and way == cut[0]:
                    part = part[:cut[1] - counts[way]]
                    is_due = counts[way] + len(part) == cut[1]
                target.sendall(part)
                if is_due:
                    time.sleep(0.02 if isinstance(cut[1], bytes) else 0)  # so that what has passed is read before
                    return True
                if is_counting:
                    counts[way] += len(part)
                    if not cut:
                        with self.lock:
                            self.passed = {way: max(self.passed[way], counts[way]) for way in counts}
        return False


class Gated(Link):
    """A Link that keeps something back until it `goes`."""

    def __init__(self, target_port):
        self.goes = threading.Event()
        super().__init__(target_port)

    def close(self):
        self.goes.set()
        super().close()


class Staller(Gated):
    """The server's words stop coming behind so many bytes, for as long as one likes."""

    def __init__(self, target_port):
        self.left = None
        self.stalled = 0  # connections
        super().__init__(target_port)

    def stall_after(self, count):
        self.goes.clear()
        self.left = count

    def go_on(self):
        self.left, self.stalled = None, 0
        self.goes.set()

    def _pass_on(self, source, target):
        while part := source.recv(65536):
            if self.left is not None and self._is_servers(source):
                passing, part = part[:self.left], part[self.left:]
                self.left -= len(passing)
                target.sendall(passing)
                if part:
                    self.stalled += 1
                    self.goes.wait()
            target.sendall(part)


class Dripper(Link):
    """Hands on one byte at a time, each in a segment of its own: of both sides, or of the server's alone."""

    shuts = socket.SHUT_RDWR

    def __init__(self, target_port, both=False, pause=0.0002):
        self.both, self.pause = both, pause
        super().__init__(target_port)

    def _pass_on(self, source, target):
        drips = self.both or self._is_servers(source)
        target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while part := source.recv(65536):
            for at in range(0, len(part), 1 if drips else len(part)):
                target.sendall(part[at:at + 1] if drips else part)
                time.sleep(self.pause if drips else 0)  # so that the pieces are seen as such


class Lingerer(Gated):
    """What a server has said arrives; that it has closed does not, until it `goes`."""

    def _pass_on(self, source, target):
        is_servers = self._is_servers(source)
        super()._pass_on(source, target)
        if is_servers:
            self.goes.wait()


class Hesitant(Gated):
    """Of each connection the server's first byte arrives, the word that says whether there is TLS, and the rest when it `goes`."""

    def _pass_on(self, source, target):
        if self._is_servers(source):
            target.sendall(source.recv(1))
            self.goes.wait()
        super()._pass_on(source, target)
