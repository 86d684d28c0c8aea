"""A TorchServe that several modules share; those that harm one have their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lavise_service.archive import WorkerConfig, write_archive
from lavise_service.torchserve import TorchServe


@pytest.fixture(scope="session")
def shared_torchserve(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TorchServe]:
    model_store = tmp_path_factory.mktemp("store")
    write_archive(tiny_bundle, model_store, config=WorkerConfig(threads=1))
    with TorchServe(model_store) as running:
        yield running
