"""websocket_echo.py PORT: a WebSocket server that sends back each frame as it came."""
import asyncio
import sys

import websockets


async def echo(socket):
    async for frame in socket:
        await socket.send(frame)


async def main():
    async with websockets.serve(echo, "0.0.0.0", int(sys.argv[1]), max_size=1 << 24, compression=None):
        await asyncio.Future()


asyncio.run(main())
