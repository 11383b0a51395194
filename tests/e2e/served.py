"""A server under test: started, awaited, asked, stopped."""

import os
import pathlib
import signal
import subprocess

import support

READY_SECONDS = 60
STOP_SECONDS = 60


class Server:
    """`mpishards serve` as a context manager; leaving it drains the server and insists on exit code 0."""

    def __init__(self, folder, collections, np=2, more=(), env=None):
        self.discovery = pathlib.Path(folder) / "server.addr"
        self.log = pathlib.Path(folder) / "server.log"
        arguments = ["serve", "--listen", "127.0.0.1:0", "--discovery-file", self.discovery, *more]
        for collection in collections:
            arguments += ["--collection", collection]
        self._output = open(self.log, "w")
        self.process = support.start(arguments, np=np, env=env, stdin=subprocess.DEVNULL, stdout=self._output,
                                     stderr=subprocess.STDOUT)

    def wait(self):
        """Until the server is ready; its gRPC address."""
        assert support.wait_until(self.discovery.exists, self.process, READY_SECONDS, 0.01), self.text()
        return self.address

    @property
    def address(self):
        return self.discovery.read_text().splitlines()[0]

    def text(self):
        return self.log.read_text(errors="replace")

    def ranks(self):
        """Process ids of the ranks, rank 0 first: without a launcher the server itself."""
        return sorted(support.child_pids(self.process)) or [self.process.pid]

    def ask_to_stop(self):
        """mpirun hands SIGUSR1 on to the ranks."""
        os.kill(self.process.pid, signal.SIGUSR1)

    def stop(self):
        self.ask_to_stop()
        code = self.process.wait(timeout=STOP_SECONDS)
        assert code == 0, f"exit code {code}\n{self.text()}"
        assert not self.discovery.exists()

    def __enter__(self):
        try:
            self.wait()
        except BaseException:
            self.__exit__(AssertionError, None, None)
            raise
        return self

    def __exit__(self, kind, value, trace):
        try:
            if kind is None and self.process.poll() is None:
                self.stop()
        finally:
            support.kill_group(self.process)
            self.process.wait()
            self._output.close()
        support.assert_no_orphans(self.discovery.parent)
