"""Stands between a site's cable and the bridge, and lets what sites say to each other pass late, or not at all.

It runs in the outside namespace and copies Ethernet frames from one interface to the other. What comes from outside or
goes there passes at once, so that clients see the region and not its links; ARP passes too, or a lossy link would be
a cut one. Frames keep their order, as jitter that reorders would measure TCP's dislike of that. It ends by a signal,
with who started it, or with the network; what it was built between is then joined without it.

    python -I -S network_slow_link.py CABLE BRIDGE_SIDE OUTSIDE_HOST HOLDER_PID DELAY JITTER LOSS FILE
"""

import collections
import contextlib
import ctypes
import os
import select
import signal
import socket
import subprocess
import sys
import time

SOL_PACKET, PACKET_VNET_HDR, PACKET_OUTGOING = 263, 15, 4
PR_SET_PDEATHSIG = 1
FRAME_BYTES_MAX = 10 + 14 + (64 << 10)
"""With the header that says how the kernel would have cut it: frames are not cut between interfaces of one machine."""
WAITING_MAX = 20_000
"""Frames; more are lost, as in any queue."""
LOOK_SECONDS = 0.5


class Direction:
    """Frames from one interface to the other."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source, self.sink = source, sink
        self.waiting: collections.deque[tuple[float, bytes]] = collections.deque()

    def take(self, outside: bytes, delay: float, jitter: float, loss: float, counts: dict[str, int]) -> None:
        """Take all frames that are there."""
        while True:
            try:
                frame, address = self.source.recvfrom(FRAME_BYTES_MAX)
            except BlockingIOError:
                return
            if address[2] == PACKET_OUTGOING:
                continue
            if not between_sites(frame, outside):
                send(self.sink, frame, counts)
            elif chance() < loss or len(self.waiting) >= WAITING_MAX:
                counts["lost"] += 1
            else:
                due = time.monotonic() + delay + jitter * chance()
                self.waiting.append((max(due, self.waiting[-1][0]) if self.waiting else due, frame))

    def pass_on(self, now: float, counts: dict[str, int]) -> None:
        """Send what is due."""
        while self.waiting and self.waiting[0][0] <= now:
            send(self.sink, self.waiting.popleft()[1], counts)
            counts["delayed"] += 1


def between_sites(frame: bytes, outside: bytes) -> bool:
    """Whether it is an IPv4 packet that neither comes from outside nor goes there."""
    return frame[22:24] == b"\x08\x00" and outside not in (frame[36:40], frame[40:44])


def chance() -> float:
    """A number from 0 to below 1."""
    return int.from_bytes(os.urandom(4), "little") / 2**32


def send(sink: socket.socket, frame: bytes, counts: dict[str, int]) -> None:
    """Send a frame; a full interface loses it."""
    try:
        sink.send(frame)
    except OSError:
        counts["overrun"] += 1


def opened(interface: str) -> socket.socket:
    """Everything that passes an interface, with the header that keeps large frames whole."""
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    tap.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    tap.setblocking(False)
    tap.bind((interface, 3))  # ETH_P_ALL
    return tap


def carry(directions: list[Direction], settings: tuple[bytes, float, float, float], holder: int, said: str) -> None:
    """Copy until the network is gone."""
    counts = {"delayed": 0, "lost": 0, "overrun": 0}
    looked = 0.0
    while os.path.exists(f"/proc/{holder}"):  # noqa: PTH110 - without site-packages and as small as it gets
        now = time.monotonic()
        for direction in directions:
            direction.pass_on(now, counts)
        if now - looked >= LOOK_SECONDS:
            looked = now
            write(said, f"delayed {counts['delayed']} lost {counts['lost']} overrun {counts['overrun']}\n")
        dues = [direction.waiting[0][0] for direction in directions if direction.waiting]
        wait = max(min([*dues, now + LOOK_SECONDS]) - time.monotonic(), 0.0)
        ready, _, _ = select.select([direction.source for direction in directions], [], [], wait)
        for direction in directions:
            if direction.source in ready:
                direction.take(*settings, counts)


def write(path: str, text: str) -> None:
    """Replace the file as a whole; a directory that is gone is no reason to end."""
    with contextlib.suppress(OSError):
        with open(path + ".new", "w", encoding="utf-8") as file:  # noqa: PTH123 - as above
            file.write(text)
        os.replace(path + ".new", path)  # noqa: PTH105 - as above


def main() -> None:
    """Stand between, until told to stop."""
    cable, bridge_side, outside, holder, delay, jitter, loss, said = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        inner, outer = opened(cable), opened(bridge_side)
        settings = (socket.inet_aton(outside), float(delay), float(jitter), float(loss))
        carry([Direction(inner, outer), Direction(outer, inner)], settings, int(holder), said)
    finally:
        script = f"link set {cable} arp on\nlink set {cable} master br0\nlink del {bridge_side}\n"
        subprocess.run(["ip", "-batch", "-"], input=script, text=True, check=False)


if __name__ == "__main__":
    main()
