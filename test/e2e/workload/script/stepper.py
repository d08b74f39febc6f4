# SPDX-License-Identifier: Apache-2.0
"""The Python workload of the end-to-end tests: the recorder's protocol, with a numpy array as memory."""

import json
import os
import signal
import socket
import sys
import time
import zlib

import numpy

NAME = os.environ["NAME"]
HOST, PORT = os.environ["RECORDER"].rsplit(":", 1)
INTERVAL = int(os.environ["INTERVAL_MS"]) / 1000
CHUNK = 64 << 10
CHUNKS = (int(os.environ["MEMORY_MIB"]) << 20) // CHUNK
VERIFY = 64
TIMEOUT = 1.0
PAUSE = 0.02


class Ballast:
    """Memory with a checksum for each chunk."""

    def __init__(self):
        self.data = numpy.random.default_rng(1).integers(0, 256, (CHUNKS, CHUNK), numpy.uint8)
        self.data[:, CHUNK // 2 :] = ord("x")
        self.sums = [zlib.crc32(chunk) for chunk in self.data]
        self.touched = self.checked = 0

    def touch(self, step):
        self.data[self.touched, :8] = numpy.frombuffer(step.to_bytes(8, "little"), numpy.uint8)
        self.sums[self.touched] = zlib.crc32(self.data[self.touched])
        self.touched = (self.touched + 1) % CHUNKS

    def verify(self):
        """Checks the next chunks; returns a fault or None."""
        for _ in range(min(VERIFY, CHUNKS)):
            if zlib.crc32(self.data[self.checked]) != self.sums[self.checked]:
                return f"chunk {self.checked} of the ballast has changed"
            self.checked = (self.checked + 1) % CHUNKS
        return None


class Reporter:
    """Tells the recorder, over one connection that it keeps open."""

    def __init__(self):
        self.conn = self.answers = None
        self.pod = ""

    def report(self, message):
        while True:
            try:
                self.attempt(message)
                return
            except OSError:
                self.disconnect()
                time.sleep(PAUSE)

    def attempt(self, message):
        if self.conn is None:
            self.conn = socket.create_connection((HOST, int(PORT)), TIMEOUT)
            self.conn.settimeout(TIMEOUT)
            self.answers = self.conn.makefile("r")
            with open("/etc/hostname", encoding="ascii") as f:
                self.pod = f.read().strip()
        self.conn.sendall((json.dumps(message | {"pod": self.pod}) + "\n").encode())
        if self.answers.readline() != f"ok {message['nonce']}\n":
            raise OSError("not acknowledged")

    def disconnect(self):
        if self.conn is not None:
            self.answers.close()
            self.conn.close()
            self.conn = None


def draw_nonce():
    """Reads the kernel's device: a generator in user space would go on alike in two processes of one checkpoint."""
    with open("/dev/urandom", "rb", buffering=0) as f:
        return f.read(12).hex()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    ballast, reporter = Ballast(), Reporter()
    step = verified = 0
    while True:
        begin = time.monotonic()
        message = {"workload": NAME, "nonce": draw_nonce(), "done": step, "bytes": ballast.data.nbytes}
        step += 1
        ballast.touch(step)
        fault = ballast.verify()
        if fault:
            reporter.report(message | {"step": step, "fault": fault})
            sys.exit(1)
        verified += min(VERIFY, CHUNKS) * CHUNK
        reporter.report(message | {"step": step, "verified": verified})
        time.sleep(max(0, begin + INTERVAL - time.monotonic()))


main()
