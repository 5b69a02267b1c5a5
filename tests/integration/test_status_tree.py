"""`pgreserve status` as people see it: the tree, its colours, the watch in a terminal, and where it asks.

A user would lose: the one look that says how it stands, or a terminal that is usable afterwards.
"""

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import threading
import time

import pytest

from proxy import binary_path
from waiting import wait_until

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
UTF8 = {"LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}


class Terminal:
    """A command in a pseudo terminal; `text` is all that it has written."""

    def __init__(self, command, environment, rows=30, columns=100):
        self.text = ""
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.execve(command[0], command, environment)
        self.resize(rows, columns)

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        """What has come since; False at its end."""
        try:
            if select.select([self.master], [], [], 0.05)[0]:
                self.text += os.read(self.master, 65536).decode()
            return True
        except OSError:
            return False

    def wait_for(self, condition, what):
        wait_until(lambda: self.read() is not None and condition(self.text), what)

    def press(self, keys):
        os.write(self.master, keys.encode())

    def end(self):
        """Its exit status, with everything that it wrote read."""
        wait_until(lambda: not self.read(), "its end")
        os.close(self.master)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def watch(proxy, *arguments, **environment):
    return Terminal([binary_path(), "status", "--watch=0.1", "-c", proxy.config_path, *arguments],
                    {**proxy.environment, **UTF8, **environment})


def screen_of(text, rows=30):
    """What stands on the alternate screen at the end of `text`: enough of a terminal for what we send."""
    lines, row = [""] * rows, 0
    text = text[text.rindex(ENTER) + len(ENTER):]
    for piece in re.findall(r"\x1b\[\??[0-9;]*[A-Za-z]|\r\n|[^\x1b\r\n]+", text):
        if piece == "\x1b[H":
            row, lines[0] = 0, ""
        elif piece == "\r\n":
            row += 1
            assert row < rows, "it scrolled"
            lines[row] = ""
        elif piece == "\x1b[J":
            lines[row + 1:] = [""] * (rows - row - 1)
        elif not piece.startswith("\x1b"):
            lines[row] += piece
    return "\n".join(lines)


def test_the_watch_redraws_in_place_and_leaves_the_terminal_clean(proxy):
    proxy.wait_warm()
    terminal = watch(proxy)
    terminal.wait_for(lambda text: text.count("automation: ") >= 3, "three drawings")
    assert terminal.text.count(ENTER) == 1, "one screen, redrawn"
    (holder,) = proxy.hold()
    terminal.wait_for(lambda text: "in_use 1" in screen_of(text), "the new figure")
    terminal.wait_for(lambda text: re.search(r"in_use  ▁+▂", screen_of(text)), "the history line")
    holder.close()
    terminal.press("\x03")
    assert terminal.end() in (0, 1)
    assert terminal.text.endswith(LEAVE), repr(terminal.text[-60:])
    for on, off in (("\x1b[?25l", "\x1b[?25h"), ("\x1b[?7l", "\x1b[?7h"), (ENTER, LEAVE)):
        assert terminal.text.count(on) == terminal.text.count(off) == 1
    assert terminal.text.rindex("\x1b[0m") > terminal.text.rindex("\x1b[3"), "colours are off"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_however_it_is_ended_the_terminal_is_clean(proxy, number):
    terminal = watch(proxy)
    terminal.wait_for(lambda text: "total" in text, "a drawing")
    os.kill(terminal.pid, number)
    assert terminal.end() in (0, 1)
    assert terminal.text.endswith(LEAVE)


def test_stopped_by_ctrl_z_it_gives_the_terminal_back(proxy):
    terminal = watch(proxy)
    terminal.wait_for(lambda text: "total" in text, "a drawing")
    terminal.press("\x1a")
    terminal.wait_for(lambda text: text.endswith(LEAVE), "the terminal back")
    wait_until(lambda: process_state(terminal.pid) == "T", "it to be stopped")
    os.kill(terminal.pid, signal.SIGCONT)
    terminal.wait_for(lambda text: text.count(ENTER) == 2 and "total" in screen_of(text), "another drawing")
    terminal.press("\x03")
    assert terminal.end() in (0, 1) and terminal.text.endswith(LEAVE)


def process_state(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0]


def test_a_small_terminal_shows_the_top(proxy):
    terminal = watch(proxy)
    terminal.wait_for(lambda text: ENTER in text and "total" in screen_of(text), "a drawing")
    terminal.resize(5, 40)
    terminal.wait_for(lambda text: text.split("\x1b[H")[-2].count("\r\n") == 4, "five lines")
    frame = terminal.text.split("\x1b[H")[-2]
    assert "pgreserve" in frame and "automation" in frame and "total:" not in frame
    terminal.press("\x03")
    terminal.end()


def test_the_watch_survives_a_restart_of_the_daemon(proxy):
    terminal = watch(proxy)
    terminal.wait_for(lambda text: "total" in text, "a drawing")
    proxy.stop()
    terminal.wait_for(lambda text: "cannot be reached" in screen_of(text), "word of it")
    proxy.start()
    terminal.wait_for(lambda text: "cannot be reached" not in screen_of(text) and
                      "automation" in screen_of(text), "the tree again")
    terminal.press("\x03")
    assert terminal.end() in (0, 1)


def test_colours_only_on_a_terminal_and_not_with_no_color(proxy):
    proxy.wait_warm()
    command = [binary_path(), "status", "-c", proxy.config_path]
    plain = proxy.command("status", "-c", proxy.config_path, environment=UTF8)
    assert "├─ automation: healthy" in plain.stdout and "\x1b" not in plain.stdout
    for environment, is_coloured in ((UTF8, True), ({**UTF8, "NO_COLOR": "1"}, False),
                                     ({**UTF8, "TERM": "dumb"}, False)):
        terminal = Terminal(command, {**proxy.environment, **environment})
        assert terminal.end() == 0
        assert ("\x1b[32mhealthy\x1b[0m" in terminal.text) == is_coloured, environment
        assert ("\x1b" in terminal.text) == is_coloured


def test_ascii_on_request_and_where_the_locale_is_not_utf8(proxy):
    asked = proxy.command("status", "--ascii", "-c", proxy.config_path, environment=UTF8)
    other = proxy.command("status", "-c", proxy.config_path, environment={"LC_ALL": "C"})
    for done in (asked, other):
        assert done.stdout.isascii() and "|- automation: healthy" in done.stdout


def test_tree_and_json_agree(proxy):
    proxy.wait_warm()
    tree = proxy.command("status", "-c", proxy.config_path).stdout
    figures = json.loads(proxy.command("status", "--json", "-c", proxy.config_path).stdout)["total"]
    assert f"total_possible {figures['total_possible']}, reserved {figures['reserved']}" in tree
    assert f"in_use {figures['in_use']}, available {figures['available']}" in tree


# -- where it asks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["*", "0.0.0.0", "127.0.0.1", "localhost"])
def test_wildcard_listeners_are_asked_on_loopback(start_proxy, host):
    proxy = start_proxy()
    port = proxy.ports["http"]
    proxy.change(admin={"http": f"{host}:{port}"})
    proxy.write_config()
    done = proxy.command("status", "--json", "-c", proxy.config_path)
    assert done.returncode == 0 and json.loads(done.stdout)["state"] == "healthy", done


def test_the_consoles_unix_socket_answers_when_there_is_no_http(start_proxy, tmp_path):
    """The same user needs no password there."""
    proxy = start_proxy(wait=None)
    proxy.change(admin={"listen": f"127.0.0.1:{proxy.ports['admin']}, unix:{tmp_path}"})
    proxy.write_config()
    proxy.start()
    proxy.change(admin={"http": "", "listen": f"unix:{tmp_path}:{proxy.ports['admin']}"})
    proxy.write_config()
    done = proxy.command("status", "-c", proxy.config_path)
    assert done.returncode == 0 and "automation: healthy" in done.stdout, done


def test_the_console_by_url_needs_no_database_name(proxy):
    url = proxy.url("admin", database="")
    done = proxy.command("status", "--url", url.rstrip("/"))
    assert done.returncode == 0 and "automation: healthy" in done.stdout, done


@pytest.mark.parametrize("url", ["ftp://x", "nonsense", "http://", "https://127.0.0.1"])
def test_an_unusable_url_is_3_with_a_word_of_why(proxy, url):
    done = proxy.command("status", "--url", url)
    assert done.returncode == 3 and "--url" in done.stderr


@pytest.mark.parametrize("words", [["--watch=never"], ["--watch=0"], ["--watch=-1"], ["--frobnicate"]])
def test_bad_arguments_are_refused(proxy, words):
    done = proxy.command("status", *words, "-c", proxy.config_path)
    assert done.returncode == 3 and done.stderr


ANSWERS = [b"", b"SSH-2.0-x\r\n", b"HTTP/1.0 404 Not Found\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\nnot json",
           b"HTTP/1.0 200 OK\r\n\r\n[]", b'HTTP/1.0 200 OK\r\n\r\n{"pools":[1],"total":{},"state":"healthy"}',
           b'HTTP/1.0 200 OK\r\n\r\n{"pools":[],"total":3,"state":"healthy"}', b"HTTP/1.0 200 OK" * 100000]


@pytest.mark.parametrize("answer", ANSWERS)
def test_whatever_answers_there_is_not_taken_for_a_daemon(proxy, answer):
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection = server.accept()[0]
        connection.recv(4096)
        try:
            connection.sendall(answer)
        except OSError:
            pass
        connection.close()

    threading.Thread(target=serve, daemon=True).start()
    done = proxy.command("status", "--url", f"http://127.0.0.1:{server.getsockname()[1]}")
    server.close()
    assert done.returncode == 3 and "cannot be reached" in done.stderr and not done.stdout


def test_a_daemon_that_hangs_is_given_up(proxy):
    server = socket.create_server(("127.0.0.1", 0))
    started = time.monotonic()
    done = proxy.command("status", "--url", f"http://127.0.0.1:{server.getsockname()[1]}")
    assert done.returncode == 3 and time.monotonic() - started < 15
    server.close()


def test_a_watch_into_a_pipe_is_plain_text(proxy):
    watching = subprocess.Popen([binary_path(), "status", "--watch=0.1", "-c", proxy.config_path],
                                stdout=subprocess.PIPE, text=True, env={**proxy.environment, **UTF8})
    seen = ""
    while seen.count("total: ") < 2:
        seen += watching.stdout.readline()
    watching.stdout.close()
    assert watching.wait(timeout=10) is not None, "it ends when nobody reads"
    assert "\x1b" not in seen
