"""Ask a LaViSE server from Python: words of filters, and how two image sets differ.

    from lavise.client import Client

    with Client("127.0.0.1:50051") as lavise:
        answer = lavise.explain([Path("cat.jpg")], most_active=3)
        a = lavise.upload_image_set(sorted(Path("A").glob("*.jpg")), display_name="A")
        b = lavise.upload_image_set(sorted(Path("B").glob("*.jpg")), display_name="B")
        for finding in lavise.compare(a.name, b.name).report.findings:
            print(finding.words, finding.difference, finding.p_value)

Answers are the messages of ``lavise.v1``. AsyncClient has the same methods for asyncio. Calls that
change nothing are repeated where the server asks for it, an upload that breaks off goes on where it
stopped, and a comparison begins anew. Errors are grpc.RpcError; its code and details say what was
wrong.
"""

from lavise.client.aio import AsyncClient
from lavise.client.sync import Client

__all__ = ["AsyncClient", "Client"]
