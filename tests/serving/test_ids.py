"""An id is known to nobody but who was answered, and says where the log has its row."""

from __future__ import annotations

import os
import re
import time

from serving import ids


def test_ids_are_of_their_form_rise_and_differ() -> None:
    made = [ids.new_id() for _ in range(3 * ids.SECRETS_AT_ONCE)]
    assert all(re.fullmatch("[0-9a-f]{12}-[0-9a-f]{16}-[0-9a-f]{32}", one) for one in made)
    assert all(ids.FORM.fullmatch(one) for one in made)
    places = [ids.place_of(one) for one in made]
    assert {prefix for prefix, _ in places} == {ids.PREFIX}
    assert sorted(places) == places
    assert len({one.split("-")[2] for one in made}) == len(made)


def test_nothing_of_a_secret_repeats() -> None:
    """Of 128 bits each half of a byte takes every value, whatever came before."""
    secrets = [ids.next_secret() for _ in range(2000)]
    for place in range(32):
        assert len({secret[place] for secret in secrets}) == 16
    assert len({secret[:8] for secret in secrets}) == len({secret[-8:] for secret in secrets}) == 2000


def test_a_forked_process_draws_secrets_of_its_own() -> None:
    ids.next_secret()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, ids.next_secret())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(read, 100)
    assert len(theirs) == 32
    assert theirs not in [ids.next_secret() for _ in range(2 * ids.SECRETS_AT_ONCE)]


def test_the_age_of_an_id() -> None:
    assert -0.5 < ids.age_s(ids.new_id()) < 60
    assert ids.age_s(f"{ids.PREFIX}-{time.time_ns() - 10**10:x}-{0:032x}") >= 10
    assert ids.age_s("0123456789ab-1a") > 10**9
    assert ids.FORM.fullmatch("0123456789ab-1a")
