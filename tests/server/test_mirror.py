"""A fleet serves from its mirror, with what it pulled."""

from pathlib import Path

import numpy as np
import pytest

from tests.mirroring.mirrored import make
from tests.server.serving import serving
from tierloom.mirroring.pulling import pull
from tierloom.stores.local import LocalStore


@pytest.mark.slow
def test_a_mirror_of_one_tier_without_vectors_is_served(tmp_path: Path) -> None:
    store, mirror = LocalStore(tmp_path / "store"), tmp_path / "mirror"
    make(store)
    pull(store, mirror, "prod", tiers=["8"], vectors=False)
    query = np.random.default_rng(5).standard_normal(32).tolist()
    with serving(LocalStore(mirror)) as server:
        answer = server.search(vector=query, top=3)
        assert (answer["tier"], answer["reranked"], len(answer["hits"])) == ("8", False, 3)
        assert [tier["name"] for tier in server.client.get("/v1/version").json()["tiers"]] == ["8"]
        refused = server.client.post("/v1/search", json={"vector": query, "rerank": True})
        assert refused.status_code == 422, refused.text
        assert "without the full vectors" in refused.json()["error"]["message"]
