"""Pictures that were drawn stand in datasets of their own, and pictures of patients in others."""

from shared.echo.origin import Origin
from shared.errors import Code, EchoFedError
from site_client.datasets.raw import RawHeader
from site_client.store import SiteStore


def expect_same_origin(store: SiteStore, dataset: str, origin: Origin) -> None:
    """Refuse to make a dataset of drawn pictures one of others, or the other way round.

    Raises:
        EchoFedError: ORIGIN_UNFIT.
    """
    if dataset not in store.datasets():
        return
    found = store.manifest(dataset).origin
    if found != origin and "synthetic" in {found, origin}:
        raise EchoFedError(
            Code.ORIGIN_UNFIT,
            f"dataset {dataset} is of origin {found}, not {origin}",
            "give the new one another name",
        )


def expect_told(header: RawHeader, *, is_synthetic: bool) -> None:
    """Refuse a drawn picture where none belongs, and one that does not say so where all do.

    Raises:
        EchoFedError: ORIGIN_UNFIT.
    """
    if header.is_synthetic and not is_synthetic:
        raise EchoFedError(
            Code.ORIGIN_UNFIT,
            "a file says that it is synthetic",
            "ingest it into a dataset of its own, with --origin synthetic",
        )
    if is_synthetic and not header.is_synthetic:
        raise EchoFedError(
            Code.ORIGIN_UNFIT,
            "a file does not say that it is synthetic",
            "leave it out; only DICOM says so, by Synthetic Data (0008,001C)",
        )
