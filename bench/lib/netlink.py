"""A real link between devices of one machine: a network namespace for one of them, veth, and `tc tbf` at both ends.

s2m3 listens on loopback, and every namespace has a loopback of its own.  So a port of one side is carried to the same port
of the other side's loopback: by a listener there, one connection over the veth for each that is accepted, and a listener at
the veth's other end that connects to the device.  What is sent passes the shaped veth once.  Needs root; Python's standard library only.
"""
from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading

CLONE_NEWNET = 0x40000000
NEAR, FAR = "10.99.0.1", "10.99.0.2"
CHUNK = 1 << 18
libc = ctypes.CDLL(None, use_errno=True)


def run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)


class Link:
    """near: the bench's own namespace; far: a new one.  OSError or CalledProcessError: not allowed here."""

    def __init__(self, mbit: int) -> None:
        self.name, end = f"s2m3-{os.getpid()}", str(os.getpid())
        self.near = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.sockets: list[socket.socket] = []
        run("ip", "netns", "add", self.name)
        try:
            self.far = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
            run("ip", "link", "add", f"v{end}", "type", "veth", "peer", "name", f"w{end}", "netns", self.name)
            inside = ("ip", "netns", "exec", self.name)
            shape = ("root", "tbf", "rate", f"{mbit}mbit", "burst", "32kb", "latency", "200ms")
            for device, address, prefix in ((f"v{end}", NEAR, ()), (f"w{end}", FAR, inside)):
                run(*prefix, "ip", "address", "add", f"{address}/30", "dev", device)
                run(*prefix, "ip", "link", "set", device, "up")
                run(*prefix, "tc", "qdisc", "add", "dev", device, *shape)
            run(*inside, "ip", "link", "set", "lo", "up")
        except BaseException:
            self.remove()
            raise

    @property
    def prefix(self) -> list[str]:
        """Before the command of a device that is to be at the far end."""
        return ["ip", "netns", "exec", self.name]

    def remove(self) -> None:
        for s in self.sockets:
            s.close()
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)

    def carry(self, url: str, far: bool) -> None:
        """Makes the port of a device (at the far end, or near) reachable from the other side."""
        port = int(url.rsplit(":", 1)[1])
        there, here = (self.far, self.near) if far else (self.near, self.far)
        address = FAR if far else NEAR
        self._relay(there, (address, port), ("127.0.0.1", port), there)
        self._relay(here, ("127.0.0.1", port), (address, port), here)

    def _inside(self, namespace: int, act):
        """act() in a thread of its own that is in the namespace: sockets stay in it."""
        result: list = []

        def work() -> None:
            if libc.setns(namespace, CLONE_NEWNET):
                result.append(OSError(ctypes.get_errno(), "setns"))
                return
            try:
                result.append(act())
            except OSError as e:
                result.append(e)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if isinstance(result[0], OSError):
            raise result[0]
        return result[0]

    def _relay(self, namespace: int, listen: tuple[str, int], to: tuple[str, int], where: int) -> None:
        listener = self._inside(namespace, lambda: socket.create_server(listen, backlog=64))
        self.sockets.append(listener)

        def pump(source: socket.socket, sink: socket.socket) -> None:
            try:
                while data := source.recv(CHUNK):
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_WR)
            except OSError:
                for s in (source, sink):
                    s.close()

        def serve() -> None:
            libc.setns(where, CLONE_NEWNET)
            while True:
                try:
                    client, _ = listener.accept()
                    server = socket.create_connection(to)
                except OSError:
                    if listener.fileno() < 0:
                        return
                    continue
                for s in (client, server):
                    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
