"""Requests of all kinds, one behind the other on a connection, cut anywhere and at any time: each has the answer that
it has alone, in their order, and nothing ends that should not."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import httptools
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.server.connections.played import Play, answer_of

from bebr.server.connections.connection import LINGER_SECONDS

BODIES = [b"plain", b"held", b"together", b"held together", b"large", b"odd", b"fails"]
PATHS = [b"/search", b"/app", b"/app/held", b"/unread", b"/unread/held", b"/refused", b"/livez"]
ANSWER = re.compile(rb"HTTP/1\.1 (\d+) [^\r]*\r\n(?:[^\r]+\r\n)*?content-length: (\d+)\r\n(?:[^\r]+\r\n)*\r\n")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
MAX_IDLE_SECONDS = 50.0


@dataclass(frozen=True)
class Asked:
    """One request, and what has to come of it."""

    sent: bytes
    status: int
    answer: bytes | None
    """The body; None: any."""
    closes: bool = False
    """Whether nothing behind it is answered."""


def search(body: bytes, size: int = 16) -> Asked:
    """All of one size have one head."""
    return post(b"/search", body.ljust(size))


def post(path: bytes, body: bytes, more: bytes = b"", version: bytes = b"1.1", chunk: int = 0) -> Asked:
    if chunk:
        pieces = [body[i : i + chunk] for i in range(0, len(body), chunk)]
        sent = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nx-trailer: a\r\n\r\n"
        more += b"transfer-encoding: chunked\r\n"
    else:
        sent, more = body, more + b"content-length: %d\r\n" % len(body)
    closes = b"close" in more or version == b"1.0"
    sent = b"POST %b HTTP/%b\r\nhost: a\r\n%b\r\n" % (path, version, more) + sent
    if path.startswith(b"/refused"):
        return Asked(sent, 429, None, closes)
    if body.startswith(b"fails") and path == b"/search":
        return Asked(sent, 200, b'"failed"', closes)
    return Asked(sent, 200, answer_of(b"POST", path, b"" if path.startswith(b"/unread") else body), closes)


def get(path: bytes) -> Asked:
    status = 429 if path.startswith(b"/refused") else 200
    return Asked(
        b"GET %b HTTP/1.1\r\nhost: a\r\n\r\n" % path, status, None if status > 200 else answer_of(b"GET", path, b"")
    )


WRONG = Asked(b"GET /app HTTP/1.1\r\nno colon\r\n\r\n", 400, None, closes=True)
WRONG_BODY = Asked(b"POST /app HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400, None, closes=True)
EXPECT, CLOSE = b"expect: 100-continue\r\n", b"connection: close\r\n"

asked = st.one_of(
    st.sampled_from(BODIES).map(search),
    st.sampled_from(BODIES).map(search),
    st.sampled_from(PATHS).map(get),
    st.builds(
        post,
        st.sampled_from(PATHS),
        st.sampled_from([0, 6, 3000, 70_000]).map(lambda size: b"b" * size),
        st.sampled_from([b"", b"", EXPECT]),
        chunk=st.sampled_from([0, 0, 5, 1000]),
    ),
)
last = st.one_of(
    st.sampled_from([WRONG, WRONG_BODY]),
    st.builds(post, st.sampled_from(PATHS), st.just(b"the end"), st.just(CLOSE)),
    st.builds(post, st.sampled_from(PATHS), st.just(b"the end"), version=st.just(b"1.0")),
)


class Pipelines(RuleBasedStateMachine):
    """What is sent is drawn, and when the service does its part."""

    def __init__(self) -> None:
        super().__init__()
        self.play = Play()
        self.asked: list[Asked] = []
        self.unsent = b""
        self.ends: list[int] = []
        """Where each request ends in all that is sent."""
        self.sent = 0
        self.answered = 0
        self.read = 0
        """Bytes of the answers that were compared."""
        self.idle = self.slack = 0.0
        """Seconds that the connection rested; that the caller took over a request for which the service waited."""

    @rule(one=asked)
    def ask(self, one: Asked) -> None:
        self.asked.append(one)
        self.unsent += one.sent
        self.ends.append(self.sent + len(self.unsent))

    @precondition(lambda self: not self._closing)
    @rule(one=last)
    def ask_last(self, one: Asked) -> None:
        self.ask(one)

    @precondition(lambda self: self._can_send)
    @rule(size=st.one_of(st.integers(1, 60), st.sampled_from([200, 2048, 65_536])))
    def send(self, size: int) -> None:
        part, self.unsent = self.unsent[:size], self.unsent[size:]
        self.sent += len(part)
        self.idle = 0.0
        if self.sent in self.ends:
            self.slack = 0.0
        self.play.send(part)

    @precondition(lambda self: self._can_send)
    @rule(more=st.sampled_from([0, 0, 1, 30]))
    def send_one_request(self, more: int) -> None:
        self.send(next(end for end in self.ends if end > self.sent) - self.sent + more)

    @rule(count=st.integers(1, 3))
    def turn(self, count: int) -> None:
        self.play.turn(count)

    @rule()
    def release(self) -> None:
        self.play.release()

    @rule()
    def crowd(self) -> None:
        self.play.crowd()

    @precondition(lambda self: self._owes)
    @rule(seconds=st.sampled_from([0.1, 9.9, 10.0, 100.0]))
    def wait_for_the_service(self, seconds: float) -> None:
        self.play.wait(seconds)

    @precondition(lambda self: not self._owes)
    @rule(seconds=st.sampled_from([0.1, 4.0]))
    def wait_for_the_caller(self, seconds: float) -> None:
        at_rest = self.sent in (0, *self.ends)
        if at_rest and self.sent and self.idle + seconds < MAX_IDLE_SECONDS:
            self.idle += seconds
        elif not at_rest and self.slack + seconds < 5:
            self.slack += seconds
        else:
            return
        self.play.wait(seconds)

    @invariant()
    def every_answer_is_right(self) -> None:
        assert not self.play.failures
        written = bytes(self.play.transport.written[self.read :])
        while written:
            while written.startswith(CONTINUE):
                written = written.removeprefix(CONTINUE)
            if not written:
                break
            head = ANSWER.match(written)
            assert head is not None, written[:200]
            one, size = self.asked[self.answered], int(head[2])
            body, written = written[head.end() : head.end() + size], written[head.end() + size :]
            assert int(head[1]) == one.status, (one, written)
            assert one.answer in (None, body)
            assert self.answered == 0 or not self.asked[self.answered - 1].closes
            self.answered += 1
            self.idle = 0.0
        self.read = len(self.play.transport.written)
        assert not self.play.transport.ended or self._over

    def teardown(self) -> None:
        try:
            self._finish()
        finally:
            self.play.close()

    def _finish(self) -> None:
        """Everything that was asked is sent and answered, without any time passing."""
        while not self._over:
            before = self.sent, self.answered
            if self._can_send:
                self.send(65_536)
            self.play.turn(10)
            for _ in range(len(self.play.held)):
                self.play.release()
                self.play.turn(10)
            self.every_answer_is_right()
            if before == (self.sent, self.answered):
                break
        assert self._over or self.answered == len(self.asked), "it hangs"
        while self._over and self._can_send:
            self.send(65_536)
            self.play.turn(6)
        assert self.play.lane.requests == 0
        self.play.wait(LINGER_SECONDS)
        assert self.play.transport.ended == self._over
        if self.asked and not self._over:
            self.play.wait(61)
            self.play.wait(61)
            assert self.play.transport.ended, "a connection that rests is closed"

    @property
    def _closing(self) -> bool:
        return any(one.closes for one in self.asked)

    @property
    def _over(self) -> bool:
        """Whether the last request that is answered has its answer."""
        return any(one.closes for one in self.asked[: self.answered])

    @property
    def _can_send(self) -> bool:
        return bool(self.unsent) and self.play.transport.reads and not self.play.transport.ended

    @property
    def _owes(self) -> bool:
        if self._over:
            return False
        return sum(end <= self.sent for end in self.ends) > self.answered or bool(
            self.unsent and not self.play.transport.reads
        )


class TestPipelines(Pipelines.TestCase):  # type: ignore[misc]
    settings = settings(
        max_examples=100,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture
def play() -> Iterator[Play]:
    play = Play()
    yield play
    play.close()


SEARCH, HELD = search(b"plain"), search(b"held")
TOO_LATE = b"HTTP/1.1 408 "


def answers(play: Play) -> list[tuple[int, bytes]]:
    """Status and body of each answer so far."""
    written, found = bytes(play.transport.written), []
    while head := ANSWER.match(written):
        end = head.end() + int(head[2])
        found.append((int(head[1]), written[head.end() : end]))
        written = written[end:]
    assert not written
    return found


def expected(*some: Asked) -> list[tuple[int, bytes | None]]:
    return [(one.status, one.answer) for one in some]


def test_what_comes_while_a_request_that_waited_is_refused_is_read_on(play: Play) -> None:
    refused = get(b"/refused")
    play.send(HELD.sent + refused.sent)
    play.turn(6)
    play.send(SEARCH.sent[:20])  # the app had begun to read
    play.release()
    while play.lane.requests:
        play.turn()
    play.send(SEARCH.sent[20:40])
    play.turn(6)
    assert play.transport.reads
    play.send(SEARCH.sent[40:])
    play.turn(6)
    assert [status for status, _ in answers(play)] == [200, 429, 200]


@pytest.mark.parametrize("cut", [1, 30, len(SEARCH.sent) - 1])
def test_the_time_that_the_service_took_is_not_the_callers(play: Play, cut: int) -> None:
    play.send(HELD.sent + SEARCH.sent[:cut])
    play.wait(9.9)
    play.release()
    play.turn(6)
    play.wait(0.2)
    play.send(SEARCH.sent[cut:])
    play.turn(6)
    assert answers(play) == expected(HELD, SEARCH)


@pytest.mark.parametrize("cut", [1, 30, len(SEARCH.sent) - 1])
def test_what_came_while_the_loop_stood_still_has_come_in_time(play: Play, cut: int) -> None:
    play.send(SEARCH.sent[:cut])
    play.loop.now += 3600
    play.turn(2)  # timers
    play.send(SEARCH.sent[cut:])
    play.turn(6)
    assert answers(play) == expected(SEARCH)
    play.loop.now += 3600
    play.turn(2)
    play.send(SEARCH.sent)
    play.turn(6)
    assert answers(play) == expected(SEARCH, SEARCH)


def test_a_head_and_a_body_that_do_not_come_are_cut_off() -> None:
    for cut in (0, 1, 30, len(SEARCH.sent) - 1):
        play = Play()
        if cut:
            play.send(SEARCH.sent[:cut])
        play.wait(9.9)
        assert not play.transport.written and not play.transport.ended
        play.wait(0.1)
        assert play.transport.written.startswith(TOO_LATE) if cut else play.transport.ended
        play.wait(LINGER_SECONDS)
        assert play.transport.ended
        play.close()


def test_a_body_that_waits_for_the_service_is_not_cut_off(play: Play) -> None:
    large = post(b"/app", b"b" * 200_000)
    play.send(HELD.sent + large.sent[:50_000])
    play.wait(100)
    play.release()
    play.turn(6)
    play.wait(9)
    play.send(large.sent[50_000:])
    play.turn(6)
    assert answers(play) == expected(HELD, large)


def test_a_body_that_ends_wrong_ends_the_connection_once(play: Play) -> None:
    play.send(HELD.sent + WRONG_BODY.sent)
    play.wait(10)
    play.wait(10)
    play.release()
    play.turn(6)
    assert [status for status, _ in answers(play)] == [200, 400] and not play.failures


@pytest.mark.parametrize("body", [b"held", b"held together", b"large held"])
@pytest.mark.parametrize("crowded", [False, True])
def test_a_repeated_request_is_answered_before_the_service_stops(play: Play, body: bytes, crowded: bool) -> None:
    play.send(SEARCH.sent)
    play.turn(6)
    if crowded:
        play.crowd()
    play.send(search(body).sent)
    play.turn(6)
    assert play.repeated == 2 and len(play.held) == 1
    play.protocol.shutdown()
    play.release()
    play.turn(6)
    assert answers(play) == expected(SEARCH, search(body)) and play.transport.ended
    assert b"connection: close" in play.transport.written and play.lane.requests == 0


@pytest.mark.parametrize("path", [b"/unread", b"/refused", b"/unread/broken"])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_who_still_sends_can_read_the_last_answer(play: Play, path: bytes, version: bytes) -> None:
    """To close with bytes unread would take the answer away from the caller."""
    last = post(path, b"b" * 200_000, CLOSE, version=version)
    play.send(last.sent[:1000])
    play.turn(6)
    assert len(play.transport.written) > 90 and play.transport.half_closed and not play.transport.ended
    while not play.transport.ended:
        play.send(last.sent[1000:])
        play.turn(6)
    assert path == b"/unread/broken" or len(answers(play)) == 1


def test_the_last_answer_waits_for_no_body_that_does_not_come(play: Play) -> None:
    play.send(post(b"/unread", b"b" * 200_000, CLOSE).sent[:1000])
    play.wait(10)
    assert play.transport.ended and not play.failures


def test_nothing_behind_the_last_request_is_done(play: Play) -> None:
    last = post(b"/app", b"", b"connection: keep-alive\r\n", version=b"1.0")
    play.send(last.sent + HELD.sent)
    play.turn(6)
    assert answers(play) == expected(last) and play.transport.ended and not play.held


def test_a_fault_of_the_service_is_told(play: Play) -> None:
    with pytest.raises(httptools.HttpParserCallbackError):
        play.send(get(b"/fault").sent)


def test_a_connection_with_nothing_but_line_ends_behind_its_requests_ends_as_others(play: Play) -> None:
    play.send(HELD.sent + get(b"/app").sent)
    play.turn(6)
    play.send(b"\r\n")
    play.release()
    play.turn(6)
    play.wait(61)
    assert len(answers(play)) == 2 and play.transport.ended
