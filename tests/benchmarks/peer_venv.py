"""Virtual environments for peers whose requirements clash with ours, one each, made with plain pip.

``python tests/benchmarks/peer_venv.py [sbx] [benchmarl]`` makes them under ``.venv-peers/`` at the top of the
repository; ``run_all.py`` does so before it measures. An environment is made anew when its list of
requirements changes. Packages that both sides run on (PyTorch, Gymnasium, MuJoCo, ...) have the versions of
the environment that this script runs in. Where pip would fetch PyTorch for GPUs, which is large, set
``PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu`` first.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / ".venv-peers"
PEERS: dict[str, list[str]] = {
    "sbx": ["sbx-rl==0.28.0", "jax==0.10.2", "flax==0.12.8", "optax==0.2.8", "stable-baselines3==2.9.2"],
    "benchmarl": ["benchmarl==1.5.2", "torchrl==0.11.1", "tensordict==0.11.0"],
}
"""What a peer is, in versions that were tried."""
SHARED: dict[str, list[str]] = {
    "sbx": ["torch", "numpy", "gymnasium[mujoco]", "mujoco"],
    "benchmarl": ["torch", "numpy", "pettingzoo", "mpe2"],
}
"""What it shares with ours, in our versions."""
SCRIPTS = {"peer_sbx.py": "sbx", "peer_benchmarl.py": "benchmarl"}
"""Benchmark scripts that run in an environment of a peer."""


class PeerMissingError(RuntimeError):
    """Pip could not make the environment of a peer."""


def python(peer: str) -> Path:
    """The interpreter of a peer's environment, which :func:`ensure` has made."""
    return FOLDER / peer / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def requirements(peer: str) -> list[str]:
    """The whole list for pip."""
    own = [f"{name}=={metadata.version(_bare(name)).partition('+')[0]}" for name in SHARED[peer]]
    return [*PEERS[peer], *own]


def ensure(peer: str) -> dict[str, str]:
    """Make the environment of a peer if there is none with these requirements; return its versions.

    Raises:
        PeerMissingError: Pip failed; the message is the end of what it said.
    """
    listed, note = requirements(peer), FOLDER / peer / "requirements.json"
    if not note.exists() or json.loads(note.read_text()) != listed:
        print(f"making {FOLDER.name}/{peer}: {' '.join(listed)}", flush=True)
        _call([sys.executable, "-m", "venv", "--clear", str(FOLDER / peer)])
        _call([str(python(peer)), "-m", "pip", "install", "--quiet", *listed])
        note.write_text(json.dumps(listed))
    names = [_bare(line) for line in listed]
    code = f"import importlib.metadata as m, json; print(json.dumps([m.version(n) for n in {names}]))"
    return dict(zip(names, json.loads(_call([str(python(peer)), "-c", code])), strict=True))


def _bare(requirement: str) -> str:
    """The name without extras and version."""
    return requirement.partition("==")[0].partition("[")[0]


def _call(command: list[str]) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise PeerMissingError(f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return done.stdout


def main() -> None:
    """Make the environments that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peers", nargs="*", help=f"of {', '.join(PEERS)}")
    args = parser.parse_args()
    for peer in args.peers or PEERS:
        print(peer, ensure(peer))


if __name__ == "__main__":
    main()
