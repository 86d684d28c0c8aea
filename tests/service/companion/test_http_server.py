"""What a connection does as it closes."""

import asyncio
import socket

import uvicorn
from starlette.responses import PlainTextResponse
from uvicorn.server import ServerState

from lavise_service.companion.http_server import PatientNoMore

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def test_what_has_arrived_is_answered_before_the_connection_closes() -> None:
    """A request lies unread on an idle connection at the moment that the server ends it."""

    async def run() -> bytes:
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[PatientNoMore] = loop.create_future()
        config = uvicorn.Config(PlainTextResponse("heard"), http=PatientNoMore, lifespan="off")
        config.load()

        class Connection(PatientNoMore):
            def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as PatientNoMore's
                super().connection_made(transport)
                opened.set_result(self)

        def connection() -> Connection:
            return Connection(config, ServerState(), {}, loop)

        server = await loop.create_server(connection, "127.0.0.1", 0)
        client = socket.create_connection(server.sockets[0].getsockname())
        ending = await opened
        client.sendall(REQUEST)  # the loop does not turn between this and the next line
        ending.shutdown()
        client.setblocking(False)
        answer = b""
        while part := await asyncio.wait_for(loop.sock_recv(client, 4096), 5):
            answer += part
        client.close()
        server.close()
        return answer

    answer = asyncio.run(run())
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"heard")
