"""Before several processes become one run: each says which it is, and all are there.

JAX's own start aborts the interpreter, after two minutes and with a C++ stack, where a process does
not come or two have the same number; here that is one sentence in every process.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from jaxep.run.errors import Interrupted, PeerError, reason

# How long the first processes of a run wait for the last one.
SECONDS = 120
# How often a process that waits looks whether it is asked to stop.
_PAUSE = 0.2
_GREETING, _WELCOME = "jaxep", "all are there"
Stop = Callable[[], bool]


def meet(
    address: str,
    process: int,
    processes: int,
    *,
    seconds: float = SECONDS,
    stop: Stop = lambda: False,
) -> None:
    """Returns in each of `processes` processes once all of them are there.

    Args:
      address: HOST:PORT, where process 0 listens until then.
      process: number of this one, from 0.
      processes: how many there are.
      seconds: how long to wait for the others.
      stop: asked while it waits.

    Raises:
      PeerError: a process did not come, two have one number, or two different numbers of processes.
      Interrupted: `stop` said so.
    """
    until = time.monotonic() + seconds

    def waiting() -> bool:
        if stop():
            raise Interrupted("the processes had not met yet, nothing was trained")
        return time.monotonic() < until

    if process == 0:
        _host(address, processes, seconds, waiting)
    else:
        _visit(address, f"{_GREETING} {process} {processes}", seconds, waiting)


def _host(address: str, processes: int, seconds: float, waiting: Stop) -> None:
    """Process 0: waits for the others, and tells all of them how it ended."""
    guests: dict[int, socket.socket] = {}
    with _listener(address) as listener:
        try:
            while len(guests) < processes - 1:
                if not waiting():
                    absent = [str(n) for n in range(1, processes) if n not in guests]
                    raise PeerError(
                        f"--num_processes {processes}: of process {', '.join(absent)} nothing was "
                        f"heard within {seconds:.0f} s"
                    )
                _admit(listener, guests, processes)
        except (PeerError, Interrupted) as error:
            for guest in guests.values():
                _answer(guest, str(error))
            raise
    for guest in guests.values():
        _answer(guest, _WELCOME)


def _listener(address: str) -> socket.socket:
    port = int(address.rpartition(":")[2])
    try:
        if socket.has_dualstack_ipv6():
            listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            listener = socket.create_server(("", port))
    except (OSError, OverflowError) as error:  # the second: no such port
        number = getattr(error, "errno", None)
        why = os.strerror(number) if number else reason(error)
        raise PeerError(
            f"--coordinator {address}: process 0 cannot listen there ({why}); is another process "
            "with --process_id 0 there, or another program?"
        ) from error
    listener.settimeout(_PAUSE)
    return listener


def _admit(listener: socket.socket, guests: dict[int, socket.socket], processes: int) -> None:
    """Takes in who knocks next; what is not of this library is sent away."""
    try:
        guest, _ = listener.accept()
    except TimeoutError:
        return
    guest.settimeout(10)
    try:
        name, number, count = guest.recv(64).decode().split()
        if name != _GREETING:
            raise ValueError
        process, total = int(number), int(count)
    except (OSError, ValueError):
        guest.close()
        return
    wrong = None
    if total != processes:
        wrong = f"--num_processes is {processes} in process 0, {total} in process {process}"
    elif process in guests and not _has_left(guests[process]):
        wrong = f"--process_id {process} was given to two processes"
    if wrong:
        _answer(guest, wrong)
        raise PeerError(wrong)
    guests[process] = guest


def _has_left(guest: socket.socket) -> bool:
    """Whether a process that waits is gone: it may have been started again."""
    guest.settimeout(0)
    try:
        return guest.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        guest.settimeout(10)


def _answer(guest: socket.socket, text: str) -> None:
    """Says a sentence and waits for the other to hang up, so that the port is free at once."""
    with guest, suppress(OSError):
        guest.sendall(text.encode())
        guest.shutdown(socket.SHUT_WR)
        guest.recv(1)


def _visit(address: str, greeting: str, seconds: float, waiting: Stop) -> None:
    """Any other process: finds process 0 and waits for its word."""
    host, _, port = address.rpartition(":")
    problem = ""
    while waiting():
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=5) as server:
                server.sendall(greeting.encode())
                server.settimeout(_PAUSE)
                # Its patience ends later than that of this process, which came before it.
                answer = _hear(server, waiting, time.monotonic() + 2 * seconds)
        except (OSError, OverflowError) as error:
            problem = f" ({reason(error)})"
            time.sleep(_PAUSE)
            continue
        if answer == _WELCOME:
            return
        if answer:
            raise PeerError(answer)
        # Process 0 has died, or what answers there is no meeting.
        problem = " (it hung up)"
        time.sleep(_PAUSE)
    raise PeerError(
        f"--coordinator {address}: process 0 was not met there within {seconds:.0f} s{problem}"
    )


def _hear(server: socket.socket, waiting: Stop, until: float) -> str:
    """All that is said until the other hangs up; "" where that is nothing readable."""
    heard = b""
    while time.monotonic() < until:
        waiting()  # it may raise
        try:
            more = server.recv(1024)
        except TimeoutError:
            continue
        if not more:
            break
        heard += more
    text = heard.decode(errors="replace")
    return text if text.isprintable() else ""
