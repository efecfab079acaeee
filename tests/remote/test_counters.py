"""No transition is lost or taken twice, whichever side is ended and started again."""

from __future__ import annotations

import time

import numpy as np
import pytest

from lit_rl.remote import link as link_module
from lit_rl.remote.link import Refused
from lit_rl.remote.receiver import MAX_REJECTED
from lit_rl.remote.wire import Frame
from tests.remote.toys import STEPS, ByHand, Learner, Player, chunk, closing, eventually


def numbers(count: int, first: int = 1) -> list[float]:
    return [float(i) for i in range(first, first + count)]


def test_what_an_actor_plays_arrives_once_and_in_order():
    learner = Learner()
    player = Player(learner.port)
    with closing(player, learner):
        learner.publish()
        learner.take(200)
        assert learner.rewards() == numbers(200)
        ends = [int(i) for rollout in learner.taken for i in rollout["final_index"]]
        assert len(ends) == 200 // 7
        returns = [r for rollout in learner.taken for r in rollout["episodes"]["episode_return"].tolist()]
        assert returns[:2] == [sum(range(1, 8)), sum(range(8, 15))]


def test_an_actor_never_plays_further_than_the_learner_allows():
    learner = Learner(window=2)
    player = Player(learner.port)
    with closing(player, learner):
        learner.publish()
        learner.take(5 * STEPS)
        time.sleep(0.3)
        assert player.link.produced_steps <= (5 + 2) * STEPS
        assert player.link.dropped_steps == 0


def test_the_warm_up_is_played_at_random_and_nothing_after_it():
    learner = Learner()
    player = Player(learner.port)
    with closing(player, learner):
        learner.publish(policy=9.0)  # its actions are almost always 2
        learner.take(40, warmup=20)
        assert learner.random == [True] * 5 + [False] * 5
        assert learner.receiver.random_steps == 20
        actions = np.concatenate([rollout["action"].flatten() for rollout in learner.taken])
        assert abs(actions[:20].mean()) < 1.0
        assert (np.abs(actions[:20]) <= 2.0).all()


def test_two_actors_are_told_apart():
    learner = Learner()
    players = [Player(learner.port, name) for name in "ab"]
    with closing(*players, learner):
        learner.publish()
        eventually(lambda: len(learner.server.live()) == 2)
        learner.take(120)
        by_mark: dict[float, list[float]] = {}
        for rollout in learner.taken:
            by_mark.setdefault(float(rollout["obs"][0, 0, 0]), []).extend(
                rollout["reward"].flatten().tolist()
            )
        assert len(by_mark) == 2
        for rewards in by_mark.values():
            assert rewards == numbers(len(rewards))
        assert sum(map(len, by_mark.values())) == learner.receiver.inserted_steps


def test_an_actor_that_died_begins_anew_and_nothing_of_it_is_lost():
    """Its numbers begin at 1 again, for which a peer ignored 5,000 of the next 6,000 transitions."""
    learner = Learner()
    with closing(learner):
        learner.publish()
        first = ByHand(learner.port)
        with closing(first):
            learner.allow(first)
            for _ in range(4):
                first.send()
            learner.take(4 * STEPS)
        second = ByHand(learner.port)
        with closing(second):
            learner.allow(second)
            for _ in range(3):
                second.send()
            learner.take(7 * STEPS)
        assert learner.rewards() == numbers(4 * STEPS) + numbers(3 * STEPS)
        assert learner.server.counts["duplicate_chunks"] == 0
        assert learner.receiver.missing_steps == 0


def test_an_actor_that_begins_anew_has_no_credit_of_the_one_before():
    learner = Learner()
    first = ByHand(learner.port)
    with closing(learner):
        learner.publish()
        with closing(first):
            learner.allow(first, 1_000 * STEPS)
            eventually(lambda: first.link.until >= 1_000)
        second = ByHand(learner.port)
        with closing(second):
            eventually(lambda: second.link.policy is not None)
            assert second.link.turn(0.2) is None


def test_a_learner_that_goes_on_from_an_older_checkpoint_gets_again_what_it_forgot():
    learner = Learner()
    actor = ByHand(learner.port)
    with closing(actor):
        with closing(learner):
            learner.publish()
            learner.allow(actor)
            for _ in range(3):
                actor.send()
            learner.take(3 * STEPS)
            state = learner.receiver.get_state()
            learner.allow(actor)
            for _ in range(5):
                actor.send()
            learner.take(8 * STEPS)  # taken, and lost with the process
            eventually(lambda: actor.link.acknowledged == 8)
        resumed = Learner(state, learner.port)
        with closing(resumed):
            resumed.publish()
            resumed.take(8 * STEPS)
            assert resumed.rewards() == numbers(5 * STEPS, 3 * STEPS + 1)
            actor.send()
            resumed.take(9 * STEPS)
            assert resumed.rewards()[-STEPS:] == numbers(STEPS, 8 * STEPS + 1)
            assert resumed.receiver.inserted_steps == 9 * STEPS
            assert resumed.receiver.missing_steps == 0


