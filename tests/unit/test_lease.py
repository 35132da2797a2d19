"""Tests the lease of a worker with a clock of its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamav.cluster.lease import LEASE_S, MARGIN_S, Lease, boot_ns

S = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now_ns = 100 * S

    def __call__(self) -> int:
        return self.now_ns


def test_a_lease_begins_with_an_order_and_ends_by_itself() -> None:
    """Without an order a worker may not publish; with one it may, until the length has passed since the report that the order answers."""
    clock = Clock()
    lease = Lease(1, clock)
    assert not lease.holds()
    assert not lease.over
    lease.renew(clock.now_ns, 6.0)
    clock.now_ns += 6 * S - 1
    assert lease.holds()
    clock.now_ns += 1
    assert not lease.holds()
    assert lease.over


def test_an_order_that_was_under_way_during_a_freeze_gives_nothing() -> None:
    """A worker that was frozen finds an old order in its socket: it answers a report from before the freeze, so the lease stays over."""
    clock = Clock()
    lease = Lease(1, clock)
    lease.renew(clock.now_ns, 6.0)
    reported_ns = clock.now_ns
    clock.now_ns += 30 * S  # frozen
    lease.renew(reported_ns, 6.0)
    assert not lease.holds()
    lease.renew(clock.now_ns, 6.0)  # once over it stays over: the sources run elsewhere
    assert not lease.holds()


@given(st.lists(st.tuples(st.integers(0, 5 * S), st.integers(0, 40 * S)), max_size=12))
def test_no_worker_publishes_after_the_controller_gave_its_sources_away(steps: list[tuple[int, int]]) -> None:
    """Whatever the delays of reports and orders: the lease is over when the controller has waited its length and a margin since it heard.

    Each step is the delay of a report and of the order that answers it; both machines have the same true time here.
    """
    clock = Clock()
    lease, heard_ns = Lease(1, clock), clock.now_ns
    for report_ns, order_ns in steps:
        anchor_ns = clock.now_ns
        clock.now_ns += report_ns
        if clock.now_ns - heard_ns > (LEASE_S + MARGIN_S) * S:
            assert not lease.holds()
            return
        heard_ns = clock.now_ns
        clock.now_ns += order_ns
        lease.renew(anchor_ns, LEASE_S)
        if clock.now_ns - heard_ns > (LEASE_S + MARGIN_S) * S:
            assert not lease.holds()
            return


def test_the_clock_of_a_lease_never_goes_back() -> None:
    """The clock counts on, also in a frozen process."""
    assert boot_ns() <= boot_ns()
