"""The horizon is reserved ahead, and a commit is repeated until it is acknowledged."""

from secrets import token_hex
from typing import Any, cast

from taskstream.broker.group import Assigned
from taskstream.broker.offset_codec import decode, encode
from taskstream.broker.offsets import Held, Progress
from taskstream.broker.records import Record
from taskstream.consumer.parent.lanes import Entry
from taskstream.consumer.parent.partitions import REMEMBERED, RESERVE, Partition
from taskstream.core.envelope import Place

PLACE = Place("shop.tasks.high", 0)


def begin(committed: int | None = 100, metadata: str = "", high: int = 200) -> Partition:
    """A partition just assigned."""
    assigned = Assigned(PLACE, committed, metadata, 0, high)
    return Partition.begin(assigned, epoch=1, intake=cast("Any", None), fence=1)


def entry(offset: int) -> Entry:
    """A delivered task."""
    record = Record(PLACE.topic, PLACE.partition, offset, None, b"", (), 0.0)
    return Entry(offset, record, PLACE, 1, "high", "charge", lookup=False)


def test_nothing_is_given_out_before_the_first_commit() -> None:
    """A record waits until a commit that reserves its offset is acknowledged."""
    partition = begin()
    assert partition.tracker.deliver(100)
    assert not partition.within_horizon(entry(100))
    commit = partition.commit(full=False)
    assert commit is not None
    progress = decode(*commit)
    assert progress is not None
    assert progress.horizon == 101 + RESERVE
    assert [one.record.offset for one in partition.acknowledge()] == [100]
    assert partition.within_horizon(entry(100 + RESERVE))
    assert not partition.within_horizon(entry(101 + RESERVE))


def test_a_refused_commit_reserves_nothing() -> None:
    """Only an acknowledgement moves the horizon; a refusal lets the next commit say the same."""
    partition = begin()
    first = partition.commit(full=False)
    assert partition.commit(full=True) is None, "an answer is still due"
    partition.refuse()
    assert partition.reserved == 0
    assert partition.commit(full=False) == first


def test_a_foreign_commit_means_all_may_have_been_started() -> None:
    """Without our metadata everything up to the end at the assignment is looked up."""
    assert begin(metadata="").inherited == 200
    assert begin(metadata="somebody else's").inherited == 200


def test_a_clean_end_reserves_nothing() -> None:
    """The last commit's horizon is what was given out, so the next owner looks nothing else up."""
    partition = begin(metadata=encode(Progress.at(100)))
    partition.commit(full=False)
    list(partition.acknowledge())
    for offset in (100, 101, 102):
        partition.tracker.deliver(offset)
    partition.given_to = 102
    partition.tracker.finish(100)
    offset, metadata = partition.last_commit()
    heir = begin(committed=offset, metadata=metadata)
    assert (offset, heir.inherited) == (101, 102)
    assert heir.tracker.unfinished == (101, 102)


def test_an_unchanged_partition_is_committed_again_when_asked() -> None:
    """A repeated full commit overwrites what a former owner may have put there."""
    partition = begin()
    first = partition.commit(full=False)
    list(partition.acknowledge())
    assert partition.commit(full=False) is None
    assert partition.commit(full=True) == first


def test_what_is_owed_does_not_keep_it_from_being_read() -> None:
    """A partition taken over with a full window of unfinished records is read on: they come first."""
    progress = Progress(100, 2000, tuple(range(100, 1100)), 2000)
    partition = begin(committed=100, metadata=encode(progress), high=3000)
    assert not partition.full
    for offset in range(100, 900):
        assert partition.tracker.deliver(offset)
    assert partition.full


def test_what_an_earlier_owner_may_have_started_stays_to_be_looked_up() -> None:
    """An owner that gives the partition up early passes the horizon on that it inherited."""
    first = begin(committed=100, metadata=encode(Progress(100, 100, (), 9000)), high=9500)
    assert first.inherited == 9000
    for commit in (first.last_commit(), first.commit(full=False)):
        assert commit is not None
        offset, metadata = commit
        assert begin(committed=offset, metadata=metadata).inherited == 9000


def test_what_is_held_is_passed_on_until_it_is_finished() -> None:
    """Each commit names what somebody else runs, through any number of owners; the end removes it."""
    held = Held(100, "a-worker", 7)
    first = begin(metadata=encode(Progress.at(100)))
    for offset in (100, 101):
        first.tracker.deliver(offset)
    second = begin(100, first.last_commit([held])[1])
    assert second.held == {100: held}
    for commit in (second.commit(full=False), second.last_commit()):
        assert commit is not None
        progress = decode(*commit)
        assert progress is not None
        assert progress.held == (held,)
    list(second.acknowledge())
    second.tracker.deliver(100)
    second.tracker.finish(100)
    third = begin(*second.last_commit())
    assert third.held == {}


def test_a_commit_goes_out_even_where_its_holders_do_not_fit() -> None:
    """Two copies of one task are better than a partition that nobody can commit."""
    partition = begin(metadata=encode(Progress.at(100)))
    for offset in range(100, 800):
        partition.tracker.deliver(offset)
    holders = [Held(offset, token_hex(30), offset) for offset in range(100, 800)]
    progress = decode(*partition.last_commit(holders))
    assert progress is not None
    assert progress.held == ()
    assert len(progress.unfinished) == 700


def test_an_id_that_comes_twice_is_known() -> None:
    """A copy that a producer has sent again is looked up; what came long before is forgotten."""
    partition = begin()
    for _ in range(2):
        assert not partition.has_met(b""), "foreign records have none"
    assert not partition.has_met(b"a")
    assert partition.has_met(b"a")
    for number in range(REMEMBERED):
        assert not partition.has_met(str(number).encode())
    assert not partition.has_met(b"a")


def test_what_came_after_a_death_is_no_suspect() -> None:
    """An owner that died may have run what lay within its horizon, if it was there at all."""
    died = begin(committed=100, metadata=encode(Progress(100, 100, (), 4100)), high=150)
    assert (died.inherited, died.suspected) == (4100, 150)
    stopped = begin(metadata=encode(Progress(100, 100, (), 150, in_order=True)))
    assert (stopped.inherited, stopped.suspected) == (150, 100)
