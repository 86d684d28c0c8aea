"""Asks TorchServe whether a worker of a model is ready, which its /ping does not know.

A worker is READY once the handler has explained an image. The door of management is open to the
pod alone.
"""

import json
import sys
import urllib.request


def ready(port: int, model: str) -> bool:
    """Returns whether a worker of the model is ready.

    Args:
        port: Of the management door.
        model: The name that it is served under.
    """
    # Not through a proxy that the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/models/{model}", timeout=5) as answer:
        versions = json.load(answer)
    return any(worker["status"] == "READY" for one in versions for worker in one["workers"])


if __name__ == "__main__":
    name = sys.argv[2]
    sys.exit(0 if ready(int(sys.argv[1]), name) else f"no worker of {name} is ready")
