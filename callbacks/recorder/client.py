"""The trainer's side of the recorder: takes rows without waiting, and delivers them on a thread."""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakSet

from lit_rl.callbacks.recorder import numbers
from lit_rl.callbacks.recorder.directory import claim
from lit_rl.callbacks.recorder.numbers import Row
from lit_rl.callbacks.recorder.process import RecorderProcess
from lit_rl.callbacks.recorder.session import COUNTS, Session
from lit_rl.callbacks.recorder.settings import Settings
from lit_rl.processes import Message

_log = logging.getLogger("lit_rl")

BATCH_ROWS = 512
BATCH_S = 0.2
MAX_RESTARTS = 3
RETRY_S = 1.0
WARN_S = 60.0
CLOSE_TIMEOUT_S = 5.0
FIGURE_TIMEOUT_S = 15.0


def start_recorder(settings: Settings) -> Recorder:
    """Start a recorder in a directory of its own; it drops all rows where no directory can be made."""
    try:
        directory, is_continued = claim(
            Path(settings.log_dir),
            settings.experiment_name,
            settings.run_directory,
            settings.resume_step is not None,
        )
    except OSError as error:
        _log.warning(
            "loss recorder: no directory can be made in log_dir %s (%s); training goes on, its losses are "
            "counted but not recorded",
            settings.log_dir,
            error.strerror,
        )
        return Recorder(settings, None)
    return Recorder(settings if is_continued else replace(settings, resume_step=None), directory)


