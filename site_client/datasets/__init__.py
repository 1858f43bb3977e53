"""Where clips come from: a reader per source, one line each."""

from shared.registry import Registry
from site_client.datasets.raw import Source

SOURCES: Registry[Source] = Registry(
    "dataset source",
    {
        "dicom": "site_client.datasets.dicom:SOURCE",
        "images": "site_client.datasets.images:SOURCE",
    },
)
