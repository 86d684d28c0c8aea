"""Runs haproxy before TorchServe, and reloads it when its certificates change.

Arguments: the configuration, the folder of the certificates, and seconds between two looks.
"""

import signal
import subprocess
import sys
from pathlib import Path


def stamps(folder: Path) -> list[int]:
    """Returns what changes when a certificate, a key or an authority does."""
    files = (folder / name for name in ("tls.crt", "tls.key", "ca.crt"))
    return [file.stat().st_mtime_ns for file in files if file.exists()]


def main(config: str, folder: Path, seconds: float) -> int:
    """Runs it until it ends, or is told to."""
    seen = stamps(folder)
    haproxy = subprocess.Popen(["/usr/sbin/haproxy", "-W", "-db", "-f", config])
    signal.signal(signal.SIGTERM, lambda *_: haproxy.terminate())
    while True:
        try:
            return haproxy.wait(seconds)
        except subprocess.TimeoutExpired:
            now = stamps(folder)
            if now != seen:
                # A new process takes over, the old one ends its connections. Files that do not fit
                # leave the old one where it is.
                seen = now
                haproxy.send_signal(signal.SIGUSR2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])))