class Recorder:
    """Hands losses to a recorder process, and counts every row that does not arrive.

    :meth:`record` appends to a queue. A thread takes batches from it, sends each to the process and waits
    until it is written before it sends the next. A process that dies is replaced, at most three times, and
    takes the batch again: what the dead one had written of it is taken back first. Then the thread writes by
    itself, and no figure is drawn any more. While a batch cannot be written (disk full) it is tried again
    every second; rows that find the queue full are dropped.

    After :meth:`close`, offered = written + dropped + invalid, exactly.

    Args:
        settings: Settings of the loss log.
        directory: Directory of the loss log. None if it could not be made: all rows are dropped, and counted.
    """

    def __init__(self, settings: Settings, directory: Path | None) -> None:
        self.settings, self.directory = settings, directory
        self.restarts = 0
        self._queue: deque[Row] = deque()
        self._capacity = settings.queue_size
        self._why_full = f"the queue of {settings.queue_size} rows (queue_size) is full"
        self._counts: dict[str, dict[str, int]] = {}
        self._lock = threading.Lock()
        self._closing, self._closed = threading.Event(), threading.Event()
        self._is_final = False
        self._link: RecorderProcess | Session | None = None
        self._is_open = False
        self._sizes: dict[str, int] | None = None
        self._about = {"session": uuid.uuid4().hex, "started": time.time()}
        self._warned_at: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name="loss recorder", daemon=True)
        if directory is None:
            self._refuse_all("there is no directory")
            self._warned_at["dropped"] = math.inf  # start_recorder said so
            self._closed.set()
        else:
            self._thread.start()
            atexit.register(self.wait)
        _living.add(self)

    # The training loop's side

    def record(
        self,
        network: str,
        step: int,
        losses: Mapping[str, Any],
        timestamp: float | None = None,
    ) -> bool:
        """Take one row: the losses of a network at a step.

        Numbers, arrays and tensors of one element are taken; of a tensor on an accelerator a copy is made
        there and fetched by the thread. NaN and infinities are recorded like any other value.

        Returns:
            Whether the row was taken; False when it was dropped or cannot be a row.
        """
        network = network.lower() if isinstance(network, str) else repr(network)
        now = time.time() if timestamp is None else timestamp
        try:
            row = Row(network, step, now, {name: numbers.hold(value) for name, value in losses.items()})
        except (AttributeError, TypeError, ValueError, RuntimeError) as error:
            self._refuse(network, error, offered=1)
            return False
        with self._lock:
            counts = self._counts_of(network)
            counts["offered"] += 1
            if len(self._queue) < self._capacity:
                self._queue.append(row)
                return True
            counts["dropped"] += 1
        self._warn("dropped", f"rows are dropped and counted: {self._why_full}", every_s=WARN_S)
        return False

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> dict[str, int]:
        """Wait until every row is on disk or counted as lost, for about ``timeout_s`` at most.

        The process draws its last figure after that and ends by itself; see :meth:`wait`.

        Returns:
            Rows offered, written, dropped and invalid.
        """
        if not self._closing.is_set():
            self._refuse_all("the recorder is closed")
            self._closing.set()
            if not self._closed.wait(timeout_s):
                self._abandon()
            self._is_final = True
            totals = self.totals
            if totals["dropped"] or totals["invalid"]:
                text = "loss recorder: offered %d = written %d + dropped %d + invalid %d rows (%s)"
                _log.warning(text, *totals.values(), self.directory or self.settings.log_dir)
        return self.totals

    def wait(self, timeout_s: float = FIGURE_TIMEOUT_S) -> bool:
        """Close, and wait for the last figure; whether the process has ended. Called when Python exits."""
        self.close()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """True while rows are recorded; False after :meth:`close`, and in a forked process."""
        return self._thread.is_alive() and not self._closing.is_set()

    @property
    def process_id(self) -> int | None:
        """Process id of the recorder; None before it is started and when there is none any more."""
        return self._link.pid if isinstance(self._link, RecorderProcess) else None

    @property
    def totals(self) -> dict[str, int]:
        """Rows offered, written, dropped and invalid so far, over all networks."""
        per_network = self._copy_counts().values()
        return {key: sum(counts[key] for counts in per_network) for key in COUNTS}

    def _copy_counts(self) -> dict[str, dict[str, int]]:
        with self._lock:
            copy = {network: dict(counts) for network, counts in self._counts.items()}
        if self._is_final:  # what has not arrived by now is lost
            for counts in copy.values():
                counts["dropped"] = counts["offered"] - counts["written"] - counts["invalid"]
        return copy

    def _counts_of(self, network: str) -> dict[str, int]:
        if network not in self._counts:
            self._counts[network] = dict.fromkeys(COUNTS, 0)
        return self._counts[network]

    def _refuse(self, network: str, error: Exception, offered: int = 0) -> None:
        with self._lock:
            counts = self._counts_of(network)
            counts["offered"] += offered
            counts["invalid"] += 1
        self._warn("invalid", f"a row is not recorded, and counted as invalid like all such rows: {error}")

    def _refuse_all(self, why: str) -> None:
        with self._lock:
            self._capacity, self._why_full = 0, why

    def _forget_parent(self) -> None:
        """Record nothing and wait for nothing in a forked process, which has the queue but not the thread."""
        self._lock = threading.Lock()
        self._closing.set()
        if isinstance(self._link, RecorderProcess):
            self._link.close_pipes()
        self._refuse_all("this process was forked from the one that records")

    # The thread

    def _run(self) -> None:
        try:
            self._deliver({"kind": "ping"})  # starts the process before the first row
            is_last = False
            while not is_last:
                is_last = self._closing.wait(0 if len(self._queue) >= BATCH_ROWS else BATCH_S)
                while self._queue:
                    self._send_batch()
            self._deliver({"kind": "close"})
        finally:
            self._closed.set()
            if self._link is not None:
                self._link.end()
            atexit.unregister(self.wait)

    def _send_batch(self) -> None:
        with self._lock:
            batch = [self._queue.popleft() for _ in range(min(BATCH_ROWS, len(self._queue)))]
        numbers.fetch(batch)
        rows = []
        for row in batch:
            try:
                rows.append(numbers.check(row))
            except (TypeError, ValueError, OverflowError) as error:
                self._refuse(row.network, error)
        if not rows:
            return
        fate = "written" if self._deliver({"kind": "rows", "rows": rows}) else "dropped"
        with self._lock:
            for row in rows:
                self._counts[row.network][fate] += 1

    def _deliver(self, message: Message) -> bool:
        """Send until it is done; False when it cannot be done and the run is over."""
        error = self._send(message)
        while error is not None:
            self._warn("error", f"losses cannot be written: {error}; training goes on, lost rows are counted")
            if self._closing.wait(RETRY_S):
                return self._send(message) is None
            error = self._send(message)
        return True

    def _send(self, message: Message) -> str | None:
        """Send to the process, or to the one that replaces it; what went wrong, or None."""
        message["counts"] = self._copy_counts()
        while True:
            try:
                return self._open_link() or self._exchange(message)
            except (OSError, EOFError, ValueError) as error:
                if isinstance(self._link, Session):
                    return f"{type(error).__name__}: {error}"
                self._replace(error)

    def _open_link(self) -> str | None:
        """Start a recorder if there is none; why it cannot write, or None."""
        if self._link is None:
            self._is_open = False
            self._link = RecorderProcess() if self.restarts <= MAX_RESTARTS else Session(draws=False)
        if self._is_open:
            return None
        config = {**self.settings.to_dict(), "directory": str(self.directory), "trainer_pid": os.getpid()}
        about = self._about | {"restarts": self.restarts}
        error = self._exchange({"kind": "open", "config": config, "sizes": self._sizes, **about})
        self._is_open = error is None
        return error

    def _exchange(self, message: Message) -> str | None:
        if self._link is None:
            raise EOFError("there is no recorder")
        reply = self._link.handle(message)
        if reply["warning"]:
            self._warn("warning", f"{reply['warning']}; training goes on")
        if reply["error"] is None:
            self._sizes = reply["sizes"]
        return reply["error"]

    def _replace(self, error: Exception) -> None:
        """After the death of the process: the next message starts another one, or none any more."""
        status: int | str = "not started"
        if isinstance(self._link, RecorderProcess):
            self._link.kill()
            status = self._link.end()
        self._link = None
        self.restarts += 1
        is_over = self.restarts > MAX_RESTARTS
        then = "the trainer writes by itself now, without figures" if is_over else "it is restarted"
        text = "loss recorder: its process ended (status %s, %s: %s), time %d of %d; %s"
        _log.warning(text, status, type(error).__name__, error, self.restarts, MAX_RESTARTS + 1, then)

    def _abandon(self) -> None:
        """The process does not answer: end it, and let the thread write what is left by itself."""
        self.restarts = MAX_RESTARTS
        if isinstance(self._link, RecorderProcess):
            self._link.kill()
        self._closed.wait(CLOSE_TIMEOUT_S / 2)

    # Words

    def _warn(self, kind: str, text: str, every_s: float = math.inf) -> None:
        """Say it once for each kind, or every so often."""
        now = time.monotonic()
        if now - self._warned_at.get(kind, -math.inf) >= every_s or kind not in self._warned_at:
            self._warned_at[kind] = now
            _log.warning("loss recorder: %s", text)


_living: WeakSet[Recorder] = WeakSet()


def _after_fork() -> None:
    for recorder in _living:
        recorder._forget_parent()


os.register_at_fork(after_in_child=_after_fork)
