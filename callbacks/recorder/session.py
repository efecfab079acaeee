"""Carries out the messages of the trainer, in the recorder process or, if need be, in the trainer itself."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import lit_rl
from lit_rl.callbacks.recorder.drawing import Drawing
from lit_rl.callbacks.recorder.numbers import Row
from lit_rl.callbacks.recorder.reader import count_rows, read_rows
from lit_rl.callbacks.recorder.statistics import LossStatistics
from lit_rl.callbacks.recorder.writer import LossWriter
from lit_rl.files import read_json, write_json
from lit_rl.loss_log import CONFIG, STATE, segments
from lit_rl.processes import Message

HEARTBEAT_S = 5.0
"""Seconds between two ``recorder.json`` and two syncs to disk."""
LOCK_TIMEOUT_S = 10.0
FIGURE_TIMEOUT_S = 60.0
COUNTS = ("offered", "written", "dropped", "invalid")


class Session:
    """One trainer's connection to one loss log.

    Messages (``kind``): ``open`` with ``config``, ``sizes`` (what is acknowledged; None at the very start),
    ``session`` (its name), ``started`` and ``restarts``; ``rows`` with ``rows`` and ``counts`` (of the
    trainer, without these rows); ``ping``; ``close`` with ``counts``. Each is answered by ``error`` (nothing
    of the message was done), ``warning`` and ``sizes``.

    Args:
        draws: Whether to draw figures.
    """

    def __init__(self, draws: bool = True) -> None:
        self._draws = draws
        self._directory = Path()
        self._config: dict[str, Any] = {}
        self._about: dict[str, Any] = {}
        self._drawing: Drawing | None = None
        self._writer: LossWriter | None = None
        self._lock: int | None = None
        self._statistics: dict[str, dict[str, LossStatistics]] = {}
        self._counts: dict[str, dict[str, int]] = {}
        self._state, self._warning = "running", None
        self._has_news = True
        self._next_heartbeat = self._next_report = 0.0

    def handle(self, message: Message) -> Message:
        """Carry out one message."""
        error = None
        try:
            match message["kind"]:
                case "ping":
                    pass
                case "open":
                    self._open(message)
                case "rows":
                    self._append(message)
                case "close":
                    self._close(message)
        except OSError as failure:
            error = f"{failure.strerror or failure} ({failure.filename or self._directory})"
        self.tick()
        warning, self._warning = self._warning, None
        return {"error": error, "warning": warning, "sizes": dict(self._writer.sizes) if self._writer else {}}

    def tick(self) -> None:
        """Do what is due: heartbeat, statistics, figure."""
        if self._writer is None:
            return
        now = time.monotonic()
        try:
            if now >= self._next_heartbeat:
                self._next_heartbeat = now + HEARTBEAT_S
                self._writer.sync()
                self._write_state()
            if now >= self._next_report and self._has_news:
                self._next_report = now + self._config["update_interval"]
                self._write_reports()
                self._has_news = not self._start_drawing()
        except OSError as failure:
            self._warning = f"{failure.strerror or failure} ({failure.filename})"

    def end(self) -> None:
        """Everything after the last message: the last figure; the trainer does not wait for it.

        Without a ``close`` before, the trainer is dead: what it still held is lost, which
        ``recorder.json`` shows as ``producer_lost`` with the rows that were pending.
        """
        if self._writer is None:
            return
        try:
            if self._state == "running":
                self._state = "producer_lost"
                self._write_everything()
            if self._drawing is not None and self._drawing.finish(FIGURE_TIMEOUT_S):
                self._drawing.start(self._figure_content())
                self._drawing.finish(FIGURE_TIMEOUT_S)
            self._write_state()
        except OSError:
            pass  # nobody is left to be told
        self.release()

    def release(self) -> None:
        """Let go of the directory."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # Messages

    def _open(self, message: Message) -> None:
        self._config = dict(message["config"])
        self._directory = Path(self._config["directory"])
        self.release()
        self._lock = _lock(self._directory)
        writer = LossWriter(self._directory, self._config["source"])
        if message["sizes"] is None:
            writer.repair()
        else:
            writer.restore(message["sizes"])
        self._open_config(message)
        self._statistics = {}
        for network in segments(self._directory):
            self._add(read_rows(self._directory, network))
        now = time.monotonic()
        self._next_heartbeat, self._next_report = now, now + self._config["update_interval"]
        self._drawing = Drawing(self._directory) if self._draws else None
        self._writer = writer

    def _open_config(self, message: Message) -> None:
        """Continue what an earlier part of the run wrote; mark its rows that are trained again."""
        resumes = read_json(self._directory / CONFIG).get("resumes", [])
        if self._config["resume_step"] is not None and message["sizes"] is None:
            paths = [path for paths in segments(self._directory).values() for path in paths]
            rows = {path.name: count_rows(path) for path in paths}
            resumes = [*resumes, {"step": self._config["resume_step"], "rows": rows}]
        self._config["resumes"] = resumes
        before = read_json(self._directory / STATE)
        earlier = before.get("earlier", [])
        if before and before.get("session") != message["session"]:
            kept = ("session", "state", "started", "heartbeat", *COUNTS)
            earlier = [*earlier, {key: before.get(key) for key in kept}]
        self._about = {key: message[key] for key in ("session", "restarts", "started")} | {"earlier": earlier}
        write_json(self._directory / CONFIG, self._whole_config())

    def _append(self, message: Message) -> None:
        rows = [Row(*row) for row in message["rows"]]
        self._opened.append(rows)
        self._counts = message["counts"]
        for row in rows:
            self._counts[row.network]["written"] += 1
        self._add(rows)
        self._has_news = True

    def _close(self, message: Message) -> None:
        self._counts = message["counts"]
        self._state = "finished"
        try:
            self._write_everything()
        except OSError as failure:
            self._warning = f"{failure.strerror or failure} ({failure.filename})"

    @property
    def _opened(self) -> LossWriter:
        if self._writer is None:
            raise OSError(errno.ENOENT, "the loss log is not open")
        return self._writer

    def _add(self, rows: Any) -> None:
        for network, step, timestamp, losses in rows:
            of_network = self._statistics.setdefault(network, {})
            for name, value in losses.items():
                if name not in of_network:
                    of_network[name] = LossStatistics()
                of_network[name].add(step, timestamp, value)

    # Files

    def _write_everything(self) -> None:
        self._opened.sync()
        self._write_reports()
        self._write_state()

    def _write_reports(self) -> None:
        for network, losses in self._statistics.items():
            summaries = {name: statistics.summary() for name, statistics in losses.items()}
            counts = {key: self._count(key, network) for key in COUNTS}
            about = {"network": network, "source": self._config["source"], "version": lit_rl.__version__}
            write_json(self._directory / f"{network}_stats.json", about | counts | {"losses": summaries})
        write_json(self._directory / CONFIG, self._whole_config())

    def _write_state(self) -> None:
        content = {
            "state": self._state,
            "pid": os.getpid(),
            "heartbeat": time.time(),
            **{key: self._count(key) for key in COUNTS},
            "pending": self._pending(),
            "networks": {name: dict(counts) for name, counts in self._counts.items()},
            "peak_memory_mb": _peak_memory_mb(),
            "figure_error": self._drawing.error if self._drawing else "drawn by the recorder process only",
            "version": lit_rl.__version__,
        }
        write_json(self._directory / STATE, content | self._about)

    def _whole_config(self) -> dict[str, Any]:
        missing = self._missing()
        status = {
            name: {"status": "missing", "reason": missing[name]}
            if name in missing
            else {"status": "recorded"}
            for name in dict.fromkeys([*self._config["networks"], *self._statistics])
        }
        config = {key: value for key, value in self._config.items() if key != "missing"}
        return {**config, "networks": status, "version": lit_rl.__version__}

    def _missing(self) -> dict[str, str]:
        reasons: dict[str, str] = self._config["missing"]
        expected = [name for name in self._config["networks"] if name not in self._statistics]
        return {name: reasons.get(name, "no loss was recorded") for name in expected}

    def _count(self, key: str, network: str | None = None) -> int:
        return sum(counts[key] for name, counts in self._counts.items() if network in (None, name))

    def _pending(self) -> int:
        offered, *others = (self._count(key) for key in COUNTS)
        return offered - sum(others)

    # Figure

    def _start_drawing(self) -> bool:
        if self._drawing is None:
            return True
        self._warning = self._drawing.error
        return self._drawing.start(self._figure_content())

    def _figure_content(self) -> dict[str, Any]:
        """Copy everything that the figure shows."""
        order = [*self._config["networks"], *self._statistics]
        panels = [
            {
                "network": network,
                "loss": name,
                "curve": statistics.curve.points(),
                "bad_steps": list(statistics.bad_steps),
                "summary": statistics.summary(),
            }
            for network in sorted(self._statistics, key=order.index)
            for name, statistics in self._statistics[network].items()
        ]
        return {
            "experiment": self._config["experiment_name"],
            "algorithm": self._config["algorithm"],
            "source": self._config["source"],
            "step_unit": self._config["step_unit"],
            "panels": panels,
            "missing": self._missing(),
            "counts": {key: self._count(key) for key in COUNTS} | {"pending": self._pending()},
            "state": self._state,
        }


def _lock(directory: Path) -> int:
    """Wait until no other recorder writes into ``directory``.

    Raises:
        OSError: Another one still does, or the directory is gone.
    """
    handle = os.open(directory, os.O_RDONLY)
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(handle)
                raise OSError(errno.EBUSY, "another recorder writes here", str(directory)) from None
            time.sleep(0.05)
        except OSError:  # a file system without locks
            return handle
        else:
            return handle


def _peak_memory_mb() -> float | None:
    """Largest resident memory of this process so far; None where the system does not tell."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return None
