import logging
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from lightning.pytorch import Callback

from lit_rl.callbacks.companions.tensorboard_process import listen
from lit_rl.callbacks.tensorboard_server import TensorBoardServer
from tests.processes import Forked, is_alive, wait_until


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens, with a free one after it."""
    for port in range(20_000, 30_000):
        with listen("127.0.0.1", port) as first, listen("127.0.0.1", port + 1) as second:
            if second.getsockname()[1] == first.getsockname()[1] + 1:
                second.close()
                yield first.getsockname()[1]
                return


class TrainsUntilItAnswers(Callback):
    """Keeps the training going until the server is there, and looks at its page."""

    def __init__(self, server: TensorBoardServer) -> None:
        self.server = server
        self.page = ""
        self.mib_before = 0.0
        self.processes: list[int] = []

    def on_train_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        if self.server.url is not None:
            assert self.server._companion is not None
            own = psutil.Process(self.server._companion.pid)
            self.mib_before = own.memory_info().rss / 2**20
            self.page = get(self.server.url)
            self.processes = [own.pid, *(child.pid for child in own.children())]
            trainer.should_stop = True


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


def test_serves_on_the_next_free_port_and_ends_with_the_training(fit, taken, caplog):
    caplog.set_level("INFO", "lit_rl")
    server = TensorBoardServer(port=taken)
    watcher = TrainsUntilItAnswers(server)
    fit(server, watcher)
    assert f"TensorBoard: http://127.0.0.1:{taken + 1}/" in caplog.messages
    assert watcher.mib_before < 40  # nothing is loaded before somebody looks
    assert "TensorBoard" in watcher.page
    assert len(watcher.processes) == 2  # TensorBoard and its data server
    wait_until(lambda: not any(map(is_alive, watcher.processes)), 20, lambda: str(watcher.processes))
    with pytest.raises(OSError):  # noqa: PT011  # refused, or reset where the socket is being closed
        get(f"http://127.0.0.1:{taken + 1}/")


def test_ends_its_own_process_and_no_other(fit):
    with Bystander() as bystander:
        server = TensorBoardServer()
        fit(server, max_epochs=1)
        assert server._companion is None
        assert bystander.poll() is None


class Bystander(psutil.Popen):
    """A process of the user in this process group."""

    def __init__(self) -> None:
        super().__init__(["sleep", "1000"])

    def __exit__(self, *args: Any) -> None:
        self.kill()
        super().__exit__(*args)


def test_a_server_that_cannot_start_is_one_warning(fit, caplog):
    host = "192.0.2.1"  # an address that no machine has
    server = TensorBoardServer(host=host)
    fit(server, StopsWhen(lambda: server._is_over))
    [warning] = [
        r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and r.name == "lit_rl"
    ]
    assert warning.startswith(f"no TensorBoard server at port 6006 of {host}: OSError: ")
    assert warning.endswith("; training goes on without it")


def test_a_killed_server_is_one_warning(fit, caplog):
    server = TensorBoardServer()

    class Kills(Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
            if server.url is not None and not server._is_over:
                assert server._companion is not None
                os.kill(server._companion.pid, 9)
            trainer.should_stop = server._is_over

    fit(server, Kills())
    [warning] = [
        r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and r.name == "lit_rl"
    ]
    assert warning == (
        "no TensorBoard server at port 6006 of 127.0.0.1: its process was killed; training goes on without it"
    )


class StopsWhen(Callback):
    def __init__(self, condition: Any) -> None:
        self.condition = condition

    def on_train_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        trainer.should_stop = self.condition()


def test_fast_dev_run_starts_none(fit):
    server = TensorBoardServer()

    class Looks(Callback):
        def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
            assert server._companion is None

    fit(server, Looks(), fast_dev_run=True)


def test_port_is_checked():
    with pytest.raises(ValueError, match="port = 0, expected 1 <= port <= 65535"):
        TensorBoardServer(port=0)


def killed_trainer(pid_file: str) -> None:
    """Starts a server as the callback does and is killed, for ``Forked``."""
    from tests.callbacks.conftest import Fit

    server = TensorBoardServer()

    class Notes(Callback):
        def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
            assert server._companion is not None
            Path(pid_file).write_text(str(server._companion.pid))
            os.kill(os.getpid(), 9)

    Fit(Path(pid_file).parent)(server, Notes())


def test_server_of_a_killed_trainer_ends(tmp_path):
    pid_file = tmp_path / "pid"
    trainer = Forked(killed_trainer, str(pid_file), cwd=tmp_path, log=tmp_path / "log")
    try:
        assert trainer.exit_code(60) == -9, trainer.output()
        number = int(pid_file.read_text())
        wait_until(lambda: not is_alive(number), 20, trainer.output)
    finally:
        trainer.kill()