def test_chunks_that_wait_at_a_checkpoint_are_sent_again():
    learner = Learner()
    actor = ByHand(learner.port)
    with closing(actor):
        with closing(learner):
            learner.publish()
            learner.allow(actor)
            for _ in range(4):
                actor.send()
            eventually(lambda: learner.server.num_waiting == 4)
            learner.take(STEPS)
            state = learner.receiver.get_state()
            assert [known["received"] for known in state["known"].values()] == [1]
        resumed = Learner(state, learner.port)
        with closing(resumed):
            resumed.publish()
            resumed.take(4 * STEPS)
            assert resumed.rewards() == numbers(3 * STEPS, STEPS + 1)


def test_what_is_kept_no_longer_is_counted_as_missing():
    learner = Learner()
    actor = ByHand(learner.port, keep_bytes=1)
    with closing(actor):
        with closing(learner):
            learner.publish()
            state = learner.receiver.get_state()
            learner.allow(actor)
            for _ in range(3):
                actor.send()
            learner.take(3 * STEPS)
            eventually(lambda: actor.link.acknowledged == 3)
        resumed = Learner(state, learner.port)
        with closing(resumed):
            resumed.publish()
            eventually(lambda: len(resumed.server.live()) == 1)
            resumed.receiver.grant(1_000, 0)
            eventually(lambda: resumed.receiver.take(0.05) is None and resumed.receiver.missing_steps)
            assert resumed.receiver.missing_steps == actor.link.dropped_steps == 3 * STEPS
            actor.send()  # it goes on: numbers of chunks never stop it
            resumed.take(STEPS)
            assert resumed.rewards() == numbers(STEPS, 3 * STEPS + 1)


def test_a_robot_drops_the_oldest_and_both_sides_count_it():
    """The chunks after the gap were encoded before it was there, which ended the connection."""
    learner = Learner()
    actor = ByHand(learner.port, realtime=True, spool_bytes=4_000)
    with closing(actor):
        with closing(learner):
            learner.publish()
            learner.allow(actor)
            actor.send()
            learner.take(STEPS)
            state = learner.receiver.get_state()
        for _ in range(30):  # a robot plays on without its learner
            actor.send()
        dropped = actor.link.dropped_steps
        assert 0 < dropped < 30 * STEPS
        resumed = Learner(state, learner.port)
        with closing(resumed):
            resumed.publish()
            resumed.take(31 * STEPS - dropped)
            assert resumed.receiver.missing_steps == dropped
            rewards = resumed.rewards()
            assert rewards[-1] == 31 * STEPS
            assert rewards == numbers(len(rewards), 31 * STEPS - len(rewards) + 1)
            assert actor.link.dropped_steps == dropped
            assert resumed.server.counts["rejected_frames"] == 0


def test_an_actor_that_waits_for_its_learner_drops_nothing():
    learner = Learner(window=1_000)
    actor = ByHand(learner.port, spool_bytes=1)
    with closing(actor, learner):
        learner.publish()
        learner.allow(actor)
        for _ in range(50):
            actor.send()
        learner.take(50 * STEPS)
        assert learner.rewards() == numbers(50 * STEPS)
        assert actor.link.dropped_steps == 0


def test_a_new_run_gets_nothing_that_was_played_for_the_one_before():
    learner = Learner(run="one")
    actor = ByHand(learner.port)
    with closing(actor):
        with closing(learner):
            learner.publish(7)
            learner.allow(actor)
            actor.send()
            learner.take(STEPS)
            late = actor.turn()
            actor.send(late)
        other = Learner(run="two", port=learner.port)
        with closing(other):
            other.publish(0)
            eventually(lambda: len(other.server.live()) == 1)
            actor.send(late)  # it was being played when the run changed
            other.receiver.grant(1_000, 0)
            turn = actor.turn()
            assert turn.run == "two"
            assert turn.policy.version == 0
            actor.send(turn)
            other.take(STEPS)
            assert other.rewards() == numbers(STEPS, 3 * STEPS + 1)
            assert other.taken[0]["policy_version"] == 0


