"""The companion: the public face of LaViSE, gRPC and HTTP in front of TorchServe."""

import os

# Arrow reads this as it is imported. Its own allocator keeps what bursts of uploads once took, and
# nothing in lavise.heap reaches it.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
