"""One end of a bare data channel with aiortc: takes an offer on standard input, answers it, and sends back all that comes, with SHA-256 of both ways.

Usage: aiortc_end.py BYTES
"""

import asyncio
import hashlib
import json
import sys

from aiortc import RTCPeerConnection, RTCSessionDescription

MESSAGE = 64 * 1024


async def main(size: int) -> None:
    pc = RTCPeerConnection()
    channel = pc.createDataChannel("madang.transfer", negotiated=True, id=1)
    got, received, whole, room = hashlib.sha256(), 0, asyncio.Event(), asyncio.Event()
    channel.bufferedAmountLowThreshold = 1 << 20

    @channel.on("bufferedamountlow")
    def low() -> None:
        room.set()

    @channel.on("message")
    def message(data: bytes) -> None:
        nonlocal received
        got.update(data)
        received += len(data)
        if received >= size:
            whole.set()

    offer = json.loads(sys.stdin.readline())
    await pc.setRemoteDescription(RTCSessionDescription(offer["sdp"], "offer"))
    await pc.setLocalDescription(await pc.createAnswer())
    say({"sdp": pc.localDescription.sdp})
    await whole.wait()
    say({"received": received, "sha256": got.hexdigest()})

    sent = hashlib.sha256()
    for at in range(0, size, MESSAGE):
        data = hashlib.sha256(str(at).encode()).digest() * (MESSAGE // 32)
        data = data[: size - at]
        sent.update(data)
        while channel.bufferedAmount > 2 << 20:
            room.clear()
            await room.wait()
        channel.send(data)
    say({"sent": size, "sha256": sent.hexdigest()})
    await asyncio.to_thread(sys.stdin.readline)  # until the other side has it all
    await pc.close()


def say(what: dict) -> None:
    print(json.dumps(what), flush=True)


asyncio.run(main(int(sys.argv[1])))