def test_the_newer_of_two_actors_of_one_name_stays_and_nothing_is_taken_twice():
    learner = Learner()
    first = ByHand(learner.port)
    second = ByHand(learner.port, start=False)
    with closing(first, second, learner):
        learner.publish()
        learner.allow(first)
        first.send()
        learner.take(STEPS)
        second.link.start()
        eventually(lambda: first.link._failure)
        with pytest.raises(Refused, match="another process joined as 'a'"):
            first.link.turn(1.0)
        third = ByHand(learner.port, start=False)
        third.link._incarnation = first.link._incarnation  # its host was cut off, and it comes back
        with closing(third):
            third.link._spool, third.link.next_seq, third.count = first.link._spool, 2, STEPS
            third.link.start()
            learner.allow(third)
            third.send()
            learner.take(2 * STEPS)
        assert learner.rewards() == numbers(2 * STEPS)


def test_chunks_in_flight_at_a_takeover_are_not_taken():
    learner = Learner()
    actor = ByHand(learner.port)
    with closing(actor, learner):
        learner.publish()
        eventually(lambda: len(learner.server.live()) == 1)
        (session,) = learner.server._sessions.values()
        with learner.server._lock:
            learner.server._end(session, "another one")
        header = {"seq": 1, "version": 0, "num_envs": 1, "at_random": False}
        learner.server._receive(session, Frame("chunk", header, chunk()))
        assert learner.server.num_waiting == 0


def test_an_actor_waits_for_its_learner_and_the_other_way_round():
    early = Learner()
    port = early.port
    early.close()
    player = Player(port)
    time.sleep(0.3)
    learner = Learner(port=port)
    with closing(player, learner):
        learner.publish()
        learner.take(8)
        assert learner.rewards() == numbers(8)


def test_an_actor_ends_when_its_learner_has_ended():
    learner = Learner()
    player = Player(learner.port)
    with closing(player):
        learner.publish()
        learner.take(8)
        learner.close(is_over=True)
        player.end()
        assert player.error is None
        assert player.link.learner_has_ended


def test_an_actor_waits_for_a_learner_that_was_interrupted():
    learner = Learner()
    player = Player(learner.port)
    with closing(player):
        learner.publish()
        learner.take(8)
        state = learner.receiver.get_state()
        learner.close(is_over=False)
        resumed = Learner(state, learner.port)
        with closing(resumed):
            resumed.publish()
            resumed.take(40)
            assert resumed.rewards() == numbers(32, 9)


def test_transitions_that_are_not_finite_are_left_out_and_counted():
    learner = Learner(window=100)
    actor = ByHand(learner.port)
    with closing(actor, learner):
        learner.publish()
        learner.allow(actor)
        actor.send()
        actor.send(reward=np.full((STEPS, 1), np.nan, np.float32))
        actor.send()
        learner.take(2 * STEPS)
        assert learner.rewards() == numbers(STEPS) + numbers(STEPS, 2 * STEPS + 1)
        assert learner.receiver.rejected["chunks"] == 1


def test_ten_unusable_chunks_in_a_row_stop_training():
    learner = Learner(window=100)
    actor = ByHand(learner.port)
    with closing(actor, learner):
        learner.publish()
        learner.allow(actor)
        obs = np.full((STEPS + 1, 1, 2), np.inf, np.float32)
        for _ in range(MAX_REJECTED):
            actor.send(obs=obs)
        expected = (
            "the last 10 chunks of transitions were unusable, the last one of actor a: obs is inf at step 0"
        )
        with pytest.raises(FloatingPointError, match=expected):
            learner.take(STEPS)


def test_the_episode_of_an_actor_ends_where_the_next_chunk_does_not_follow():
    """n-step windows must not run from one actor into the other."""
    learner = Learner(window=100)
    first, second = ByHand(learner.port, "a"), ByHand(learner.port, "b")
    with closing(first, second, learner):
        learner.publish()
        for actor in (first, second):
            learner.allow(actor)
        follows = []
        for actor in (first, first, second, first):
            actor.send()
            taken = None
            while taken is None:
                taken = learner.receiver.take(1.0)
            follows.append(taken[2])
        assert follows == [False, True, False, False]


def test_a_new_start_does_not_bring_back_the_pause_of_a_broken_connection(monkeypatch: pytest.MonkeyPatch):
    """The pause between two tries grows to seconds, and is short again after a connection."""
    monkeypatch.setattr(link_module, "_LONGEST_PAUSE_S", 0.2)
    learner = Learner()
    player = Player(learner.port)
    with closing(player):
        for _ in range(3):
            learner.publish()
            before = learner.receiver.inserted_steps
            learner.take(before + 8)
            state = learner.receiver.get_state()
            learner.close()
            learner = Learner(state, learner.port)
        learner.close()
        assert player.link.connections >= 3
