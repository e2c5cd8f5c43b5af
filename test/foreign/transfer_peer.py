"""Sends and receives files as `madang send` and `madang receive` do, and shares no code with them: an example of a client written from docs/transfer.md and
docs/protocol.md. A § without a name is a section of docs/transfer.md. It runs on what Debian has: python3-aiortc, python3-websockets, libsodium23.

Usage: transfer_peer.py send --server URL PATH...                 prints the link, and ends when its one receiver has everything
       transfer_peer.py receive [--server URL] LINK-OR-CODE DIR   prints what is offered, and asks for a line that begins with y on standard input

What a client may leave out is left out: native lanes and depots, what receivers give each other, partial files that outlive a run, resumed signaling sessions.
It uses one lane at a time when it receives, and answers as many as its receiver makes when it sends.
"""

import argparse
import asyncio
import base64
import contextlib
import ctypes
import hashlib
import hmac
import itertools
import json
import logging
import os
import re
import secrets
import stat
import struct
import sys
import tempfile
import time
import urllib.request
from urllib.parse import urlsplit

import websockets
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection, RTCSessionDescription
from aiortc.sdp import candidate_from_sdp
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

BLOCK = 262144
CREDIT = 32  # blocks asked for and not here yet: 8 MiB
SILENCE = 15  # seconds without a message on a lane where something is owed (§5)


class Refused(Exception):
    """Ends the transfer with a code of §13."""

    def __init__(self, code, text=""):
        super().__init__(f"{code} {text}".strip())
        self.code = code


class Lost(Exception):
    """Ends a lane. What was asked on it is asked again on another."""


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text, length=None):
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if b64(data) != text or length not in (None, len(data)):
        raise Refused("malformed", "base64url")
    return data


def lp(data):
    data = data if isinstance(data, bytes) else data.encode()
    return struct.pack(">H", len(data)) + data


def mac(key, data):
    return hmac.digest(key, data, "sha256")


def hkdf(ikm, salt, info):  # RFC 5869, for the 32 bytes that are always asked for
    return mac(mac(salt.encode(), ikm), info.encode() + b"\x01")


def sha256(data):
    return hashlib.sha256(data).digest()


# §2. Links and codes


def read_link(text):
    """The server's URL, the id and the secret of a link."""
    match = re.fullmatch(r"(https?://[^?#]+?)/f/([a-z2-7]{16})#([\w-]{22})", text.strip(), re.ASCII)
    if not match:
        raise Refused("malformed", "this is no link")
    return match[1], match[2], unb64(match[3], 16)


def read_code(text):
    code = re.sub(r"[\s_.-]+", "-", text.strip().lower())
    if not re.fullmatch(r"[1-9][0-9]{0,5}(-[a-z]+)+", code):
        raise Refused("malformed", "this is neither a link nor a code")
    return code.split("-", 1)


class Ristretto:
    """ristretto255 (RFC 9496) from libsodium: Debian's Python bindings of it lack these functions."""

    def __init__(self):
        self.sodium = ctypes.CDLL("libsodium.so.23")
        self.sodium.sodium_init()

    def map(self, uniform):
        point = ctypes.create_string_buffer(32)
        self.sodium.crypto_core_ristretto255_from_hash(point, uniform)
        return point.raw

    def scalar(self):
        scalar = ctypes.create_string_buffer(32)
        self.sodium.crypto_core_ristretto255_scalar_random(scalar)
        return scalar.raw

    def multiply(self, scalar, point):
        product = ctypes.create_string_buffer(32)
        if self.sodium.crypto_scalarmult_ristretto255(product, scalar, point) != 0:  # not canonical, or the identity
            raise Refused("malformed", "no element of the group")
        return product.raw


def lv_cat(*parts):
    joined = b""
    for part in parts:
        part = part if isinstance(part, bytes) else part.encode()
        length = len(part)
        while length >= 128:
            joined += bytes([length & 127 | 128])
            length >>= 7
        joined += bytes([length]) + part
    return joined


def cpace_generator(group, words, sid, ci, dsi="CPaceRistretto255"):
    zeros = bytes(max(0, 127 - len(lv_cat(words)) - len(lv_cat(dsi))))
    return group.map(hashlib.sha512(lv_cat(dsi, words, zeros, ci, sid)).digest())


def cpace_isk(sid, k, ya, yb, ada="receiver", adb="sender"):
    return hashlib.sha512(lv_cat("CPaceRistretto255_ISK", sid, k) + lv_cat(ya, ada) + lv_cat(yb, adb)).digest()


async def redeem(server, number, words):
    """Buys the link of a code from its sender: CPace, then a confirmation."""
    channel = f"fc.{number}"
    async with Signaling(server, channel, "receiver") as signaling:
        try:
            sender = await asyncio.wait_for(signaling.sender(), 5)
        except TimeoutError:
            raise Refused("code_spent", "nobody waits there")
        group, sid = Ristretto(), secrets.token_bytes(16)
        a, g = group.scalar(), cpace_generator(group, words, sid, lv_cat("madang-transfer/1", channel))
        ya = group.multiply(a, g)
        await signaling.signal(sender, {"code": {"step": 1, "sid": b64(sid), "y": b64(ya)}})

        async def reply(step):
            while True:
                try:
                    source, code = await asyncio.wait_for(signaling.codes.get(), SILENCE)
                except TimeoutError:
                    raise Refused("no_path", "no answer")
                if source == sender:
                    if "error" in code:
                        raise Refused(code["error"])
                    if code["step"] != step:
                        raise Refused("malformed", "a second step 2")
                    return code

        yb = unb64((await reply(2))["y"], 32)
        isk = cpace_isk(sid, group.multiply(a, yb), ya, yb)
        confirm = mac(hkdf(isk, "", "madang-transfer/1 confirm"), lp(ya) + lp(yb))
        await signaling.signal(sender, {"code": {"step": 3, "confirm": b64(confirm)}})
        sealed = unb64((await reply(4))["link"])
        try:
            link = json.loads(AESGCM(hkdf(isk, "", "madang-transfer/1 link")).decrypt(bytes(12), sealed, None))
        except InvalidTag:
            raise Refused("malformed", "the sealed link")
        return link["id"], unb64(link["secret"], 16)


# §3. Meeting: docs/protocol.md, without its resume


class Signaling:
    """A membership of a channel. What others signal is sorted into queues: one for each connection, one for new connections, one for codes (§2)."""

    def __init__(self, server, channel, role):
        self.server, self.channel, self.role = server, channel, role
        self.connections, self.offers, self.codes = {}, asyncio.Queue(), asyncio.Queue()
        self.peers, self.changed = {}, asyncio.Event()
        self.sent = self.received = 0

    async def __aenter__(self):
        url = urlsplit(self.server)
        node = json.load(await asyncio.to_thread(urllib.request.urlopen, self.server + "/v1/node"))
        self.socket = await websockets.connect(
            self.server.replace("http", "ws", 1) + "/v1/signal",
            subprotocols=["madang.v1"],
            origin=node.get("origin") or f"{url.scheme}://{url.netloc}",
            compression=None,
        )
        info = {"transfer": {"version": 1, "role": self.role}}
        join = {"type": "join", "version": 1, "channel": self.channel, "key": node["key"], "instance": secrets.token_urlsafe(24), "info": info}
        await self.socket.send(json.dumps(join))
        joined = json.loads(await self.socket.recv())
        if joined["type"] != "joined":
            raise Refused(joined.get("code", "malformed"), joined.get("message", ""))
        self.peers = {peer["id"]: peer for peer in joined["peers"]}
        servers = [RTCIceServer(s["urls"], s.get("username"), s.get("credential")) for s in joined["ice"]["servers"]]
        self.configuration = RTCConfiguration(servers)
        self.tasks = [asyncio.create_task(self.read()), asyncio.create_task(self.ping(joined["pingMs"] / 1000))]
        return self

    async def __aexit__(self, *_):
        for task in self.tasks:
            task.cancel()
        with contextlib.suppress(websockets.ConnectionClosed):
            await self.socket.send('{"type":"leave"}')
        await self.socket.close()

    async def read(self):
        async for text in self.socket:
            message = json.loads(text)
            if "seq" in message:
                self.received = message["seq"]
                if self.received % 32 == 0:
                    await self.socket.send(json.dumps({"type": "ack", "seq": self.received}))
            match message["type"]:
                case "peer-joined":
                    self.peers[message["peer"]["id"]] = message["peer"]
                case "peer-left":
                    self.peers.pop(message["peer"], None)
                case "signal":
                    self.sort(message["from"], message["data"])
                case "error" | "bye":  # a session could be resumed; here, what is under way goes on without
                    print(f"signaling: {message['code']}: {message['message']}", file=sys.stderr)
            self.changed.set()
            self.changed.clear()

    def sort(self, peer, data):
        if not isinstance(data, dict):
            return
        pc = data.get("pc")
        if (peer, pc) in self.connections:
            self.connections[peer, pc].put_nowait(data)
        elif isinstance(data.get("code"), dict):
            self.codes.put_nowait((peer, data["code"]))
        elif data.get("description") and sum(peer == other for other, _ in self.connections) < 16:
            self.connections[peer, pc] = asyncio.Queue()
            self.connections[peer, pc].put_nowait(data)
            self.offers.put_nowait((peer, pc))

    async def ping(self, seconds):
        while True:
            await asyncio.sleep(seconds)
            await self.socket.send(json.dumps({"type": "ping", "t": 0, "ack": self.received}))

    async def signal(self, peer, data):
        self.sent += 1
        await self.socket.send(json.dumps({"type": "signal", "seq": self.sent, "to": peer, "data": data}))

    async def sender(self):
        """The id of the peer that says that it is the sender, as soon as there is one; of several, the last to come, since one that has crashed stays listed for a while."""
        while True:
            for id, peer in reversed(self.peers.items()):
                if ((peer.get("info") or {}).get("transfer") or {}).get("role") == "sender":
                    return id
            await self.changed.wait()


# §4. Authentication


def fingerprint(sdp):
    found = set()
    for line in sdp.split("\n"):
        line = line.removesuffix("\r")
        if "\r" in line:
            raise Refused("not_authentic", "a CR inside of a line")
        if line.lstrip().lower().startswith("a=fingerprint"):
            match = re.fullmatch(r"a=fingerprint:sha-256 ([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){31})", line)
            found.add(match and bytes.fromhex(match[1].replace(":", "")))
    if len(found) != 1 or None in found:
        raise Refused("not_authentic", "no fingerprint, or several")
    return found.pop()


def only_sha256(sdp):
    """A stack may write fingerprints of other hashes, too. F must be the only one."""
    return re.sub(r"a=fingerprint:(?!sha-256 ).*\r\n", "", sdp)


class Ticket:
    def __init__(self, id, secret):
        self.id, self.key = id, hkdf(secret, "madang-transfer/1", "fingerprints")

    def offer(self, pc, f):
        return b64(mac(self.key, lp("offer") + lp(self.id) + lp(pc) + f))

    def answer(self, pc, f_offer, f_answer):
        return b64(mac(self.key, lp("answer") + lp(self.id) + lp(pc) + f_offer + f_answer))


# §5. Lanes


class Lane:
    """A WebRTC connection with its one data channel. What arrives waits in a queue, which credit bounds; the end of the lane is a None in it."""

    def __init__(self, configuration):
        self.connection = RTCPeerConnection(configuration)
        self.channel = self.connection.createDataChannel("madang.transfer", negotiated=True, id=1)
        self.channel.bufferedAmountLowThreshold = 1 << 20
        self.arrived, self.open, self.room = asyncio.Queue(), asyncio.Event(), asyncio.Event()
        self.channel.on("open", self.open.set)
        self.channel.on("bufferedamountlow", self.room.set)
        self.channel.on("message", self.arrived.put_nowait)
        self.channel.on("close", lambda: self.arrived.put_nowait(None))
        self.connection.on("connectionstatechange", self.state)

    def state(self):
        if self.connection.connectionState in ("failed", "closed"):
            self.arrived.put_nowait(None)
            self.room.set()

    async def recv(self, seconds=None):
        """The next message: an object for a text, bytes for a binary one."""
        try:
            data = await asyncio.wait_for(self.arrived.get(), seconds)
        except TimeoutError:
            raise Lost("silent")
        if data is None:
            raise Lost("ended")
        if isinstance(data, bytes):
            return data
        message = json.loads(data)
        if len(data) > 65536 or not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise Refused("malformed")
        return message

    async def send(self, data):
        while self.channel.readyState == "open" and self.channel.bufferedAmount > 2 << 20:
            self.room.clear()
            await self.room.wait()
        if self.channel.readyState == "open":  # else recv tells, after what came before the end
            self.channel.send(data)

    async def say(self, type, **members):
        await self.send(json.dumps({"type": type, **members}))

    async def hello(self, role, end, other):
        try:
            await asyncio.wait_for(self.open.wait(), SILENCE)
        except TimeoutError:
            raise Lost("never opened")
        await self.say("hello", version=1, role=role, end=end, name="transfer_peer.py")
        hello = await self.recv(SILENCE)
        if not isinstance(hello, dict) or hello["type"] != "hello" or hello.get("role") != other:
            raise Refused("malformed", "no hello")
        if hello.get("version") != 1:
            raise Refused("version_unsupported")
        return hello

    async def bye(self, code):
        """Says it, and gives the other side a while to hear it and to close the lane."""
        await self.say("bye", code=code)
        with contextlib.suppress(Lost):
            while True:
                await self.recv(2)

    async def run(self, dialog):
        try:
            try:
                return await dialog
            except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, struct.error) as e:
                raise Refused("malformed", repr(e))
        except Refused as e:
            await self.bye(e.code)
            raise
        finally:
            await self.connection.close()


async def remote(lane, signals, check):
    """Takes the other side's description, which check(sdp, mac) must find authentic, and its candidates: in the description, or after it up to an empty one. aioice begins
    with those that it has, and hardly looks at later ones; so wait for the last, but not long, since finding it may take the other side many seconds."""
    description, candidates = None, []
    while not description or "a=end-of-candidates" not in description["sdp"] and not (candidates and candidates[-1]["candidate"] == ""):
        try:
            data = await asyncio.wait_for(signals.get(), 1 if description else SILENCE)
        except TimeoutError:
            break
        if data.get("close"):
            raise Refused(data.get("code") or "cancelled", "says the other side")
        if "description" in data:
            description = data["description"]
            check(description["sdp"], data.get("mac", ""))
        candidates += data.get("candidates", [])
    if not description:
        raise Lost("no answer")
    await lane.connection.setRemoteDescription(RTCSessionDescription(**description))
    for c in candidates:
        if c["candidate"]:
            candidate = candidate_from_sdp(c["candidate"].removeprefix("candidate:"))
            candidate.sdpMid, candidate.sdpMLineIndex = c.get("sdpMid"), c.get("sdpMLineIndex")
            await lane.connection.addIceCandidate(candidate)


async def offer(signaling, ticket, peer):
    """Makes a lane to a peer."""
    lane, pc = Lane(signaling.configuration), secrets.token_urlsafe(9)
    await lane.connection.setLocalDescription(await lane.connection.createOffer())  # returns with all candidates
    sdp = only_sha256(lane.connection.localDescription.sdp)
    ours = fingerprint(sdp)

    def check(sdp, mac):
        theirs = fingerprint(sdp)
        if theirs == ours or not hmac.compare_digest(mac, ticket.answer(pc, ours, theirs)):
            raise Refused("not_authentic")

    signals = signaling.connections[peer, pc] = asyncio.Queue()
    await signaling.signal(peer, {"pc": pc, "description": {"type": "offer", "sdp": sdp}, "mac": ticket.offer(pc, ours)})
    try:
        await remote(lane, signals, check)
    except BaseException:
        await lane.connection.close()
        raise
    return lane


async def answer(signaling, ticket, peer, pc):
    """Takes a lane that a peer offers."""
    lane, theirs = Lane(signaling.configuration), b""

    def check(sdp, mac):  # an offer with a fingerprint of ours could only be an answer of ours, whose mac is another
        nonlocal theirs
        theirs = fingerprint(sdp)
        if not hmac.compare_digest(mac, ticket.offer(pc, theirs)):
            raise Refused("not_authentic")

    try:
        await remote(lane, signaling.connections[peer, pc], check)
        await lane.connection.setLocalDescription(await lane.connection.createAnswer())
        sdp = only_sha256(lane.connection.localDescription.sdp)
        await signaling.signal(peer, {"pc": pc, "description": {"type": "answer", "sdp": sdp}, "mac": ticket.answer(pc, theirs, fingerprint(sdp))})
    except BaseException as e:
        await lane.connection.close()
        if isinstance(e, Refused):
            await signaling.signal(peer, {"pc": pc, "close": True, "code": e.code})
        raise
    return lane


# §7. Files, blocks, hashes


def tree(hashes):
    if len(hashes) < 2:
        return hashes[0] if hashes else sha256(b"")
    k = 1 << (len(hashes) - 1).bit_length() - 1
    return sha256(b"\1" + tree(hashes[:k]) + tree(hashes[k:]))


def file_root(size, hashes):
    return sha256(b"\2" + struct.pack(">Q", size) + tree(hashes))


def manifest_root(entries, roots):
    """Of entries that have a size each, also where it was null at first, and the roots of their files."""

    def leaf(entry, root):
        path = entry["path"].encode()
        mode, root = (1 << 31, bytes(32)) if entry.get("dir") else (entry.get("mode", 0), root)
        return sha256(struct.pack(">I", len(path)) + path + struct.pack(">QqI", entry.get("size", 0), entry.get("mtimeMs", 0), mode) + root)

    return sha256(b"\3" + struct.pack(">Q", len(entries)) + tree([leaf(*each) for each in zip(entries, roots)]))


PART = struct.Struct(">B3xIIII32s")
PIECE = 65536 - PART.size


def components(path):
    """The parts of a path that may be written (§11)."""
    parts = path.split("/")
    if len(path.encode()) > 4096 or any(part in ("", ".", "..") or "\0" in part or len(part.encode()) > 255 for part in parts):
        raise Refused("path_unsafe", repr(path))
    return parts


# §8. Receiving


class Incoming:
    """A file on its way: written to `partial` until all of it is verified."""

    def __init__(self, size, partial):
        self.size, self.partial, self.hashes, self.done = size, partial, {}, False

    def blocks(self):
        return None if self.size is None else -(-self.size // BLOCK)

    def whole(self):
        return len(self.hashes) == self.blocks()


class Receiver:
    """What survives a lane: the manifest, the user's word, and the blocks that are here."""

    def __init__(self, folder, partials):
        self.folder, self.partials, self.end = folder, partials, b64(secrets.token_bytes(16))
        self.entries, self.files, self.roots, self.failed = [], {}, {}, {}
        self.agreed, self.bytes = False, 0

    async def fetch(self, lane):
        """Gets all that is missing over one lane, up to the sender's last word."""
        asked, partial, listed, told = set(), None, 0, 0
        missing = self.missing()
        await lane.hello("receiver", self.end, "sender")
        await lane.say("get-manifest", **{"from": 0})
        while True:
            message = await lane.recv(SILENCE if asked else None)
            if isinstance(message, bytes):
                partial = self.part(message, partial, asked)
                if partial is None:  # a block is whole
                    file = PART.unpack_from(message)[1]
                    if self.files[file].whole():
                        await lane.say("get-root", file=file)
                    if time.monotonic() >= told + 1:
                        told = time.monotonic()
                        await lane.say("progress", bytes=self.bytes)
                    await self.want(lane, missing, asked)
                continue
            match message["type"]:
                case "manifest" if message["from"] > listed:
                    await lane.say("get-manifest", **{"from": listed})
                case "manifest":
                    self.list(message["from"], message.get("entries", []))
                    listed = max(listed, message["from"] + len(message.get("entries", [])))
                    if message.get("last"):
                        if not self.agreed and not await self.ask():
                            raise Refused("declined")
                        self.agreed = True
                        await lane.say("accept", gives=False)
                case "accepted":
                    for file, incoming in self.files.items():
                        if incoming.whole() and not incoming.done:
                            await lane.say("get-root", file=file)
                    await self.want(lane, missing, asked)
                    await self.finish(lane)
                case "size":  # of a stream: what was asked beyond its end is void
                    self.files[message["file"]].size = message["size"]
                    beyond = self.files[message["file"]].blocks()
                    asked -= {(file, block) for file, block in asked if file == message["file"] and block >= beyond}
                    if self.files[message["file"]].whole():
                        await lane.say("get-root", file=message["file"])
                    await self.want(lane, missing, asked)
                case "root" if "file" in message:
                    self.name(message["file"], unb64(message["root"], 32))
                    await self.finish(lane)
                case "root":
                    entries = [e if e.get("dir") else e | {"size": self.files[i].size} for i, e in enumerate(self.entries)]
                    if unb64(message["root"], 32) != manifest_root(entries, [self.roots.get(i) for i in range(len(entries))]):
                        raise Refused("corrupt", "the manifest's root")
                    await lane.say("complete")
                case "failed":
                    self.failed[message["file"]] = message["code"]
                    self.files.pop(message["file"])
                    asked -= {(file, block) for file, block in asked if file == message["file"]}
                    await self.want(lane, missing, asked)
                    await self.finish(lane)
                case "pause":
                    print("the sender pauses" if message["on"] else "the sender goes on", file=sys.stderr)
                case "bye" if message["code"] == "done" and self.finished():
                    return
                case "bye":
                    raise Refused(message["code"], "says the sender")

    def list(self, first, entries):
        for i, entry in enumerate(entries, first):
            if i < len(self.entries):
                if entry != self.entries[i]:
                    raise Refused("source_changed", "another manifest")
                continue
            components(entry["path"])
            size = entry["size"] if not entry.get("dir") else 0
            if size is not None and not 0 <= size <= 1 << 44 or not 0 <= entry.get("mode", 0) <= 0o777 or i == 1_000_000:
                raise Refused("malformed", "an entry of the manifest")
            self.entries.append(entry)
            if not entry.get("dir"):
                self.files[i] = Incoming(size, os.path.join(self.partials, str(i)))
                open(self.files[i].partial, "x").close()
        if len({entry["path"] for entry in self.entries}) < len(self.entries):
            raise Refused("path_unsafe", "two files of one name")

    async def ask(self):
        for entry in self.entries:
            print(f"{entry.get('size', 'folder')!s:>14} {entry['path']!a}")
        print("receive these? [y/N]", flush=True)
        return (await asyncio.to_thread(sys.stdin.readline)).lower().startswith("y")

    def missing(self):
        for file, incoming in list(self.files.items()):
            block = 0
            while file in self.files and (incoming.size is None or block < incoming.blocks()):
                if block not in incoming.hashes:
                    yield file, block
                block += 1

    async def want(self, lane, missing, asked):
        if len(asked) <= CREDIT // 2:
            blocks = list(itertools.islice(missing, CREDIT - len(asked)))
            asked.update(blocks)
            if blocks:
                await lane.say("want", blocks=[[file, block, 1] for file, block in blocks])

    def part(self, message, before, asked):
        """Takes a part, after those before it in its block. None: the block is whole, verified and written."""
        kind, file, block, length, offset, sha = PART.unpack_from(message)
        head, content = before or ((file, block, length, sha), b"")
        if kind != 1 or head != (file, block, length, sha) or offset != len(content) or (file, block) not in asked:
            raise Refused("malformed", "a part that does not follow")
        content += message[PART.size :]
        if len(content) < length:
            return head, content
        incoming = self.files[file]
        if len(content) > length or length > BLOCK or incoming.size is not None and length != min(BLOCK, incoming.size - block * BLOCK):
            raise Refused("malformed", "the length of a block")
        if sha256(content) != sha:
            raise Refused("corrupt", f"block {block} of {self.entries[file]['path']!a}")
        with open(incoming.partial, "r+b") as partial:
            partial.seek(block * BLOCK)
            partial.write(content)
        incoming.hashes[block] = sha
        asked.discard((file, block))
        self.bytes += length
        return None

    def name(self, file, root):
        """Compares the root of a file, and gives the file its final name (§11): in the user's folder, through no symbolic link, in place of nothing."""
        incoming, entry = self.files[file], self.entries[file]
        if root != file_root(incoming.size, [incoming.hashes[block] for block in range(incoming.blocks())]):
            raise Refused("corrupt", f"the root of {entry['path']!a}")
        os.chmod(incoming.partial, entry.get("mode", 0o644))
        if "mtimeMs" in entry:
            os.utime(incoming.partial, ns=(entry["mtimeMs"] * 1_000_000,) * 2)
        *folders, name = components(entry["path"])
        stem, extension = os.path.splitext(name)
        folder = self.enter(folders)
        try:
            for n in itertools.count(2):
                try:
                    os.link(incoming.partial, name, dst_dir_fd=folder)
                    break
                except FileExistsError:
                    name = f"{stem} ({n}){extension}"
        finally:
            os.close(folder)
        self.roots[file], incoming.done = root, True

    def enter(self, folders):
        at = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        for name in folders:
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=at)
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            except OSError as e:
                raise Refused("conflict", f"{name!a}: {e.strerror}")
            finally:
                os.close(at)
            at = inner
        return at

    def finished(self):
        return all(incoming.done for incoming in self.files.values())

    async def finish(self, lane):
        if not self.finished():
            return
        for entry in self.entries:
            if entry.get("dir"):
                os.close(self.enter(components(entry["path"])))
        if self.failed:
            await lane.say("complete")
        else:
            await lane.say("get-root")


async def receive(arguments):
    try:
        server, id, secret = read_link(arguments.link)
    except Refused:
        server = arguments.server.rstrip("/")
        id, secret = await redeem(server, *read_code(arguments.link))
    ticket = Ticket(id, secret)
    os.makedirs(arguments.folder, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".transfer-", dir=arguments.folder) as partials:
        receiver = Receiver(arguments.folder, partials)
        async with Signaling(server, "f." + id, "receiver") as signaling:
            while True:
                try:
                    lane = await offer(signaling, ticket, await signaling.sender())
                    await lane.run(receiver.fetch(lane))
                    break
                except Lost as e:
                    print(f"a lane is lost ({e}), another is made", file=sys.stderr)
    if receiver.failed:
        raise Refused(*next((code, receiver.entries[file]["path"]) for file, code in receiver.failed.items()))


# §9. Sending


class Outgoing:
    def __init__(self, source, status):
        self.source, self.status, self.hashes = source, status, {}

    def read(self, block):
        """A block and its hash, of a file that is still what the manifest says."""
        try:
            with open(self.source, "rb") as file:
                status = os.fstat(file.fileno())
                file.seek(block * BLOCK)
                content = file.read(BLOCK)
        except OSError as e:
            raise Refused("source_unreadable", e.strerror)
        if (status.st_size, status.st_mtime_ns) != (self.status.st_size, self.status.st_mtime_ns):
            raise Refused("source_changed")
        self.hashes[block] = sha256(content)
        return content, self.hashes[block]

    def root(self):
        for block in range(-(-self.status.st_size // BLOCK)):
            if block not in self.hashes:
                self.read(block)
        return file_root(self.status.st_size, [self.hashes[block] for block in sorted(self.hashes)])


class Sender:
    def __init__(self, paths):
        self.end, self.taker, self.done = b64(secrets.token_bytes(16)), None, asyncio.get_running_loop().create_future()
        self.entries, self.files = [], []
        for path in paths:
            self.add(path, os.path.basename(os.path.abspath(path)))
        if len({entry["path"] for entry in self.entries}) < len(self.entries):
            raise Refused("malformed", "two files of one name")

    def add(self, source, path):
        status = os.lstat(source)
        entry = {"path": re.sub("[\udc80-\udcff]", "\ufffd", path)}
        if stat.S_ISDIR(status.st_mode):
            names = sorted(os.listdir(source))
            for name in names:
                self.add(os.path.join(source, name), f"{path}/{name}")
            if names:
                return
            entry |= {"dir": True}
        elif stat.S_ISREG(status.st_mode):
            entry |= {"size": status.st_size, "mtimeMs": status.st_mtime_ns // 1_000_000, "mode": status.st_mode & 0o777}
        else:
            return
        self.entries.append(entry)
        self.files.append(Outgoing(source, status))

    def pages(self, first):
        """The manifest from an entry on, in messages of at most 64 KiB."""
        page, size = [], 0
        for i in range(first, len(self.entries)):
            length = len(json.dumps(self.entries[i]))
            if size + length > 60000:
                yield {"from": i - len(page), "entries": page}
                page, size = [], 0
            page.append(self.entries[i])
            size += length + 2
        yield {"from": len(self.entries) - len(page), "entries": page, "last": True, "bytes": sum(entry.get("size", 0) for entry in self.entries)}

    async def serve(self, lane):
        """Answers all that is asked on one lane."""
        end = (await lane.hello("sender", self.end, "receiver"))["end"]
        wanted = asyncio.Queue()
        giving = asyncio.create_task(self.give(lane, wanted))
        try:
            while True:
                reading = asyncio.create_task(lane.recv())
                await asyncio.wait({reading, giving}, return_when=asyncio.FIRST_COMPLETED)
                if giving.done():
                    reading.cancel()
                    giving.result()
                if await self.reply(lane, end, wanted, await reading):
                    return
        finally:
            giving.cancel()

    async def reply(self, lane, end, wanted, message):
        """Answers one message. True: it was the last one."""
        if isinstance(message, bytes):
            raise Refused("malformed", "a block from a receiver")
        type = message["type"]
        if type in ("want", "get-root", "get-hashes", "complete") and end != self.taker:
            raise Refused("not_accepted")
        match type:
            case "get-manifest":
                for page in self.pages(message["from"]):
                    await lane.say("manifest", **page)
            case "accept":
                if end != (self.taker or end):
                    raise Refused("transfer_taken")
                self.taker = end
                await lane.say("accepted", alone=True)
            case "want":
                for file, first, count in message["blocks"]:
                    if count > 1024:
                        raise Refused("credit_exceeded")
                    for block in range(first, first + count):
                        wanted.put_nowait((file, block))
                if wanted.qsize() > 1024:
                    raise Refused("credit_exceeded")
            case "unwant":
                left = [wanted.get_nowait() for _ in range(wanted.qsize())]
                for each in [each for each in left if each is None] + [None]:  # unwanted is said where it was asked for
                    wanted.put_nowait(each)
            case "get-root":
                try:
                    if "file" in message:
                        root = await asyncio.to_thread(self.files[message["file"]].root)
                        await lane.say("root", file=message["file"], root=b64(root))
                    else:
                        roots = [None if e.get("dir") else await asyncio.to_thread(f.root) for e, f in zip(self.entries, self.files)]
                        await lane.say("root", root=b64(manifest_root(self.entries, roots)))
                except Refused as e:
                    if "file" in message:
                        await lane.say("failed", file=message["file"], code=e.code)
            case "get-hashes":
                file, first, hashes = message["file"], message["first"], b""
                for block in range(first, first + min(message["count"], 2000)):
                    if block not in self.files[file].hashes:
                        break
                    hashes += self.files[file].hashes[block]
                await lane.send(struct.pack(">B3xII", 2, file, first) + hashes)
            case "complete":
                await lane.bye("done")
                self.over("done")
                return True
            case "bye":
                if end == self.taker and message["code"] in ("cancelled", "declined"):
                    self.over(message["code"])
                return True
        return False

    def over(self, code):
        if not self.done.done():
            self.done.set_result(code)

    async def give(self, lane, wanted):
        """Sends the blocks that are wanted, one after the other; None stands for `unwanted`."""
        while True:
            item = await wanted.get()
            if item is None:
                await lane.say("unwanted")
                continue
            file, block = item
            try:
                content, sha = await asyncio.to_thread(self.files[file].read, block)
            except Refused as e:
                await lane.say("failed", file=file, code=e.code)
                continue
            for offset in range(0, len(content), PIECE):
                await lane.send(PART.pack(1, file, block, len(content), offset, sha) + content[offset : offset + PIECE])


async def send(arguments):
    sender, server = Sender(arguments.paths), arguments.server.rstrip("/")
    id, secret = base64.b32encode(secrets.token_bytes(10)).decode().lower(), secrets.token_bytes(16)
    ticket = Ticket(id, secret)
    async with Signaling(server, "f." + id, "sender") as signaling:
        print(f"{server}/f/{id}#{b64(secret)}", flush=True)

        async def serve(peer, pc):
            try:
                lane = await answer(signaling, ticket, peer, pc)
                await lane.run(sender.serve(lane))
            except (Lost, Refused) as e:  # ends the lane alone: who has not accepted stops nobody, and a receiver makes another
                print(f"a lane is lost ({e})", file=sys.stderr)
            del signaling.connections[peer, pc]

        async def listen(lanes):
            while True:
                lanes.create_task(serve(*await signaling.offers.get()))

        async with asyncio.TaskGroup() as lanes:
            listening = lanes.create_task(listen(lanes))
            code = await sender.done
            listening.cancel()
    if code != "done":
        raise Refused(code, "says the receiver")


async def main():
    parser = argparse.ArgumentParser(description="Sends and receives files over a Madang server.")
    commands = parser.add_subparsers(required=True)
    sending = commands.add_parser("send")
    sending.add_argument("--server", required=True)
    sending.add_argument("paths", nargs="+")
    sending.set_defaults(run=send)
    receiving = commands.add_parser("receive")
    receiving.add_argument("--server", help="where a code is redeemed", default="http://localhost:8080")
    receiving.add_argument("link", help="or a code")
    receiving.add_argument("folder")
    receiving.set_defaults(run=receive)
    arguments = parser.parse_args()
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # aioice lets go of tasks, and the loop would print each channel bind that the relay refuses
    try:
        await arguments.run(arguments)
    except Refused as e:
        sys.exit(f"error: {e}")


if __name__ == "__main__":
    asyncio.run(main())
