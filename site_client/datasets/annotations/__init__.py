"""Label maps as files keep them: a reader per kind, one line each."""

from shared.registry import Registry
from site_client.datasets.beside import LabelReader

LABEL_READERS: Registry[LabelReader] = Registry(
    "kind of label maps",
    {
        "npz": "site_client.datasets.annotations.npz:read",
        "png": "site_client.datasets.annotations.png:read",
        "nifti": "site_client.datasets.annotations.nifti:read",
        "mhd": "site_client.datasets.annotations.mhd:read",
    },
)
