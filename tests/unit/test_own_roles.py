"""A crew's own station roles live in folders that an environment variable lists."""

import pytest

from stationmaster import catalogue

ROLE = """\
summary: Ours.
description: Ours.
options: {type: object, additionalProperties: false}
units: [{command: [/bin/true]}]
"""


def test_roles_of_listed_folders_join_the_shipped_ones(tmp_path, monkeypatch):
    for folder, name in (("a", "mixer"), ("b", "lights")):
        (tmp_path / folder / name).mkdir(parents=True)
        (tmp_path / folder / name / "role.yml").write_text(ROLE)
    shipped = set(catalogue.load().roles)
    monkeypatch.setenv("STATIONMASTER_ROLES", f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    assert set(catalogue.load().roles) == shipped | {"mixer", "lights"}


def test_a_role_of_ours_cannot_take_a_name_that_is_there(tmp_path, monkeypatch):
    for folder in ("a", "b"):
        (tmp_path / folder / "mixer").mkdir(parents=True)
        (tmp_path / folder / "mixer" / "role.yml").write_text(ROLE)
    monkeypatch.setenv("STATIONMASTER_ROLES", f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    with pytest.raises(catalogue.CatalogueError, match="mixer"):
        catalogue.load()
