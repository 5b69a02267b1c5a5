"""A network between the proxy and PostgreSQL that misbehaves on command.

`Link(port)` listens on a port of its own and relays to `port`.  It can hold new connections back
(`delay`), go silent like a dead route (`silence()`, nothing is closed), cut everything (`cut()`), refuse
(`refuse()`), and come back (`restore()`).  One thread a direction: plain and slow, which tests may be.
"""

import socket
import struct
import threading

from server import free_port


class Link:
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
            threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def refuse(self):
        """Nobody listens any more; what is open stays."""
        listener, self.listener = self.listener, None
        if listener:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

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
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
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

    def _accept(self, listener):
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near):
        if self.delay:
            self.ended.wait(self.delay)
        self.open_road.wait()
        try:
            far = socket.create_connection(("127.0.0.1", self.target_port))
        except OSError:
            near.close()
            return
        with self.lock:
            self.pairs.append((near, far))
        threading.Thread(target=self._relay, args=(near, far), daemon=True).start()
        self._relay(far, near)

    def _relay(self, source, target):
        try:
            while part := source.recv(65536):
                self.open_road.wait()
                target.sendall(part)
        except OSError:
            pass
        try:
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass
