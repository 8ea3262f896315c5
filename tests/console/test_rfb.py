"""The first words of RFB on the browser's side, and telling a person's doing from the page's."""

from __future__ import annotations

import asyncio
import struct

import pytest

from izvor_project.console.rfb import InputWatch, NotRfb, welcome
from proxmox.rfb import Reader

UPDATE_REQUEST = struct.pack(">BBHHHH", 3, 1, 0, 0, 640, 360)
KEY = struct.pack(">BBxxI", 4, 1, ord("a"))
POINTER = struct.pack(">BBHH", 5, 0, 10, 10)
PAGES_OWN = [
    struct.pack(">Bxxx16x", 0),  # SetPixelFormat
    struct.pack(">BxHiii", 2, 3, 0, 1, -223),  # SetEncodings
    UPDATE_REQUEST,
    struct.pack(">BBHHHH", 150, 1, 0, 0, 640, 360),
    struct.pack(">BxxxIB", 248, 0, 3) + b"abc",
    struct.pack(">BxHHBx", 251, 640, 360, 1) + bytes(16),
]
BY_A_PERSON = [
    KEY,
    POINTER,
    struct.pack(">BBHHB", 5, 0x81, 10, 10, 1),  # with more than seven buttons
    struct.pack(">BxxxI", 6, 5) + b"paste",
    struct.pack(">Bxxxi", 6, -9) + bytes(9),  # the longer kind of clipboard
    struct.pack(">BBHII", 255, 0, 1, ord("a"), 30),
]


def watching(*messages: bytes, size: int = 0) -> list[bool]:
    """What it says to each piece, ClientInit before them; in pieces of `size`, or as they are."""
    watch = InputWatch()
    assert not watch.sees_input(b"\1")
    stream = b"".join(messages)
    pieces = (
        [stream[at : at + size] for at in range(0, len(stream), size)] if size else list(messages)
    )
    return [watch.sees_input(piece) for piece in pieces]


def test_what_the_page_sends_by_itself_is_nobodys_doing():
    assert watching(*PAGES_OWN * 3) == [False] * 18


@pytest.mark.parametrize("message", BY_A_PERSON)
def test_keys_pointer_and_clipboard_are_a_persons(message):
    assert watching(UPDATE_REQUEST, message, UPDATE_REQUEST) == [False, True, False]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
def test_messages_may_be_cut_and_joined_anywhere(size):
    everything = [part for pair in zip(PAGES_OWN, BY_A_PERSON, strict=True) for part in pair]
    assert sum(watching(*everything, size=1)) == len(BY_A_PERSON)
    assert any(watching(*everything, size=size))
    assert not any(watching(*PAGES_OWN * 4, size=size))


def test_the_clientinit_may_come_with_the_next_message():
    assert InputWatch().sees_input(b"\1" + KEY)
    assert not InputWatch().sees_input(b"\1" + UPDATE_REQUEST)


@pytest.mark.parametrize("unknown", [b"\x77", b"\xff\1"])
def test_what_it_cannot_follow_counts_from_there_on(unknown):
    assert watching(UPDATE_REQUEST, unknown, UPDATE_REQUEST) == [False, True, True]


def talk(*messages: bytes) -> list[bytes]:
    """What is answered to these."""
    coming = iter(messages)
    sent: list[bytes] = []

    async def receive() -> bytes:
        return next(coming)

    async def send(data: bytes) -> None:
        sent.append(data)

    asyncio.run(welcome(Reader(receive), send))
    return sent


def test_the_browser_is_let_in_without_a_password():
    answers = [b"RFB 003.008\n", b"\1\1", b"\0\0\0\0"]
    assert talk(b"RFB 003.008\n", b"\1") == answers
    assert talk(b"RFB 00", b"3.008\n\1") == answers


@pytest.mark.parametrize("words", [[b"RFB 003.003\n"], [b"GET / HTTP/1.1"], [b"RFB 003.008\n\2"]])
def test_anything_else_is_shown_the_door(words):
    with pytest.raises(NotRfb):
        talk(*words)
