"""`pgreserve hash-password` on a terminal: nobody who looks over a shoulder reads along.

A user would lose: the password, to whoever sees the screen or its scrollback.
"""

import base64
import hashlib
import hmac
import os
import pty
import subprocess
import termios

import pytest

from proxy import binary_path
from waiting import wait_until


def echoes(terminal):
    return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)


def test_a_terminal_shows_nothing_of_it_and_is_left_as_it_was():
    ours, theirs = pty.openpty()
    try:
        assert echoes(theirs)
        asking = subprocess.Popen([binary_path(), "hash-password"], stdin=theirs, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True)
        wait_until(lambda: not echoes(theirs), "the question")
        os.write(ours, b"hushed word\n")
        verifier, asked = asking.communicate(timeout=30)
        assert asking.returncode == 0 and verifier.startswith("SCRAM-SHA-256$")
        assert asked.startswith("Password: ") and "hushed" not in asked
        assert echoes(theirs), "the terminal is as it was"
        os.set_blocking(ours, False)
        try:
            assert b"hushed" not in os.read(ours, 1000)
        except BlockingIOError:
            pass  # nothing was shown at all
    finally:
        os.close(ours)
        os.close(theirs)


def test_no_password_is_an_error():
    for said in ("", "\n"):
        done = subprocess.run([binary_path(), "hash-password"], input=said, capture_output=True, text=True, timeout=30)
        assert done.returncode == 1 and done.stdout == "" and "no password" in done.stderr


def is_verifier_of(verifier, password):
    """By RFC 5803, from the password itself."""
    rounds, salt, keys = verifier.removeprefix("SCRAM-SHA-256$").strip().replace("$", ":", 1).split(":", 2)
    salted = hashlib.pbkdf2_hmac("sha256", password, base64.b64decode(salt), int(rounds))
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return base64.b64decode(keys.split(":")[0]) == stored


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
@pytest.mark.parametrize("password", [b"x", b"a" * 1023, b"a" * 2000, b"b" * 100_000, b"with\rin it"], ids=lambda it: str(len(it)))
def test_the_whole_of_it_counts(password, end):
    done = subprocess.run([binary_path(), "hash-password"], input=password + end, capture_output=True, timeout=30)
    assert done.returncode == 0 and is_verifier_of(done.stdout.decode(), password), done


def test_what_no_client_can_send_is_refused():
    done = subprocess.run([binary_path(), "hash-password"], input=b"one\0two\n", capture_output=True, timeout=30)
    assert done.returncode == 1 and done.stdout == b"" and b"zero byte" in done.stderr
