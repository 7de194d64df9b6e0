"""Processes that come together before a run, and those that do not."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from jaxep.meeting import meet
from jaxep.run.errors import Interrupted, PeerError


@pytest.fixture
def address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def gather(address, numbers, count, seconds=20.0, pause=0.1):
    """What `meet` returns or raises in a thread for each of `numbers`, started in this order."""

    def one(number):
        try:
            return meet(address, number, count, seconds=seconds)
        except PeerError as error:
            return str(error)

    with ThreadPoolExecutor(len(numbers)) as pool:
        futures = []
        for number in numbers:
            futures.append(pool.submit(one, number))
            time.sleep(pause)
        return [future.result() for future in futures]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_all_meet_in_any_order_and_the_port_is_free_at_once(address, order):
    assert gather(address, order, 3) == [None] * 3
    assert gather(address, order, 3) == [None] * 3


def test_one_alone_meets_itself(address):
    assert meet(address, 0, 1) is None


def test_who_does_not_come_is_named_by_all(address):
    answers = gather(address, (1, 0), 4, seconds=1.0)
    expected = "--num_processes 4: of process 2, 3 nothing was heard within 1 s"
    assert answers == [expected, expected]


def test_without_process_0_the_others_say_so(address):
    (answer,) = gather(address, (1,), 2, seconds=0.5)
    assert f"--coordinator {address}: process 0 was not met there within 0 s" in answer
    assert "Connection refused" in answer
    (answer,) = gather("no.such.host.invalid:1", (1,), 2, seconds=0.5)
    assert "process 0 was not met there" in answer


def test_two_of_one_number_are_told_to_all(address):
    began = time.monotonic()
    answers = gather(address, (0, 1, 1), 3)
    assert answers == ["--process_id 1 was given to two processes"] * 3
    answers = gather(address, (0, 0), 2, seconds=1.0)
    assert "process 0 cannot listen there (Address already in use)" in answers[1]
    assert time.monotonic() - began < 15


def test_two_numbers_of_processes_are_told_to_both(address):
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(gather, address, (0,), 3)
        second = pool.submit(gather, address, (1,), 2)
    said = "--num_processes is 3 in process 0, 2 in process 1"
    assert first.result() == second.result() == [said]


def test_one_that_was_started_again_is_let_in(address):
    with ThreadPoolExecutor(1) as pool:
        host = pool.submit(gather, address, (0,), 3)
        time.sleep(0.5)
        gone = socket.create_connection(("127.0.0.1", int(address.split(":")[1])))
        gone.sendall(b"jaxep 1 3")
        time.sleep(0.5)
        gone.close()
        assert gather(address, (1, 2), 3) == [None, None]
    assert host.result() == [None]


def test_strangers_are_sent_away(address):
    with ThreadPoolExecutor(1) as pool:
        host = pool.submit(gather, address, (0,), 2)
        time.sleep(0.5)
        for words in (b"GET / HTTP/1.1\r\n\r\n", b"\xff\x00", b"jaxep x y"):
            with socket.create_connection(("127.0.0.1", int(address.split(":")[1]))) as stranger:
                stranger.sendall(words)
                assert stranger.recv(10) == b""
        assert gather(address, (1,), 2) == [None]
    assert host.result() == [None]


def test_a_host_that_is_no_meeting_is_not_trusted():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            for _ in range(2):
                guest, _ = server.accept()
                guest.sendall(b"\x00\x01 not a meeting")
                guest.close()

        threading.Thread(target=answer, daemon=True).start()
        (said,) = gather(f"127.0.0.1:{server.getsockname()[1]}", (1,), 2, seconds=0.8)
    assert "process 0 was not met there" in said


@pytest.mark.parametrize("number", [0, 1])
def test_a_signal_ends_the_wait(number, address):
    began = time.monotonic()
    with pytest.raises(Interrupted, match="had not met"):
        meet(address, number, 2, stop=lambda: time.monotonic() > began + 0.3)
    assert time.monotonic() - began < 10


def test_a_port_that_is_none_is_told():
    with pytest.raises(PeerError, match="cannot listen there"):
        meet("localhost:99999", 0, 2)
