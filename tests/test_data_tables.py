"""Tables: names, order and fingerprint; the air-quality file, whole or not; the embedded set."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from lib import data  # noqa: E402
from lib.core import InputError  # noqa: E402
from lib.data import tables  # noqa: E402
from lib.data.tables import AIR_COLUMNS, parse_air_quality, table  # noqa: E402

HEAD = ",".join(["Date", "Time", *AIR_COLUMNS])
ROW = "10.03.04,18:00:00,1360,1046,1056,1692,1268,13.6,48.9,0.7578"


def test_columns_by_name():
    found = table("toy", "Toy", ["a", "b", "c"], np.arange(6.0).reshape(2, 3))
    assert found.column("b").tolist() == [1, 4]
    assert found.others("b").tolist() == [[0, 2], [3, 5]]
    assert found.values.dtype == torch.float32
    with pytest.raises(InputError, match="no column 'd'; there are: a, b, c"):
        found.column("d")


def test_the_fingerprint_tells_values_names_and_order():
    values = np.arange(6.0).reshape(2, 3)
    prints = {
        table("toy", "Toy", ["a", "b", "c"], values).fingerprint,
        table("toy", "Toy", ["a", "c", "b"], values).fingerprint,
        table("toy", "Toy", ["a", "b", "c"], values[::-1]).fingerprint,
        table("other", "Toy", ["a", "b", "c"], values).fingerprint,
    }
    assert len(prints) == 4
    assert table("toy", "Other", ["a", "b", "c"], values.astype(np.float32)).fingerprint in prints


@pytest.mark.parametrize("values", [np.zeros((2, 2)), np.full((2, 3), np.nan), np.zeros(3)])
def test_values_that_do_not_fit_are_refused(values):
    with pytest.raises(InputError, match="finite numbers in n rows"):
        table("toy", "Toy", ["a", "b", "c"], values)


def test_hours_are_read_in_their_order():
    found = parse_air_quality(f"{HEAD}\n{ROW}\n{ROW.replace('18:00', '19:00').replace('1360', '1292')}\n")
    assert found.column("hour").tolist() == [18, 19] and found.column("CO").tolist() == [1360, 1292]
    assert found.columns == (*AIR_COLUMNS.values(), "hour")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column Time"),
        (f"{HEAD}\n", "has no rows"),
        (f"{HEAD}\n{ROW}\n{ROW.replace('1046', 'x')}\n", "line 3: could not convert"),
        (f"{HEAD}\n10.03.04,18:00:00,1360\n", "line 2"),
        (HEAD.replace("RH", "RW") + f"\n{ROW}\n", "no column RH"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(text, message):
    with pytest.raises(InputError, match=message):
        parse_air_quality(text)


def test_a_missing_or_altered_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"air_quality\.csv"):
        data.load("air_quality", root=tmp_path)
    (tmp_path / tables.AIR_QUALITY.name).write_text(HEAD)
    assert data.status("air_quality", tmp_path).state == "damaged"
    with pytest.raises(InputError, match="truncated"):
        data.load("air_quality", root=tmp_path)


def test_the_real_file_is_whole(posts_data):
    if data.status("air_quality", posts_data).state == "missing":
        pytest.skip("no air_quality.csv in POSTS_DATA")
    found = data.load("air_quality", root=posts_data)
    assert found.values.shape == (8991, 9) and found.fingerprint == "7a9e784c16991c28"


def test_diabetes_is_embedded():
    found = data.load("diabetes")
    assert found.values.shape == (442, 11) and found.columns[-1] == "progression"
    assert found.column("age").min() > 10, "on the original scale"
