"""The mailbox: replies that wait for a question, and questions that wait for a reply."""

from concurrent.futures import Future

from taskstream.results.replies import Mailbox


def test_mailbox_forgets_the_oldest_first_and_says_since_when() -> None:
    """Memory is bounded by number and weight, and what is lost is known."""
    mailbox = Mailbox(most=2, most_bytes=10)
    for second, task_id in enumerate("abc", start=1):
        mailbox.deliver(task_id, b"x", 1, float(second))
    assert mailbox.forgotten == 1.0
    assert mailbox.expect("a", Future()) is None
    assert mailbox.expect("b", Future()) == b"x"
    mailbox.deliver("d", b"y" * 10, 10, 4.0)
    assert mailbox.forgotten == 3.0
    assert mailbox.expect("d", Future()) == b"y" * 10


def test_mailbox_keeps_the_latest_reply_of_a_task() -> None:
    """A redriven task has a second final state: that one counts from then on."""
    mailbox = Mailbox()
    mailbox.deliver("a", b"first", 5, 1.0)
    mailbox.deliver("a", b"second", 6, 2.0)
    assert mailbox.expect("a", Future()) == b"second"
