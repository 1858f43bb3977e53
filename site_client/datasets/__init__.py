"""Where clips come from: a reader per source, one line each."""

from shared.registry import Registry
from site_client.datasets.raw import Source

SOURCES: Registry[Source] = Registry(
    "dataset source",
    {
        "dicom": "site_client.datasets.dicom:SOURCE",
        "images": "site_client.datasets.images:SOURCE",
        "video": "site_client.datasets.video:SOURCE",
        "nifti": "site_client.datasets.nifti:SOURCE",
        "mhd": "site_client.datasets.mhd:SOURCE",
        "cropped-images": "site_client.datasets.cropped:IMAGES",
        "cropped-video": "site_client.datasets.cropped:VIDEO",
        "cropped-nifti": "site_client.datasets.cropped:NIFTI",
        "cropped-mhd": "site_client.datasets.cropped:MHD",
    },
)
